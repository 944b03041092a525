package optimise

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/fstree"
	"gobuild/internal/store/nar"
)

// A place is a store directory with nothing but links in it.
type place struct {
	t     *testing.T
	dir   string
	warns []string
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{t: t, dir: t.TempDir()}
	t.Cleanup(func() { _, _ = fstree.RemoveAll(p.dir) })
	return p
}

func (p *place) path(name string) string { return filepath.Join(p.dir, name) }

func (p *place) options() Options {
	return Options{Links: p.path(".links"), Warn: func(text string) { p.warns = append(p.warns, text) }}
}

// make makes a canonical tree: names ending in "/" are directories, those with
// "@" links, those with "*" executable.
func (p *place) make(name string, files map[string]string) string {
	p.t.Helper()
	top := p.path(name)
	must(p.t, os.Mkdir(top, 0o755))
	for file, text := range files {
		path := filepath.Join(top, strings.Trim(file, "@*"))
		must(p.t, os.MkdirAll(filepath.Dir(path), 0o755))
		switch {
		case strings.HasSuffix(file, "@"):
			must(p.t, os.Symlink(text, path))
		case strings.HasSuffix(file, "*"):
			must(p.t, os.WriteFile(path, []byte(text), 0o555))
		default:
			must(p.t, os.WriteFile(path, []byte(text), 0o444))
		}
	}
	p.seal(top)
	return top
}

// seal makes directories read-only and all times one.
func (p *place) seal(top string) {
	p.t.Helper()
	var dirs []string
	must(p.t, filepath.WalkDir(top, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return errors.Join(err, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{{Sec: 1}, {Sec: 1}}, unix.AT_SYMLINK_NOFOLLOW))
	}))
	for _, d := range dirs {
		must(p.t, os.Chmod(d, 0o555))
	}
}

func (p *place) optimise(name string) Stats {
	p.t.Helper()
	before := archive(p.t, p.path(name))
	stats, err := Tree(p.path(name), p.options())
	must(p.t, err)
	if !bytes.Equal(before, archive(p.t, p.path(name))) {
		p.t.Errorf("'%s' has other contents now", name)
	}
	p.checkMetadata(name)
	return stats
}

// checkMetadata holds a tree to what a canonical one is.
func (p *place) checkMetadata(name string) {
	p.t.Helper()
	must(p.t, filepath.WalkDir(p.path(name), func(path string, _ os.DirEntry, err error) error {
		st := p.stat(strings.TrimPrefix(path, p.dir+"/"))
		mode := st.Mode & 07777
		if st.Mtim != (unix.Timespec{Sec: 1}) || st.Mode&unix.S_IFMT != unix.S_IFLNK && mode != 0o444 && mode != 0o555 {
			p.t.Errorf("'%s' has mode %o and time %v", path, mode, st.Mtim)
		}
		return err
	}))
	left, _ := filepath.Glob(p.path(".tmp-link-*"))
	if len(left) > 0 {
		p.t.Errorf("left behind: %v", left)
	}
}

func (p *place) stat(name string) (st unix.Stat_t) {
	p.t.Helper()
	must(p.t, unix.Lstat(p.path(name), &st))
	return st
}

// same tells whether names share an inode.
func (p *place) same(a, b string) bool { return p.stat(a).Ino == p.stat(b).Ino }

