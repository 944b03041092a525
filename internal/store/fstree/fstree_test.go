package fstree_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/fstree"
)

// scratch is a directory in memory where there is such a thing: deep trees
// take long to make on a disk.
func scratch(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "fstree")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if _, err := fstree.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// deep makes directories inside each other and a file in the last one.
func deep(t testing.TB, top string, levels int) {
	t.Helper()
	must(t, os.Mkdir(top, 0o755))
	fd, err := unix.Open(top, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	for range levels - 1 {
		must(t, unix.Mkdirat(fd, "d", 0o755))
		next, err := unix.Openat(fd, "d", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		must(t, err, unix.Close(fd))
		fd = next
	}
	file, err := unix.Openat(fd, "file", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	must(t, err, unix.Close(file), unix.Close(fd))
}

// recorder notes the walk's order.
type recorder struct{ lines []string }

func (r *recorder) Visit(n *fstree.Node) error {
	r.lines = append(r.lines, fmt.Sprintf("%o %s", n.Kind()>>12, n.Path()))
	return nil
}

func (r *recorder) Leave(n *fstree.Node) error {
	r.lines = append(r.lines, "leave "+n.Path())
	return nil
}

// counter counts the calls, and builds no paths, which deep down are long.
type counter int

func (c *counter) Visit(*fstree.Node) error { *c++; return nil }
func (c *counter) Leave(*fstree.Node) error { *c++; return nil }

func TestWalkOrderAndNames(t *testing.T) {
	dir := filepath.Join(scratch(t), "t")
	must(t, os.MkdirAll(filepath.Join(dir, "b", "c"), 0o755), os.WriteFile(filepath.Join(dir, "a.x"), nil, 0o644),
		os.WriteFile(filepath.Join(dir, "b", "c", "\xff\n"), nil, 0o644), os.Symlink("/", filepath.Join(dir, "a")))
	var r recorder
	must(t, fstree.Walk{Path: dir + "/", Name: "/s/x"}.Walk(&r))
	want := []string{"4 /s/x", "12 /s/x/a", "10 /s/x/a.x", "4 /s/x/b", "4 /s/x/b/c", "10 /s/x/b/c/\xff\n", "leave /s/x/b/c", "leave /s/x/b", "leave /s/x"}
	if !slices.Equal(r.lines, want) {
		t.Errorf("got %q", r.lines)
	}
}

func TestWalkOfALinkDoesNotFollowIt(t *testing.T) {
	link := filepath.Join(scratch(t), "l")
	must(t, os.Symlink("/", link))
	var r recorder
	must(t, fstree.Walk{Path: link}.Walk(&r))
	if !slices.Equal(r.lines, []string{"12 " + link}) {
		t.Errorf("got %q", r.lines)
	}
}

func TestDeepTree(t *testing.T) {
	top := filepath.Join(scratch(t), "deep")
	deep(t, top, 10000)
	var before unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 200, Max: before.Max}))
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &before)
	var calls counter
	must(t, fstree.Walk{Path: top}.Walk(&calls))
	if calls != 20001 {
		t.Errorf("%d calls", calls)
	}
	err := fstree.Walk{Path: top, MaxDepth: 9999}.Walk(&calls)
	var bad *fstree.TreeError
	if !errors.As(err, &bad) || len(err.Error()) > 5000 || !strings.HasSuffix(err.Error(), "/.../d' exceeds maximum NAR directory depth of 9999") {
		t.Errorf("a bounded walk gives %.60v", err)
	}
	_, err = fstree.RemoveAll(top)
	must(t, err)
	if _, err := os.Lstat(top); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
}

