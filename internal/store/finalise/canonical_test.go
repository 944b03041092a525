package finalise

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/fstree"
)

func TestModes(t *testing.T) {
	dir := scratch(t)
	for _, c := range []struct{ before, file, dir uint32 }{
		{0o644, 0o444, 0o444}, {0o755, 0o555, 0o555}, {0o711, 0o555, 0o555}, {0o400, 0o444, 0o444}, {0o444, 0o444, 0o444},
		{0o555, 0o555, 0o555}, {0o4755, 0o555, 0o555}, {0o2644, 0o444, 0o444}, {0o1777, 0o555, 0o555}, {0o655, 0o444, 0o444},
		{0, 0o444, 0o444}, {0o4444, 0o444, 0o444}, {0o010, 0o444, 0o444}, {0o700, 0o555, 0o555},
	} {
		file, sub := filepath.Join(dir, "f"), filepath.Join(dir, "d")
		write(t, file, "", 0o600)
		must(t, os.Mkdir(sub, 0o700))
		write(t, filepath.Join(sub, "inner"), "", 0o600)
		must(t, unix.Chmod(file, c.before), unix.Chmod(sub, c.before), Canonicalise(file, Options{}), Canonicalise(sub, Options{}))
		if got := lstat(t, file).Mode & 07777; got != c.file {
			t.Errorf("file of mode %o becomes %o, want %o", c.before, got, c.file)
		}
		if got := lstat(t, sub).Mode & 07777; got != c.dir {
			t.Errorf("directory of mode %o becomes %o, want %o", c.before, got, c.dir)
		}
		must(t, os.Chmod(sub, 0o700))
		if st := lstat(t, filepath.Join(sub, "inner")); st.Mode&07777 != 0o444 || st.Mtim.Sec != 1 {
			t.Errorf("in a directory of mode %o, a file has mode %o and time %d", c.before, st.Mode&07777, st.Mtim.Sec)
		}
		_, err := fstree.RemoveAll(sub)
		must(t, err, os.Remove(file))
	}
}

func TestTimes(t *testing.T) {
	longAgo := time.Unix(1000, 0)
	dir := scratch(t)
	file, link := filepath.Join(dir, "f"), filepath.Join(dir, "l")
	write(t, file, "", 0o444)
	must(t, os.Symlink("f", link))
	odd := []unix.Timespec{{Sec: 77}, {Sec: 1, Nsec: 5e8}}
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, file, odd, 0), Canonicalise(file, Options{}), Canonicalise(link, Options{}))
	if st := lstat(t, file); st.Mtim != odd[1] || st.Atim != odd[0] {
		t.Errorf("a second and a half became %v, with access at %v", st.Mtim, st.Atim)
	}
	if st := lstat(t, link); st.Mtim != (unix.Timespec{Sec: 1}) {
		t.Errorf("the link has %v", st.Mtim)
	}
	must(t, os.Chtimes(file, longAgo, longAgo), Canonicalise(file, Options{}))
	if st := lstat(t, file); st.Mtim != (unix.Timespec{Sec: 1}) || st.Atim.Sec != longAgo.Unix() {
		t.Errorf("time %v, access %v", st.Mtim, st.Atim)
	}
}

func TestExtendedAttributes(t *testing.T) {
	dir := scratch(t)
	file, sub := filepath.Join(dir, "f"), filepath.Join(dir, "d")
	write(t, file, "", 0o600)
	must(t, os.Mkdir(sub, 0o700))
	for _, path := range []string{file, sub} {
		if err := unix.Setxattr(path, "user.gone", []byte("1"), 0); errors.Is(err, unix.ENOTSUP) {
			t.Skip("no extended attributes here")
		}
		must(t, unix.Setxattr(path, "user.gone", []byte("1"), 0), unix.Setxattr(path, "user.kept", []byte("1"), 0), os.Chmod(path, 0o555))
	}
	for _, path := range []string{file, sub} {
		must(t, Canonicalise(path, Options{KeepXattrs: []string{"user.kept"}}))
		buf := make([]byte, 1000)
		n, err := unix.Listxattr(path, buf)
		must(t, err)
		if got := string(buf[:n]); got != "user.kept\x00" {
			t.Errorf("%s has %q", path, got)
		}
		if mode := lstat(t, path).Mode & 07777; mode != 0o555 {
			t.Errorf("%s has mode %o", path, mode)
		}
	}
}