func (p *place) links() []string {
	p.t.Helper()
	entries, err := os.ReadDir(p.path(".links"))
	must(p.t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func archive(t testing.TB, path string) []byte {
	t.Helper()
	var b bytes.Buffer
	must(t, nar.Dump(&b, path))
	return b.Bytes()
}

// linkName is what the store calls the contents of a file.
func linkName(t *testing.T, path string) string {
	t.Helper()
	sum := sha256.Sum256(archive(t, path))
	return digest.EncodeNix32(sum[:])
}

func TestEqualFilesBecomeOne(t *testing.T) {
	p := newPlace(t)
	p.make("a", map[string]string{"one": "hello", "sub/two": "hello", "run*": "hello", "other": "world", "l@": "one", "sub/l@": "one", "empty": "", "sub/none": ""})
	stats := p.optimise("a")
	if want := (Stats{Files: 3, Bytes: 8, Blocks: stats.Blocks}); stats != want {
		t.Errorf("saved %+v, want %+v", stats, want)
	}
	for _, pair := range [][2]string{{"a/one", "a/sub/two"}, {"a/l", "a/sub/l"}, {"a/empty", "a/sub/none"}} {
		if !p.same(pair[0], pair[1]) {
			t.Errorf("'%s' and '%s' are two files", pair[0], pair[1])
		}
	}
	for _, pair := range [][2]string{{"a/one", "a/run"}, {"a/one", "a/other"}} {
		if p.same(pair[0], pair[1]) {
			t.Errorf("'%s' and '%s' are one file", pair[0], pair[1])
		}
	}
	p.make("b", map[string]string{"x": "world", "run*": "hello", "new": "only here"})
	if stats := p.optimise("b"); stats.Files != 2 || stats.Bytes != 10 {
		t.Errorf("saved %+v", stats)
	}
	if !p.same("a/other", "b/x") || !p.same("a/run", "b/run") {
		t.Error("files of two trees are not shared")
	}
	want := []string{}
	for _, file := range []string{"a/one", "a/run", "a/other", "a/l", "a/empty", "b/new"} {
		want = append(want, linkName(t, p.path(file)))
	}
	slices.Sort(want)
	if got := p.links(); !slices.Equal(got, want) {
		t.Errorf("the links are %v, want %v", got, want)
	}
	if again := p.optimise("a"); again != (Stats{}) || len(p.warns) > 0 {
		t.Errorf("the second time saved %+v; %q", again, p.warns)
	}
}

func TestTopIsOneFile(t *testing.T) {
	p := newPlace(t)
	for _, name := range []string{"x", "y"} {
		must(t, os.WriteFile(p.path(name), []byte("text"), 0o444))
		p.seal(p.path(name))
		must(t, os.Symlink("text", p.path(name+".link")), unix.Lutimes(p.path(name+".link"), []unix.Timeval{{Sec: 1}, {Sec: 1}}))
		must(t, os.Chmod(p.path(name), 0o444))
		p.optimise(name)
		p.optimise(name + ".link")
	}
	if !p.same("x", "y") || !p.same("x.link", "y.link") || p.stat("x").Nlink != 3 {
		t.Error("not shared")
	}
}

// TestOrdinaryUser works in directories that their owner must unlock.
func TestOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("all of these tests run as an ordinary user")
		return
	}
	p := newPlace(t)
	p.make("a", map[string]string{"d/x": "1", "d/e/y": "1", "z": "1"})
	must(t, filepath.WalkDir(filepath.Dir(p.dir), func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, 1234, 1234))
	}))
	program, err := os.ReadFile(os.Args[0]) // which lies where others cannot go
	must(t, err, os.WriteFile(p.path("program"), program, 0o755))
	cmd := exec.Command(p.path("program"))
	cmd.Env = append(os.Environ(), "OPTIMISE="+p.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1234, Gid: 1234}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p.checkMetadata("a")
	if !p.same("a/d/x", "a/z") || !p.same("a/d/e/y", "a/z") {
		t.Error("not shared")
	}
}

func TestSuspicious(t *testing.T) {
	p := newPlace(t)
	p.make("a", map[string]string{"good": "1", "bad": "1"})
	must(t, os.Chmod(p.path("a/bad"), 0o644))
	_, err := Tree(p.path("a"), p.options())
	must(t, err)
	if p.same("a/good", "a/bad") || !slices.Equal(p.warns, []string{"skipping suspicious writable file '" + p.path("a/bad") + "'"}) {
		t.Errorf("linked %v; %q", p.same("a/good", "a/bad"), p.warns)
	}
}