func TestRemoveAllCountsAndStaysInside(t *testing.T) {
	dir := scratch(t)
	outside, top := filepath.Join(dir, "outside"), filepath.Join(dir, "top")
	must(t, os.Mkdir(outside, 0o755), os.WriteFile(filepath.Join(outside, "canary"), make([]byte, 8192), 0o644),
		os.MkdirAll(filepath.Join(top, "sub"), 0o755), os.WriteFile(filepath.Join(top, "own"), make([]byte, 8192), 0o444),
		os.Link(filepath.Join(outside, "canary"), filepath.Join(top, "sub", "shared")),
		os.Symlink(outside, filepath.Join(top, "link")), unix.Mkfifo(filepath.Join(top, "fifo"), 0), os.Chmod(filepath.Join(top, "sub"), 0))
	freed, err := fstree.RemoveAll(top)
	must(t, err)
	if freed != 8192 {
		t.Errorf("freed %d bytes, want 8192", freed)
	}
	if _, err := os.Stat(filepath.Join(outside, "canary")); err != nil {
		t.Error(err)
	}
	freed, err = fstree.RemoveAll(top)
	if err != nil || freed != 0 {
		t.Errorf("what does not exist: %d, %v", freed, err)
	}
	if _, err := fstree.RemoveAll(filepath.Join(top, "x", "y")); err != nil {
		t.Errorf("in what does not exist: %v", err)
	}
	link := filepath.Join(dir, "link")
	must(t, os.Symlink(outside, link))
	if _, err := fstree.RemoveAll(link); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(outside, "canary")); err != nil {
		t.Error(err)
	}
}

func TestRemoveAllOfManyEntries(t *testing.T) {
	top := filepath.Join(scratch(t), "many")
	must(t, os.Mkdir(top, 0o755))
	for i := range 10000 {
		name := filepath.Join(top, fmt.Sprint(i))
		if i%100 == 0 {
			must(t, os.Mkdir(name, 0o500))
		} else {
			must(t, os.WriteFile(name, nil, 0o644))
		}
	}
	_, err := fstree.RemoveAll(top)
	must(t, err)
	if _, err := os.Lstat(top); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
}

func TestRemoveAllStopsAtAMount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount")
	}
	dir := scratch(t)
	source, target := filepath.Join(dir, "source"), filepath.Join(dir, "top", "target")
	must(t, os.Mkdir(source, 0o755), os.MkdirAll(target, 0o755), os.WriteFile(filepath.Join(source, "canary"), nil, 0o644))
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		t.Skipf("cannot mount: %v", err)
	}
	defer unix.Unmount(target, unix.MNT_DETACH)
	if _, err := fstree.RemoveAll(filepath.Dir(target)); !errors.Is(err, unix.EXDEV) {
		t.Errorf("deleting over a mount: %v", err)
	}
	if _, err := os.Stat(filepath.Join(source, "canary")); err != nil {
		t.Error(err)
	}
}

// TestRemoveAllAgainstSwapping exchanges a directory and a link to a place
// that must not be touched, all the while it is deleted.
func TestRemoveAllAgainstSwapping(t *testing.T) {
	dir := scratch(t)
	outside := filepath.Join(dir, "outside")
	must(t, os.Mkdir(outside, 0o755))
	for i := range 100 {
		must(t, os.WriteFile(filepath.Join(outside, fmt.Sprint(i)), nil, 0o644))
	}
	for round := range 30 {
		top := filepath.Join(dir, fmt.Sprint("top", round))
		inner := filepath.Join(top, "a", "b")
		must(t, os.MkdirAll(inner, 0o755), os.Symlink(outside, filepath.Join(top, "link")))
		for i := range 100 {
			must(t, os.WriteFile(filepath.Join(inner, fmt.Sprint(i)), nil, 0o644))
		}
		var stop atomic.Bool
		done := make(chan struct{})
		go func() {
			defer close(done)
			for !stop.Load() {
				_ = unix.Renameat2(unix.AT_FDCWD, filepath.Join(top, "link"), unix.AT_FDCWD, filepath.Join(top, "a"), unix.RENAME_EXCHANGE)
				_ = unix.Renameat2(unix.AT_FDCWD, filepath.Join(top, "a", "b"), unix.AT_FDCWD, filepath.Join(top, "c"), 0)
			}
		}()
		_, _ = fstree.RemoveAll(top) // may fail, but not do harm
		stop.Store(true)
		<-done
	}
	entries, err := os.ReadDir(outside)
	if err != nil || len(entries) != 100 {
		t.Errorf("%d files are left outside, %v", len(entries), err)
	}
}

