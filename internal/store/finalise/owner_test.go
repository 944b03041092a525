package finalise

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var odd0 = time.Unix(1000, 0)

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