// TestDamagedLinks puts into a link's place what it must not be taken for.
func TestDamagedLinks(t *testing.T) {
	for _, c := range []struct {
		name   string
		verify bool // only found if asked for
		damage func(link string) error
	}{
		{"another size", false, func(link string) error { return os.WriteFile(link, []byte("longer text"), 0o444) }},
		{"another mode", false, func(link string) error { return os.WriteFile(link, []byte("text"), 0o555) }},
		{"a symbolic link", false, func(link string) error { return os.Symlink("text", link) }},
		{"a pipe", false, func(link string) error { return unix.Mkfifo(link, 0o444) }},
		{"other contents", true, func(link string) error { return os.WriteFile(link, []byte("tixt"), 0o444) }},
	} {
		for _, verify := range []bool{false, true} {
			p := newPlace(t)
			p.make("a", map[string]string{"x": "text"})
			link := p.path(".links/" + linkName(t, p.path("a/x")))
			must(t, os.Mkdir(p.path(".links"), 0o755), c.damage(link))
			damaged := p.stat(strings.TrimPrefix(link, p.dir+"/"))
			o := p.options()
			o.Verify = verify
			_, err := Tree(p.path("a"), o)
			must(t, err)
			trusted := p.stat("a/x").Ino == damaged.Ino
			if want := c.verify && !verify; trusted != want {
				t.Errorf("%s (verify %v): trusted %v", c.name, verify, trusted)
			}
			if !trusted && (len(p.warns) != 1 || p.warns[0] != "removing corrupted link '"+link+"'" || !p.same("a/x", strings.TrimPrefix(link, p.dir+"/"))) {
				t.Errorf("%s: %q", c.name, p.warns)
			}
		}
	}
	p := newPlace(t)
	p.make("a", map[string]string{"x": "text"})
	must(t, os.MkdirAll(p.path(".links/"+linkName(t, p.path("a/x"))), 0o755))
	if stats := p.optimise("a"); stats != (Stats{}) || len(p.warns) != 2 {
		t.Errorf("a directory among the links: %+v, %q", stats, p.warns)
	}
}

// TestTrouble fails system calls: the tree must stay whole, and no error come
// of it.
func TestTrouble(t *testing.T) {
	for _, c := range []struct {
		errno unix.Errno
		when  string // "link": making an entry; "name": making the temporary name
		warns string
	}{
		{unix.EPERM, "link", "cannot link 'TREE/x' with its equals: operation not permitted"}, // no hard links here
		{unix.EOPNOTSUPP, "link", "cannot link 'TREE/x' with its equals: operation not supported"},
		{unix.ENOSPC, "link", "cannot link 'TREE/x' with its equals: no space left on device"},
		{unix.ENOSPC, "name", "cannot link 'TREE/y' with its equals: no space left on device"},
		{unix.EMLINK, "name", "'TREE/y' has maximum number of links|'TREE/z' has maximum number of links"},
	} {
		p := newPlace(t)
		p.make("a", map[string]string{"x": "text", "y": "text", "z": "text"})
		o := p.options()
		o.Name = "TREE"
		l := &linker{opt: &o}
		l.link = func(oldDir int, oldName string, newDir int, newName string, flags int) error {
			if (c.when == "name") == strings.HasPrefix(newName, ".tmp-link-") {
				return c.errno
			}
			return unix.Linkat(oldDir, oldName, newDir, newName, flags)
		}
		stats, err := l.run(p.path("a"))
		if err != nil || stats != (Stats{}) || strings.Join(p.warns, "|") != c.warns {
			t.Errorf("%v: %v, %+v, %q", c.errno, err, stats, p.warns)
		}
		p.checkMetadata("a")
	}
}

// TestRaces plays a collector, and another program that links the same files.
func TestRaces(t *testing.T) {
	p := newPlace(t)
	p.make("a", map[string]string{"x": "text", "y": "text"})
	p.make("b", map[string]string{"x": "text"})
	o := p.options()
	l := &linker{opt: &o}
	turn := 0
	l.link = func(oldDir int, oldName string, newDir int, newName string, flags int) error {
		turn++
		switch turn {
		case 1: // somebody makes the same entry first
			must(t, os.Link(p.path("b/x"), p.path(".links/"+newName)))
		case 2: // the entry vanishes before it is used
			must(t, os.Remove(p.path(".links/"+oldName)))
		}
		return unix.Linkat(oldDir, oldName, newDir, newName, flags)
	}
	stats, err := l.run(p.path("a"))
	must(t, err)
	if !p.same("a/x", "a/y") || p.same("a/x", "b/x") || stats.Files != 1 || len(p.warns) > 0 {
		t.Errorf("%+v, %q", stats, p.warns)
	}
	p.checkMetadata("a")
}