// TestDeepTreeWithoutPermissions takes away, deep down, what the way back up
// needs.
func TestDeepTreeWithoutPermissions(t *testing.T) {
	top := filepath.Join(scratch(t), "t")
	must(t, os.Mkdir(top, 0o700))
	fd, err := unix.Open(top, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	for range 300 {
		must(t, unix.Mkdirat(fd, "d", 0o700))
		next, err := unix.Openat(fd, "d", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		must(t, err, unix.Fchmod(fd, 0o200), unix.Close(fd))
		fd = next
	}
	must(t, unix.Fchmod(fd, 0), unix.Close(fd), Canonicalise(top, Options{}))
	if mode := lstat(t, top).Mode & 07777; mode != 0o444 {
		t.Errorf("mode %o", mode)
	}
}

const builder = 30001

// owned makes a tree of a builder's, with a file that has two names.
func owned(t *testing.T, dir string) {
	t.Helper()
	tree(t, dir)
	must(t, os.Link(filepath.Join(dir, "data"), filepath.Join(dir, "again")))
	must(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, _ error) error { return os.Lchown(path, builder, builder) }))
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to change owners")
	}
}

func TestOwnersBecomeOurs(t *testing.T) {
	needRoot(t)
	dir := scratch(t)
	out, dev := filepath.Join(dir, "out"), filepath.Join(dir, "dev")
	owned(t, out)
	owned(t, dev)
	must(t, os.Link(filepath.Join(out, "data"), filepath.Join(dev, "shared")))
	must(t, os.Chmod(filepath.Join(out, "bin", "tool"), 0o755|os.ModeSetuid))
	req := one(Output{Path: out})
	req.Owner = &UIDRange{builder, builder + 3}
	req.Outputs = append(req.Outputs, Output{ID: "dev", Name: "/nix/store/" + hashB + "-dev", Path: dev})
	_, err := Run(req)
	must(t, err)
	for _, top := range []string{out, dev} {
		must(t, filepath.WalkDir(top, func(path string, _ os.DirEntry, err error) error {
			st := lstat(t, path)
			if st.Uid != 0 || st.Gid != uint32(os.Getegid()) || st.Mtim.Sec != 1 || st.Mode&unix.S_IFMT != unix.S_IFLNK && st.Mode&07222 != 0 {
				t.Errorf("%s: owner %d, mode %o, time %d", path, st.Uid, st.Mode, st.Mtim.Sec)
			}
			return err
		}))
	}
}

func TestForeignFiles(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		name, want string
		plant      func(t *testing.T, out, canary string)
	}{
		{"link to a file of the system", "invalid ownership on file '/nix/store/" + hashA + "-x/evil'",
			func(t *testing.T, out, canary string) { must(t, os.Link(canary, filepath.Join(out, "evil"))) }},
		{"the same, twice", "invalid ownership on file '/nix/store/" + hashA + "-x/evil'", func(t *testing.T, out, canary string) {
			must(t, os.Link(canary, filepath.Join(out, "evil")), os.Link(canary, filepath.Join(out, "evil2")))
		}},
		{"foreign directory", "invalid ownership on file '/nix/store/" + hashA + "-x/d'",
			func(t *testing.T, out, _ string) { must(t, os.Mkdir(filepath.Join(out, "d"), 0o755)) }},
		{"foreign link", "invalid ownership on file '/nix/store/" + hashA + "-x/l'",
			func(t *testing.T, out, _ string) { must(t, os.Symlink("x", filepath.Join(out, "l"))) }},
		{"foreign top", "suspicious ownership or permission on '/nix/store/" + hashA + "-x' for output 'out'; rejecting this build output",
			func(t *testing.T, out, _ string) { must(t, os.Lchown(out, builder+9, 0)) }},
	} {
		for _, fresh := range []bool{false, true} {
			dir := scratch(t)
			out, canary := filepath.Join(dir, "out"), filepath.Join(dir, "canary")
			owned(t, out)
			write(t, canary, "secret", 0o640)
			xattr := unix.Setxattr(canary, "user.mine", []byte("1"), 0)
			before := lstat(t, canary)
			c.plant(t, out, canary)
			req := one(Output{Path: out, Dest: filepath.Join(dir, "dst"), FreshCopy: fresh})
			req.Owner = &UIDRange{builder, builder}
			_, err := Run(req)
			var fault *OutputError
			if !errors.As(err, &fault) || err.Error() != c.want {
				t.Errorf("%s (fresh copy %v): %v", c.name, fresh, err)
			}
			after := lstat(t, canary)
			if after.Mode != before.Mode || after.Uid != before.Uid || after.Mtim != before.Mtim {
				t.Errorf("%s (fresh copy %v): the system's file was changed", c.name, fresh)
			}
			if _, err := unix.Getxattr(canary, "user.mine", make([]byte, 9)); xattr == nil && err != nil {
				t.Errorf("%s (fresh copy %v): the system's file lost an attribute", c.name, fresh)
			}
			if _, err := os.Lstat(filepath.Join(dir, "dst")); err == nil {
				t.Errorf("%s (fresh copy %v): moved all the same", c.name, fresh)
			}
		}
	}
}
