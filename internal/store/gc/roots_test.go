package gc

import (
	"bytes"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/pathlock"
	"gobuild/internal/store/storepath"
)

func (f *fixture) roots() (lines []string) {
	f.t.Helper()
	roots, err := FindRoots(f.store)
	f.must(err)
	for _, r := range roots {
		if !strings.HasPrefix(r.From, "/proc/") {
			lines = append(lines, r.From+" -> "+string(r.Path))
		}
	}
	slices.Sort(lines)
	return lines
}

func TestFindRootsLikeNix(t *testing.T) {
	f := newFixture(t)
	path := map[string]storepath.Path{}
	for _, name := range []string{"direct", "auto", "file", "profile", "below", "held", "loose", "hidden"} {
		path[name] = f.addText(name, name)
	}
	gone, err := f.config.Dir.FromBase(strings.Repeat("0", 32) + "-gone")
	f.must(err)
	roots, profiles := f.top+"/var/gcroots", f.top+"/var/profiles"
	link := func(target, name string) { f.must(os.Symlink(target, name)) }
	f.must(os.MkdirAll(roots+"/per-user/x/y", 0o755), os.MkdirAll(f.top+"/elsewhere", 0o755), os.MkdirAll(profiles+"/per-user/x", 0o755))
	link(string(path["direct"]), roots+"/per-user/x/y/direct")
	link(string(path["below"])+"/bin/../lib", roots+"/below")
	f.must(os.WriteFile(roots+"/"+path["file"].Base(), nil, 0o644), unix.Mkfifo(roots+"/pipe", 0o600))
	link("p-1-link", profiles+"/per-user/x/p")
	link(string(path["profile"]), profiles+"/per-user/x/p-1-link")
	link(string(gone), roots+"/gone")
	link(string(path["hidden"]), f.top+"/elsewhere/hidden")
	link(f.top+"/elsewhere", roots+"/directory") // is not entered
	link(f.top+"/nowhere", roots+"/auto/stale")
	link("loop", roots+"/loop")
	link(string(f.config.Dir)+"/.links/x", roots+"/odd")
	f.lines(f.nix("nix-store", "--realise", string(path["auto"]), "--add-root", f.top+"/result", "--indirect"))
	f.must(f.open().AddTempRoots(path["held"], gone))

	got := f.roots()
	if _, err := os.Lstat(roots + "/auto/stale"); err != nil {
		t.Error("asking for roots removed one")
	}
	var want []string
	out, err := f.nixAlone("nix-store", "--gc", "--print-roots").Output()
	f.must(err)
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "/proc/") {
			want = append(want, line)
		}
	}
	slices.Sort(want)
	if !slices.Equal(got, want) || len(want) < 7 {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	f.wantAlive(f.top+"/result", path["auto"], path["loose"], path["auto"])
	f.wantDeleted(path["loose"])
}

func TestRootsOfTheRealStoreDirectory(t *testing.T) {
	f := newFixture(t)
	f.config.RealDir = f.top + "/elsewhere/store"
	f.store = f.open()
	p := f.addText("p", "p")
	f.must(os.Symlink(f.config.RealDir+"/"+p.Base(), f.top+"/var/gcroots/real"))
	f.wantAlive(f.top+"/var/gcroots/real", p, p)
}

// Roots that cannot be reached must not stop anybody, however hard they try.
func TestRootsBeyondReach(t *testing.T) {
	f := newFixture(t)
	dir := f.top + "/var/gcroots"
	name := strings.Repeat("d", 250)
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	f.must(err)
	for range 20 {
		f.must(unix.Mkdirat(fd, name, 0o755))
		next, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		f.must(err, unix.Close(fd))
		fd = next
	}
	f.must(unix.Close(fd), os.Symlink(strings.Repeat("x/", 2000)+"x", dir+"/long"))
	p := f.addText("p", "p")
	f.wantDeleted(p)
	if out, err := exec.Command("rm", "-rf", dir+"/"+name).CombinedOutput(); err != nil {
		t.Errorf("%s", out)
	}
}

func TestTemporaryRoots(t *testing.T) {
	f := newFixture(t)
	a := f.addText("a", "a")
	b := f.addText("b", "b", a)
	held, err := f.open().NewTempRoots("1234")
	f.must(err, held.Add(b))
	f.wantAlive("{temp:1234}", b, a)
	f.wantAlive("{temp:1234}", b, a, b)
	f.must(held.Close())

	// what a dead process left keeps nothing, and is removed
	file := f.top + "/var/temproots/4321"
	f.must(os.WriteFile(file, []byte(string(b)+"\x00"), 0o600))
	if got := f.roots(); len(got) != 0 {
		t.Errorf("roots of a dead process: %v", got)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error("asking for roots removed a file")
	}
	f.wantDeleted(b)
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the file of a dead process stays: %v", err)
	}
}

func TestTemporaryRootsInTheMaking(t *testing.T) {
	f := newFixture(t)
	a, b := f.addText("a", "a"), f.addText("b", "b")
	long := strings.Repeat("/long", 5000)
	fresh := newFinder(f.store)
	f.must(fresh.readTemporary(strings.NewReader("junk\x00\x00"+long+"\x00"+string(a)+"\x00"+string(b)), "x"))
	if got := fresh.sorted(); !slices.Equal(got, []Root{{a, "x"}}) {
		t.Errorf("got %v", got)
	}
}

