package gc

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gobuild/internal/store"
	"gobuild/internal/store/storepath"
)

// A fixture is a store in a directory of its own, which Nix can use too.
type fixture struct {
	t      testing.TB
	top    string
	store  *store.Store
	config store.Config
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, top: top, config: store.Config{
		Dir: storepath.Dir(top + "/store"), StateDir: top + "/var", LogDir: top + "/log", WAL: true,
		Warn: func(line string) { t.Log("warning: " + line) },
	}}
	f.store = f.open()
	return f
}

// open opens the store another time, as another process would.
func (f *fixture) open() *store.Store {
	f.t.Helper()
	s, err := store.Open(f.config)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { s.Close() })
	return s
}

// nix is a command of the real Nix on this store.
func (f *fixture) nix(name string, args ...string) *exec.Cmd {
	f.t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		f.t.Skipf("skipped: %s is not installed", name)
	}
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), "NIX_STORE_DIR="+f.top+"/store", "NIX_STATE_DIR="+f.top+"/var", "NIX_LOG_DIR="+f.top+"/log",
		"NIX_CONF_DIR="+f.top+"/etc", "NIX_REMOTE=", "HOME="+f.top, "XDG_CACHE_HOME="+f.top,
		"NIX_CONFIG=build-users-group =\nsandbox = false\nsubstituters =\n")
	c.Dir = f.top
	return c
}

// nixAlone is a command of Nix that sees no other processes: those that
// happen to run here must not decide what it finds.
func (f *fixture) nixAlone(name string, args ...string) *exec.Cmd {
	f.t.Helper()
	if os.Geteuid() != 0 {
		f.t.Skip("skipped: needs root, to give Nix a process namespace of its own")
	}
	c := f.nix(name, args...)
	all := append([]string{"unshare", "--pid", "--fork", "--mount-proc"}, c.Args...)
	unshare, err := exec.LookPath(all[0])
	if err != nil {
		f.t.Skip("skipped: unshare is not installed")
	}
	c.Path, c.Args = unshare, all
	return c
}

// lines runs a command that must succeed.
func (f *fixture) lines(c *exec.Cmd) []string {
	f.t.Helper()
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		f.t.Fatalf("%v: %v\n%s", c.Args, err, &stderr)
	}
	return strings.Fields(string(out))
}

func (f *fixture) must(errs ...error) {
	f.t.Helper()
	if err := errors.Join(errs...); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) addText(name, text string, refs ...storepath.Path) storepath.Path {
	f.t.Helper()
	s := f.open() // closed at once, so that its temporary roots go
	p, err := s.AddText(name, []byte(text), refs)
	f.must(err, s.Close())
	return p
}

func (f *fixture) valid(p storepath.Path) bool {
	f.t.Helper()
	valid, err := f.store.IsValid(p)
	f.must(err)
	return valid
}

// names lists the store directory.
func (f *fixture) names() []string {
	f.t.Helper()
	entries, err := os.ReadDir(f.store.RealDir())
	f.must(err)
	var names []string
	for _, e := range entries {
		if e.Name() != ".links" {
			names = append(names, e.Name())
		}
	}
	return names
}

// wantAlive checks that a deletion fails because of a root.
func (f *fixture) wantAlive(from string, needs storepath.Path, paths ...storepath.Path) {
	f.t.Helper()
	before := f.names()
	deleted, freed, err := Delete(f.store, Options{}, paths...)
	var alive *AliveError
	if !errors.As(err, &alive) || alive.Root != (Root{needs, from}) || !slices.Contains(paths, alive.Path) {
		f.t.Errorf("deleting %v: %v; want it kept by %s of %s", paths, err, needs, from)
	}
	if len(deleted) != 0 || freed != 0 || !slices.Equal(f.names(), before) {
		f.t.Errorf("deleted %v, %d bytes; left %v", deleted, freed, f.names())
	}
}

