package nar_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/finalise"
	"gobuild/internal/store/fstree"
	"gobuild/internal/store/nar"
)

// lender lends a few bytes at a time.
type lender struct{ *bytes.Reader }

func (l lender) Lend(limit int) ([]byte, error) {
	b := make([]byte, min(limit, 100))
	n, err := l.Read(b)
	return b[:n], err
}

// samples are the golden archives.
func samples(t *testing.T) map[string][]byte {
	t.Helper()
	var vs []struct{ Name, File string }
	if err := json.Unmarshal(readGolden(t, "nar-manifest.json"), &vs); err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, v := range vs {
		all[v.Name] = readGolden(t, v.File)
	}
	return all
}

func notCanonical(t *testing.T, tree string) (bad []string) {
	t.Helper()
	err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err := errors.Join(err, unix.Lstat(path, &st)); err != nil {
			return err
		}
		mode := st.Mode & 07777
		if st.Mtim != (unix.Timespec{Sec: 1}) || st.Uid != uint32(os.Geteuid()) || d.Type() != fs.ModeSymlink && mode != 0o444 && mode != 0o555 || d.IsDir() && mode != 0o555 {
			bad = append(bad, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return bad
}

func TestRestoreCanonicalNeedsNoSecondWalk(t *testing.T) {
	for _, umask := range []int{0o022, 0, 0o077, 0o033} {
		for name, data := range samples(t) {
			dir := t.TempDir()
			dest := filepath.Join(dir, "x")
			old := unix.Umask(umask)
			exact, err := nar.RestoreCanonical(lender{bytes.NewReader(data)}, dest, []string{"security.selinux"})
			unix.Umask(old)
			if err != nil || !exact {
				t.Errorf("%s, umask %o: exact %v, %v", name, umask, exact, err)
				continue
			}
			if bad := notCanonical(t, dest); len(bad) > 0 {
				t.Errorf("%s, umask %o: not canonical: %q", name, umask, bad)
			}
			if !bytes.Equal(dump(t, dest), data) {
				t.Errorf("%s, umask %o: another archive after restoring", name, umask)
			}
			if _, err := fstree.RemoveAll(dest); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestRestoreCanonicalNoticesAttributes has the file system give an access
// list to all that is made in a directory.
func TestRestoreCanonicalNoticesAttributes(t *testing.T) {
	const acl = "\x02\x00\x00\x00" + "\x01\x00\x07\x00\xff\xff\xff\xff" + "\x02\x00\x07\x00\x39\x30\x00\x00" + // the owner; user 12345
		"\x04\x00\x05\x00\xff\xff\xff\xff" + "\x10\x00\x07\x00\xff\xff\xff\xff" + "\x20\x00\x05\x00\xff\xff\xff\xff" // group, mask, others
	for name, data := range samples(t) {
		dir := t.TempDir()
		dest := filepath.Join(dir, "x")
		if err := unix.Setxattr(dir, "system.posix_acl_default", []byte(acl), 0); errors.Is(err, unix.ENOTSUP) {
			t.Skip("no access lists here")
		} else if err != nil {
			t.Fatal(err)
		}
		exact, err := nar.RestoreCanonical(bytes.NewReader(data), dest, nil)
		if err != nil {
			t.Fatal(err)
		}
		if st, _ := os.Lstat(dest); exact != (st.Mode()&fs.ModeSymlink != 0) {
			t.Errorf("%s: exact %v, for a %v", name, exact, st.Mode())
		}
		if err := finalise.Canonicalise(dest, finalise.Options{}); err != nil {
			t.Fatal(err)
		}
		if bad := notCanonical(t, dest); len(bad) > 0 {
			t.Errorf("%s: not canonical: %q", name, bad)
		}
		if _, err := fstree.RemoveAll(dest); err != nil {
			t.Error(err)
		}
	}
}

func TestLentContentsEndWhereTheReaderEnds(t *testing.T) {
	data := readGolden(t, "nar/file-9000.nar")
	for _, n := range []int{100, 4000, 9000, len(data) - 1} {
		_, err := nar.RestoreCanonical(lender{bytes.NewReader(data[:n])}, filepath.Join(t.TempDir(), "x"), nil)
		var bad *nar.FormatError
		if !errors.As(err, &bad) || err.Error() != "unexpected end-of-file" {
			t.Errorf("%d of %d bytes: %v", n, len(data), err)
		}
	}
}

func BenchmarkRestoreSmall(b *testing.B) {
	var archive bytes.Buffer
	if err := nar.WriteFile(&archive, make([]byte, 16<<10)); err != nil {
		b.Fatal(err)
	}
	dir, err := os.MkdirTemp("/dev/shm", "nar")
	if err != nil {
		dir = b.TempDir()
	}
	defer fstree.RemoveAll(dir)
	dest := filepath.Join(dir, "x")
	run := func(b *testing.B, restore func(io.Reader, string) error) {
		b.ReportAllocs()
		for b.Loop() {
			if err := restore(bytes.NewReader(archive.Bytes()), dest); err != nil {
				b.Fatal(err)
			}
			if err := os.Remove(dest); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("as it comes", func(b *testing.B) { run(b, nar.Restore) })
	b.Run("canonical", func(b *testing.B) {
		run(b, func(r io.Reader, dest string) error {
			_, err := nar.RestoreCanonical(r, dest, nil)
			return err
		})
	})
	b.Run("canonical in two walks", func(b *testing.B) {
		run(b, func(r io.Reader, dest string) error {
			if err := nar.Restore(r, dest); err != nil {
				return err
			}
			return finalise.Canonicalise(dest, finalise.Options{})
		})
	})
}