// Nix before 2.5 shares the lock of its file, and takes it for itself to add
// to it: it must wait until the collection is over.
func TestTemporaryRootsOfOldOwners(t *testing.T) {
	f := newFixture(t)
	a := f.addText("a", "a")
	name := f.top + "/var/temproots/77"
	f.must(os.WriteFile(name, []byte(string(a)+"\x00"), 0o600))
	owner, ok, err := pathlock.LockFile(name, pathlock.Shared, pathlock.Try)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	defer owner.Close()
	f.wantAlive("{temp:77}", a, a)
	c, err := start(f.store, Options{}, []storepath.Path{a})
	f.must(err, c.finder.find())
	if ok, err := pathlock.LockFD(owner.FD(), pathlock.Exclusive, pathlock.Try); ok || err != nil {
		t.Errorf("the owner could add roots during a collection: %v", err)
	}
	c.close()
	if ok, err := pathlock.LockFD(owner.FD(), pathlock.Exclusive, pathlock.Try); !ok || err != nil {
		t.Errorf("the owner cannot add roots after a collection: %v", err)
	}
}

func TestRuntimeRoots(t *testing.T) {
	f := newFixture(t)
	src := f.top + "/src/tree"
	f.must(os.MkdirAll(src+"/sub", 0o755), os.WriteFile(src+"/file", []byte("x"), 0o644))
	add := func(name string) storepath.Path {
		out := f.lines(f.nix("nix-store", "--add", name))
		return storepath.Path(out[0])
	}
	tree := add(src)
	text := f.addText("text", "text")
	env := f.addText("env", "env")
	open, err := os.Open(string(text))
	f.must(err)
	defer open.Close()

	c := exec.Command("cat")
	c.Dir = string(tree) + "/sub"
	c.Env = append(os.Environ(), "FLAGS=-I"+string(env)+"/include:/x")
	stdin, err := c.StdinPipe()
	f.must(err)
	c.ExtraFiles = []*os.File{open}
	f.must(c.Start(), open.Close())
	proc := "/proc/" + strconv.Itoa(c.Process.Pid)
	f.wantAlive(proc+"/cwd", tree, tree)
	f.wantAlive(proc+"/fd/3", text, text)
	f.wantAlive(proc+"/environ", env, env)
	f.must(stdin.Close(), c.Wait())
	f.wantDeleted(tree, text, env)
}

// A process tree may be anything: here it is made of ordinary files.
func TestRuntimeFindsProgramsAndLibraries(t *testing.T) {
	f := newFixture(t)
	exe, lib, kernel := f.addText("exe", "1"), f.addText("lib", "2"), f.addText("kernel", "3")
	proc := filepath.Join(f.top, "proc")
	f.must(os.MkdirAll(proc+"/12/fd", 0o755), os.MkdirAll(proc+"/12x", 0o755), os.MkdirAll(proc+"/sys/kernel", 0o755),
		os.Symlink(string(exe)+"/bin/x (deleted)", proc+"/12/exe"), os.Symlink(string(exe), proc+"/12x/exe"),
		os.WriteFile(proc+"/12/maps", []byte("7f-7f r-xp 0 0 0  "+string(lib)+"/lib/x.so\n"), 0o644),
		os.WriteFile(proc+"/sys/kernel/modprobe", []byte(string(kernel)+"/bin/modprobe\n"), 0o644))
	find := newFinder(f.store)
	f.must(find.runtime(proc))
	want := []Root{{exe, proc + "/12/exe"}, {lib, proc + "/12/maps"}, {kernel, proc + "/sys/kernel/modprobe"}}
	slices.SortFunc(want, func(a, b Root) int { return strings.Compare(string(a.Path), string(b.Path)) })
	if got := find.sorted(); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func FuzzPathScan(f *testing.F) {
	const part = "0123456789abcdfghijklmnpqrsvwxyz"
	f.Add([]byte("/s/" + part + "-x /s/s/s/" + part))
	f.Add([]byte("/r/" + part[1:] + "e/s/" + part[:20]))
	f.Add([]byte(strings.Repeat("/", 60) + "real/" + part))
	f.Add([]byte("/s/s/" + part))
	f.Fuzz(func(t *testing.T, text []byte) {
		want := map[string]bool{}
		for i := range text {
			for _, dir := range []string{"/s/", "/real/"} {
				after, ok := strings.CutPrefix(string(text[i:min(len(text), i+50)]), dir)
				if ok && len(after) >= len(part) && strings.Trim(after[:len(part)], part) == "" {
					want[after[:len(part)]] = true
				}
			}
		}
		for name, in := range map[string]io.Reader{
			"whole": bytes.NewReader(text), "halves": iotest.HalfReader(bytes.NewReader(text)), "bytes": iotest.OneByteReader(bytes.NewReader(text)),
			"early end": iotest.DataErrReader(bytes.NewReader(text)),
		} {
			got := map[string]bool{}
			scan := newPathScan([]storepath.Dir{"/s", "/real"})
			scan.buf = scan.buf[:64] // so that every text reaches its end
			if err := scan.read(in, func(p string) error { got[p] = true; return nil }); err != nil {
				t.Fatal(err)
			}
			if !maps.Equal(got, want) {
				t.Errorf("%s: found %v; want %v", name, got, want)
			}
		}
	})
}