func TestMove(t *testing.T) {
	dir := scratch(t)
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "sub", "dst")
	must(t, os.Mkdir(filepath.Dir(dst), 0o755), os.Mkdir(src, 0o555), fstree.Move(src, dst))
	if st, err := os.Stat(dst); err != nil || st.Mode().Perm() != 0o555 {
		t.Errorf("%v, %v", st, err)
	}
	if err := fstree.Move(src, dst); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("moving nothing: %v", err)
	}
}

func TestWithin(t *testing.T) {
	top := filepath.Join(scratch(t), "t")
	must(t, os.MkdirAll(filepath.Join(top, "d"), 0o755), os.WriteFile(filepath.Join(top, "d", "f"), make([]byte, 100), 0o644),
		os.Symlink("x", filepath.Join(top, "l")))
	for _, c := range []struct {
		path  string
		nodes int
		bytes int64
		want  bool
	}{
		{top, 4, 101, true}, {top, 3, 101, false}, {top, 4, 100, false}, {top, 0, 1000, false},
		{top + "/d/f", 1, 100, true}, {top + "/none", 9, 9, false},
	} {
		if got := fstree.Within(c.path, c.nodes, c.bytes); got != c.want {
			t.Errorf("%s within %d nodes, %d bytes: %v", c.path, c.nodes, c.bytes, got)
		}
	}
	deep(t, top+"2", 100)
	if fstree.Within(top+"2", 1000, 1000) {
		t.Error("a very deep tree is small")
	}
}

// TestWithoutPrivileges runs the tests above again as nobody.
func TestWithoutPrivileges(t *testing.T) {
	if os.Getenv("FSTREE_UNPRIVILEGED") != "" {
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("is not root, so the other tests have been without privileges")
	}
	asNobody(t, "TestRemoveAllCounts|TestRemoveAllOfMany|TestDeepTree|TestMove|TestWalk|TestWithin|TestLocked")
}

// asNobody runs this test binary again, copied to where nobody may read it.
func asNobody(t *testing.T, tests string) {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	dir := scratch(t)
	must(t, os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "test"), self, 0o755))
	tmp := filepath.Join(dir, "tmp")
	must(t, os.Mkdir(tmp, 0o777), os.Chmod(tmp, 0o777))
	r, w, err := os.Pipe()
	must(t, err)
	p, err := os.StartProcess(filepath.Join(dir, "test"), []string{"test", "-test.run", tests}, &os.ProcAttr{
		Dir: tmp, Env: []string{"FSTREE_UNPRIVILEGED=1", "TMPDIR=" + tmp}, Files: []*os.File{nil, w, w},
		Sys: &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}},
	})
	must(t, err, w.Close())
	output, err := io.ReadAll(r)
	must(t, err)
	state, err := p.Wait()
	if err != nil || !state.Success() {
		t.Errorf("as nobody: %v, %v\n%s", state, err, output)
	}
}

func TestLockedTree(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read everything; runs again as nobody")
	}
	top := filepath.Join(scratch(t), "t")
	must(t, os.MkdirAll(filepath.Join(top, "a", "b"), 0o755), os.WriteFile(filepath.Join(top, "a", "f"), nil, 0),
		os.Chmod(filepath.Join(top, "a", "b"), 0), os.Chmod(filepath.Join(top, "a"), 0o400), os.Chmod(top, 0))
	var r recorder
	if err := (fstree.Walk{Path: top}).Walk(&r); !errors.Is(err, os.ErrPermission) {
		t.Errorf("a walk without unlocking: %v", err)
	}
	r.lines = nil
	must(t, fstree.Walk{Path: top, Name: "t", Unlock: true}.Walk(&r))
	want := []string{"4 t", "4 t/a", "4 t/a/b", "leave t/a/b", "10 t/a/f", "leave t/a", "leave t"}
	if !slices.Equal(r.lines, want) {
		t.Errorf("got %q", r.lines)
	}
}