func (f *fixture) wantDeleted(paths ...storepath.Path) (freed int64) {
	f.t.Helper()
	deleted, freed, err := Delete(f.store, Options{}, paths...)
	if err != nil {
		f.t.Fatal(err)
	}
	if !slices.Equal(slices.Sorted(slices.Values(deleted)), slices.Sorted(slices.Values(paths))) {
		f.t.Errorf("deleted %v; want %v", deleted, paths)
	}
	for _, p := range paths {
		if _, err := os.Lstat(f.store.RealPath(p)); !os.IsNotExist(err) || f.valid(p) {
			f.t.Errorf("%s is still there", p)
		}
	}
	return freed
}

func TestDeleteOrderAndUsers(t *testing.T) {
	f := newFixture(t)
	a := f.addText("a", strings.Repeat("a", 5000))
	b := f.addText("b", "b", a)
	c := f.addText("c", "c", b, a)
	for _, paths := range [][]storepath.Path{{a}, {b, a}} {
		deleted, _, err := Delete(f.store, Options{}, paths...)
		var inUse *store.InUseError
		if !errors.As(err, &inUse) || !slices.Contains(inUse.Referrers, c) && inUse.Path == b || len(deleted) != 0 {
			t.Errorf("deleting %v: deleted %v, %v", paths, deleted, err)
		}
	}
	deleted, freed, err := Delete(f.store, Options{}, a, b, c, a)
	if err != nil || !slices.Equal(deleted, []storepath.Path{c, b, a}) {
		t.Errorf("deleted %v, %v; want referrers first", deleted, err)
	}
	if freed < 8192 {
		t.Errorf("freed %d bytes", freed)
	}
	if names := f.names(); len(names) != 0 {
		t.Errorf("left in the store: %v", names)
	}
	if deleted, freed, err := Delete(f.store, Options{}, a); len(deleted) != 0 || freed != 0 || err != nil {
		t.Errorf("deleting nothing: %v, %d, %v", deleted, freed, err)
	}
}

func TestDeleteWhatIsNotValid(t *testing.T) {
	f := newFixture(t)
	p, err := f.config.Dir.FromBase(strings.Repeat("0", 32) + "-garbage")
	f.must(err)
	real := f.store.RealPath(p)
	f.must(os.MkdirAll(real+"/sub", 0o755), os.Chmod(real, 0o555), os.WriteFile(real+".lock", nil, 0o600))
	// a link to something that is not valid keeps nothing
	f.must(os.Symlink(string(p), f.top+"/var/gcroots/link"))
	f.wantDeleted(p)
	if names := f.names(); len(names) != 0 {
		t.Errorf("left in the store: %v", names)
	}
}

func TestDeleteWithoutATrash(t *testing.T) {
	f := newFixture(t)
	c, err := start(f.store, Options{}, nil)
	f.must(err)
	defer c.close()
	tree := f.top + "/store/x"
	f.must(os.Mkdir(tree, 0o555))
	f.must(c.discard(tree, "x"))
	if _, err := os.Lstat(tree); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
}

func TestDeleteReadOnly(t *testing.T) {
	f := newFixture(t)
	p := f.addText("a", "a")
	f.config.ReadOnly = true
	if _, _, err := Delete(f.open(), Options{}, p); !errors.Is(err, store.ErrReadOnly) {
		t.Error(err)
	}
	if roots, err := FindRoots(f.open()); err != nil {
		t.Errorf("%v, %v", roots, err)
	}
}

const expression = `
  let dep = derivation { name = "dep"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo dep > $out" ]; };
  in derivation { name = "top"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo ${dep} > $out" ]; }`

