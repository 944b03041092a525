package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCheckAncestors(t *testing.T) {
	const dir, sticky, link = unix.S_IFDIR | 0o755, unix.S_IFDIR | 0o1777, unix.S_IFLNK | 0o777
	for _, c := range []struct {
		name string
		tree map[string]owner
		ok   bool
	}{
		{"ordinary", map[string]owner{"/": {dir, 0}, "/var": {dir, 0}, "/var/builds": {dir, 0}}, true},
		{"a writable parent", map[string]owner{"/": {dir, 0}, "/var": {unix.S_IFDIR | 0o777, 0}, "/var/builds": {dir, 0}}, false},
		{"a sticky parent", map[string]owner{"/": {dir, 0}, "/var": {sticky, 0}, "/var/builds": {dir, 0}}, true},
		{"somebody's in a sticky parent", map[string]owner{"/": {dir, 0}, "/var": {sticky, 0}, "/var/builds": {dir, 1000}}, false},
		{"writable itself", map[string]owner{"/": {dir, 0}, "/var": {dir, 0}, "/var/builds": {sticky, 0}}, false},
		{"a link", map[string]owner{"/": {dir, 0}, "/var": {link, 0}, "/var/builds": {dir, 0}}, false},
	} {
		lstat := func(name string) (owner, error) {
			o, ok := c.tree[name]
			if !ok {
				return o, unix.ENOENT
			}
			return o, nil
		}
		if err := checkAncestors("/var/builds", lstat, 0); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// tree makes a directory with something of everything.
func tree(t *testing.T, depth int) string {
	t.Helper()
	top := filepath.Join(t.TempDir(), "tree")
	at := top
	for i := range depth {
		if err := os.MkdirAll(at, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, f := range []string{"a", ".moved-1"} {
			if err := os.WriteFile(filepath.Join(at, f), nil, 0o400); err != nil {
				t.Fatal(err)
			}
		}
		at = filepath.Join(at, fmt.Sprint("d", i%3))
	}
	return top
}

func TestRemoveTree(t *testing.T) {
	canary := filepath.Join(t.TempDir(), "canary")
	if err := os.WriteFile(canary, []byte("alive"), 0o600); err != nil {
		t.Fatal(err)
	}
	top := tree(t, 40)
	for link, target := range map[string]string{"link": filepath.Dir(canary), "d0/link": canary, "d0/up": "..", "d0/.moved-2": "/"} {
		if err := os.Symlink(target, filepath.Join(top, link)); err != nil {
			t.Fatal(err)
		}
	}
	locked := filepath.Join(top, "d0", "d1", "locked")
	if err := os.MkdirAll(filepath.Join(locked, "inner"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Join(locked, "inner"), locked} {
		if err := os.Chmod(dir, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := RemoveTree(top); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(top); !os.IsNotExist(err) {
		t.Errorf("the tree is still there: %v", err)
	}
	if text, err := os.ReadFile(canary); err != nil || string(text) != "alive" {
		t.Errorf("a link was followed: %q, %v", text, err)
	}
	if err := RemoveTree(top); err != nil {
		t.Errorf("removing nothing: %v", err)
	}
}

// A tree far deeper than a path or the descriptors of a process can reach.
func TestRemoveDeepTree(t *testing.T) {
	top := filepath.Join(t.TempDir(), "deep")
	if err := os.Mkdir(top, 0o755); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(top, openDir, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 3000 {
		if err := unix.Mkdirat(fd, "d", 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(fd, "d", openDir, 0)
		unix.Close(fd)
		if err != nil {
			t.Fatal(err)
		}
		fd = next
	}
	unix.Close(fd)
	if err := RemoveTree(top); err != nil {
		t.Fatal(err)
	}
}

func TestRemoveInPortions(t *testing.T) {
	top := tree(t, 30)
	wide := filepath.Join(top, "d0", "wide")
	if err := os.Mkdir(wide, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 500 {
		if err := os.WriteFile(filepath.Join(wide, fmt.Sprint(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	portions := 0
	for done := false; !done; portions++ {
		if portions > 1000 {
			t.Fatal("it never ends")
		}
		limit := 20
		var err error
		if done, err = removeSome(top, &limit); err != nil {
			t.Fatal(err)
		}
	}
	if portions < 2 {
		t.Errorf("%d portions", portions)
	}
}

func TestStaleChroot(t *testing.T) {
	for name, plant := range map[string]func(string) error{
		"directory": func(p string) error { return os.MkdirAll(filepath.Join(p, "store", "old"), 0o755) },
		"file":      func(p string) error { return os.WriteFile(p, nil, 0o600) },
		"link":      func(p string) error { return os.Symlink("/etc", p) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			if err := plant(filepath.Join(h.policy.StoreDir, drv+".chroot")); err != nil {
				t.Fatal(err)
			}
			w := h.world(t, nil)
			if _, err := os.Lstat(w.OutputPath("old")); !os.IsNotExist(err) {
				t.Errorf("what was there before is visible: %v", err)
			}
			if o, err := lstatOwner(w.chroot); err != nil || o.mode != unix.S_IFDIR|0o700 || o.uid != uint32(os.Geteuid()) {
				t.Errorf("the chroot directory is %#o of %d, %v", o.mode, o.uid, err)
			}
		})
	}
}

func TestAddFile(t *testing.T) {
	w := newHost(t).world(t, nil)
	if err := w.AddFile(".attr-0", []byte("text")); err != nil {
		t.Fatal(err)
	}
	if err := w.AddFile(".attr-0", []byte("other")); err == nil {
		t.Error("a file was written twice")
	}
	for _, name := range []string{"", ".", "..", "a/b", "/etc/x", "a\x00"} {
		if err := w.AddFile(name, nil); err == nil {
			t.Errorf("a file called %q was made", name)
		}
	}
	name := filepath.Join(w.BuildDir(), ".attr-0")
	o, err := lstatOwner(name)
	if err != nil || o.mode != unix.S_IFREG|0o644 || w.build.User != nil && o.uid != w.build.User.UID {
		t.Errorf("the file is %#o of %d, %v", o.mode, o.uid, err)
	}
	if text, _ := os.ReadFile(name); string(text) != "text" {
		t.Errorf("it contains %q", text)
	}
}

func TestRootNeedsABuildUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: needs root")
	}
	h := newHost(t)
	if _, err := NewWorld(&h.policy, &Build{DrvBase: drv}); err == nil || !strings.Contains(err.Error(), "as root") {
		t.Errorf("a build as root: %v", err)
	}
}

func TestKeepClearsSetID(t *testing.T) {
	w := newHost(t).world(t, nil)
	deep := filepath.Join(w.BuildDir(), "a", "b")
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(deep, "su")
	if err := os.WriteFile(file, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if u := w.build.User; u != nil { // as if it had made them
		for _, name := range []string{filepath.Dir(deep), deep, file} {
			if err := os.Lchown(name, int(u.UID), int(u.GID)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := unix.Chmod(file, 0o6755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/bin/su", filepath.Join(deep, "link")); err != nil {
		t.Fatal(err)
	}
	chroot, wrapper := w.chroot, w.wrapper
	if err := w.Keep(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]uint32{file: unix.S_IFREG | 0o755, w.BuildDir(): unix.S_IFDIR | 0o755, wrapper: unix.S_IFDIR | 0o755} {
		if o, err := lstatOwner(name); err != nil || o.mode != want {
			t.Errorf("'%s' has mode %#o, want %#o (%v)", name, o.mode, want, err)
		}
	}
	if _, err := os.Lstat(chroot); !os.IsNotExist(err) {
		t.Errorf("the chroot directory was kept: %v", err)
	}
}

// TestKeepHandsOver gives what is the builder's, and only that, to somebody.
func TestKeepHandsOver(t *testing.T) {
	h := newHost(t)
	if os.Geteuid() != 0 {
		t.Skip("skipped: only root gives files away")
	}
	h.policy.KeepFor = &Owner{UID: 4321, GID: 4322}
	w := h.world(t, nil)
	builder := w.build.User.UID
	canary := filepath.Join(t.TempDir(), "canary")
	if err := errors.Join(os.Mkdir(canary, 0o755), os.WriteFile(canary+"/file", nil, 0o600), os.Lchown(canary, int(builder), 0), os.Lchown(canary+"/file", int(builder), 0)); err != nil {
		t.Fatal(err)
	}
	deep := filepath.Join(w.BuildDir(), "a", "b")
	if err := errors.Join(os.MkdirAll(deep, 0o700), os.WriteFile(deep+"/file", nil, 0o600), os.WriteFile(deep+"/su", nil, 0o755), unix.Chmod(deep+"/su", 0o6755),
		os.Symlink(canary, deep+"/link"), os.Symlink(canary+"/file", deep+"/file link"), unix.Mkfifo(deep+"/pipe", 0o600), os.WriteFile(deep+"/foreign", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "file", "su", "link", "file link", "pipe"} {
		if err := os.Lchown(filepath.Join(deep, name), int(builder), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Lchown(filepath.Dir(deep), int(builder), 0), unix.Chmod(deep+"/su", 0o6755)); err != nil {
		t.Fatal(err)
	}
	if err := w.Keep(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{w.BuildDir(), filepath.Dir(deep), deep, deep + "/file", deep + "/su", deep + "/link", deep + "/file link", deep + "/pipe"} {
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil || st.Uid != 4321 || st.Gid != 4322 || st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&setIDBits != 0 {
			t.Errorf("'%s' belongs to %d:%d, mode %#o (%v)", name, st.Uid, st.Gid, st.Mode, err)
		}
	}
	for name, want := range map[string]uint32{deep + "/foreign": 0, canary: builder, canary + "/file": builder} {
		if o, err := lstatOwner(name); err != nil || o.uid != want {
			t.Errorf("'%s' belongs to %d, want %d (%v)", name, o.uid, want, err)
		}
	}
}

// TestHandoverWhileSwapped is the attack of somebody who still holds the build
// directory open, and exchanges directories in it for links to others.
func TestHandoverWhileSwapped(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: only root gives files away")
	}
	dir := t.TempDir()
	canary, tree := filepath.Join(dir, "canary"), filepath.Join(dir, "tree")
	const builder = 30001
	fill := func(top string) {
		for i := range 50 {
			sub := filepath.Join(top, fmt.Sprint(i))
			if err := errors.Join(os.MkdirAll(sub, 0o755), os.WriteFile(sub+"/file", nil, 0o755)); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{sub, sub + "/file"} {
				if err := os.Lchown(name, builder, builder); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	fill(canary)
	fill(tree)
	for i := range 50 {
		if err := os.Symlink(filepath.Join(canary, fmt.Sprint(i)), filepath.Join(tree, fmt.Sprint("link", i))); err != nil {
			t.Fatal(err)
		}
	}
	fd, err := unix.Open(tree, openDir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				n := fmt.Sprint(i % 50)
				_ = unix.Renameat2(fd, n, fd, "link"+n, unix.RENAME_EXCHANGE)
			}
		}
	}()
	for i := range 200 {
		h := handover{from: builder + uint32(i), to: &Owner{UID: builder + uint32(i) + 1, GID: builder}}
		if err := h.below(fd, 0); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	<-done
	err = filepath.WalkDir(canary, func(name string, _ os.DirEntry, err error) error {
		if o, e := lstatOwner(name); name != canary && (e != nil || o.uid != builder) {
			t.Errorf("'%s' belongs to %d (%v)", name, o.uid, e)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