// TestNoHardLinksHere has the links on another file system, to which there are
// none either.
func TestNoHardLinksHere(t *testing.T) {
	var here, there unix.Stat_t
	p := newPlace(t)
	other, err := os.MkdirTemp("/dev/shm", "optimise")
	if err == nil {
		t.Cleanup(func() { os.RemoveAll(other) })
		must(t, unix.Stat(p.dir, &here), unix.Stat(other, &there))
	}
	if err != nil || here.Dev == there.Dev {
		t.Skip("there is no second file system")
	}
	p.make("a", map[string]string{"x": "1", "y": "1"})
	o := p.options()
	o.Links = other
	stats, err := Tree(p.path("a"), o)
	if err != nil || stats != (Stats{}) || len(p.warns) != 1 || !strings.Contains(p.warns[0], "cross-device") {
		t.Errorf("%v, %+v, %q", err, stats, p.warns)
	}
}

// TestUnreachableLinks cannot even open the directory.
func TestUnreachableLinks(t *testing.T) {
	p := newPlace(t)
	p.make("a", map[string]string{"x": "1"})
	for _, links := range []string{"no/such/.links", "a/x"} {
		o := p.options()
		o.Links = p.path(links)
		if _, err := Tree(p.path("a"), o); err != nil {
			t.Error(err)
		}
	}
	if len(p.warns) != 2 {
		t.Errorf("%q", p.warns)
	}
}

// TestSums believes hashes only of the files that they are of.
func TestSums(t *testing.T) {
	p := newPlace(t)
	p.make("a", map[string]string{"x": "1", "y": "2"})
	sum := func(file string) Sum {
		return Sum{Inode: p.stat(file).Ino, Hash: sha256.Sum256(archive(t, p.path(file)))}
	}
	right, wrong := []Sum{sum("a/x"), sum("a/y")}, []Sum{sum("a/y"), sum("a/x")}
	for _, sums := range [][]Sum{wrong, right[:1], right} {
		o := p.options()
		o.Sums = sums
		_, err := Tree(p.path("a"), o)
		must(t, err)
		for _, file := range []string{"a/x", "a/y"} {
			if !p.same(file, ".links/"+linkName(t, p.path(file))) {
				t.Errorf("'%s' is linked under another hash", file)
			}
		}
		must(t, os.RemoveAll(p.path(".links")))
	}
	// What was computed on the way must be what is used: a hash of nothing.
	o := p.options()
	o.Sums = []Sum{{Inode: p.stat("a/x").Ino}, right[1]}
	_, err := Tree(p.path("a"), o)
	must(t, err)
	if !p.same("a/x", ".links/"+strings.Repeat("0", 52)) {
		t.Error("the file was read again")
	}
}

// TestManyLinks meets the real bound, where the file system has one that is
// near.
func TestManyLinks(t *testing.T) {
	p := newPlace(t)
	p.make("a", map[string]string{"x": "text"})
	p.optimise("a")
	must(t, os.Mkdir(p.path("many"), 0o755))
	for i := 0; ; i++ {
		err := os.Link(p.path("a/x"), p.path(fmt.Sprintf("many/%d", i)))
		if errors.Is(err, unix.EMLINK) {
			break
		}
		must(t, err)
		if i == 70000 {
			t.Skip("the file system has no bound to reach")
		}
	}
	p.make("b", map[string]string{"x": "text", "y": "text", "z": "other"})
	if stats := p.optimise("b"); stats != (Stats{}) || len(p.warns) != 2 || p.same("b/x", "a/x") {
		t.Errorf("%+v, %q", stats, p.warns)
	}
	if p.stat("b/z").Nlink != 2 {
		t.Error("the files after it are not linked")
	}
}

// TestMain is also the program of an ordinary user.
func TestMain(m *testing.M) {
	dir := os.Getenv("OPTIMISE")
	if dir == "" {
		os.Exit(m.Run())
	}
	var warns []string
	stats, err := Tree(filepath.Join(dir, "a"), Options{Links: filepath.Join(dir, ".links"), Warn: func(text string) { warns = append(warns, text) }})
	if err != nil || len(warns) > 0 || stats.Files != 2 {
		fmt.Println(stats, err, warns)
		os.Exit(1)
	}
	os.Exit(0)
}