// build lets Nix build two derivations; the result is by name: top, dep,
// top.drv and dep.drv.
func (f *fixture) build() map[string]storepath.Path {
	f.t.Helper()
	f.lines(f.nix("nix-build", "--no-out-link", "-E", expression))
	all, err := f.store.AllValid()
	f.must(err)
	paths := map[string]storepath.Path{}
	for _, p := range all {
		paths[p.Name()] = p
	}
	// it leaves a link that leads nowhere
	links, err := filepath.Glob(f.top + "/var/gcroots/auto/*")
	f.must(err)
	for _, l := range links {
		f.must(os.Remove(l))
	}
	return paths
}

// What may be deleted is up to Nix.
func TestDeleteLikeNix(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct {
		root    string
		options Options
		names   string
	}{
		{"", Options{KeepDerivations: true}, "top"},
		{"", Options{KeepDerivations: true}, "dep"},
		{"", Options{KeepDerivations: true}, "top.drv"},
		{"", Options{}, "top.drv"},
		{"", Options{}, "dep.drv"},
		{"", Options{KeepDerivations: true}, "top top.drv"},
		{"", Options{KeepDerivations: true}, "top.drv top dep"},
		{"", Options{KeepOutputs: true}, "top"},
		{"", Options{KeepOutputs: true}, "top top.drv"},
		{"", Options{KeepOutputs: true}, "dep top dep.drv top.drv"},
		{"", Options{KeepOutputs: true, KeepDerivations: true}, "dep top dep.drv top.drv"},
		{"top", Options{}, "top.drv"},
		{"top", Options{}, "dep"},
		{"top", Options{}, "dep top"},
		{"top", Options{KeepDerivations: true}, "top.drv"},
		{"dep", Options{KeepDerivations: true}, "top"},
		{"dep", Options{}, "top top.drv dep.drv"},
		{"top.drv", Options{KeepOutputs: true}, "top"},
		{"top.drv", Options{}, "top dep"},
		{"dep.drv", Options{}, "top.drv dep.drv"},
	} {
		link := f.top + "/var/gcroots/link"
		paths := f.build()
		if c.root != "" {
			f.must(os.Symlink(string(paths[c.root]), link))
		}
		var doomed []storepath.Path
		args := []string{"--delete", "--option", "keep-outputs", nixBool(c.options.KeepOutputs), "--option", "keep-derivations", nixBool(c.options.KeepDerivations)}
		for _, name := range strings.Fields(c.names) {
			doomed = append(doomed, paths[name])
			args = append(args, string(paths[name]))
		}
		theirs := f.nixAlone("nix-store", args...).Run()
		want := f.names()
		f.build()
		before := f.names()
		deleted, _, err := Delete(f.store, c.options, doomed...)
		if (err == nil) != (theirs == nil) {
			t.Errorf("%+v: %v; Nix: %v", c, err, theirs)
		}
		switch got := f.names(); {
		case err == nil && (!slices.Equal(got, want) || len(deleted) != len(doomed)):
			t.Errorf("%+v: deleted %v, left %v; Nix left %v", c, deleted, got, want)
		case err != nil && !slices.Equal(got, before):
			t.Errorf("%+v: failed, but deleted %v", c, deleted)
		}
		if c.root != "" {
			f.must(os.Remove(link))
		}
	}
	f.lines(f.nix("nix-store", "--verify", "--check-contents"))
}

func nixBool(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

func TestDeleteFreesLinkedContents(t *testing.T) {
	f := newFixture(t)
	text := strings.Repeat("same", 5000)
	a, b := f.addText("a", text), f.addText("b", text)
	f.lines(f.nix("nix-store", "--optimise"))
	if links, err := os.ReadDir(f.top + "/store/.links"); err != nil || len(links) != 1 {
		t.Fatal(links, err)
	}
	if freed := f.wantDeleted(a); freed != 0 {
		t.Errorf("freed %d bytes of a file that has another name", freed)
	}
	if freed := f.wantDeleted(b); freed < int64(len(text)) {
		t.Errorf("freed only %d bytes", freed)
	}
	if links, err := os.ReadDir(f.top + "/store/.links"); err != nil || len(links) != 0 {
		t.Error(links, err)
	}
}
