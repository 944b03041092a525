package nar_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"gobuild/internal/store/fstree"
	"gobuild/internal/store/nar"
)

const golden = "../../../testdata/golden"

func readGolden(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(golden, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func dump(t testing.TB, path string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := nar.Dump(&b, path); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestGoldenArchivesSurviveRestoreAndDump(t *testing.T) {
	var vs []struct {
		Name, File, NarHashHex string
		NarSize                int
	}
	if err := json.Unmarshal(readGolden(t, "nar-manifest.json"), &vs); err != nil {
		t.Fatal(err)
	}
	for _, v := range vs {
		data := readGolden(t, v.File)
		dest := filepath.Join(t.TempDir(), "x")
		if err := nar.Restore(iotest.OneByteReader(bytes.NewReader(data)), dest); err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		again := dump(t, dest)
		sum := sha256.Sum256(again)
		if hex.EncodeToString(sum[:]) != v.NarHashHex || len(again) != v.NarSize {
			t.Errorf("%s: dumped %d bytes with hash %x, want %d and %s", v.Name, len(again), sum, v.NarSize, v.NarHashHex)
		}
	}
}

// wantBad is the message for each malformed sample that our reader must refuse.
var wantBad = map[string]string{
	"empty-input":                 "unexpected end-of-file",
	"bad-magic":                   "bad archive: input doesn't look like a Nix archive",
	"string-length-huge":          "string is too long",
	"string-length-2gb":           "string is too long",
	"regular-no-contents":         "bad archive: expected tag 'contents', got ')'",
	"regular-exec-no-contents":    "bad archive: expected tag 'contents', got ')'",
	"regular-exec-twice":          "bad archive: expected tag 'contents', got 'executable'",
	"regular-exec-after-contents": "bad archive: expected tag ')', got 'executable'",
	"regular-unknown-field":       "bad archive: expected tag 'contents', got 'size'",
	"double-type":                 "bad archive: expected tag 'contents', got 'type'",
	"symlink-empty-target":        "bad archive: NAR contains invalid symlink target ''",
	"symlink-nul-target":          "bad archive: NAR contains invalid symlink target 'a\x00b'",
	"dir-name-256":                "bad archive: NAR contains invalid file name '" + strings.Repeat("n", 256) + "'",
	"dir-name-nul":                "bad archive: NAR contains invalid file name 'a\x00b'",
}

func TestMalformedArchives(t *testing.T) {
	var vs map[string]map[string]string
	if err := json.Unmarshal(readGolden(t, "nar-bad.json"), &vs); err != nil {
		t.Fatal(err)
	}
	for name, v := range vs {
		data := readGolden(t, v["file"])
		r := bytes.NewReader(data)
		dest := filepath.Join(t.TempDir(), "x")
		err := nar.Restore(r, dest)
		reference := v["nix-2.26.3"]
		want, ours := wantBad[name]
		if strings.HasPrefix(reference, "accepted") && !ours {
			if err != nil {
				t.Errorf("%s: %v, want it accepted", name, err)
			} else if got := dump(t, dest); !bytes.Equal(got, data[:len(data)-r.Len()]) {
				t.Errorf("%s: another archive after restoring", name)
			}
			continue
		}
		if !ours {
			want = strings.TrimPrefix(reference, "rc 1: error: ")
		}
		var bad *nar.FormatError
		if !errors.As(err, &bad) || err.Error() != want {
			t.Errorf("%s: %v, want a format error: %s", name, err, want)
		}
	}
}

func TestClaimedLengthsCostNothing(t *testing.T) {
	head := readGolden(t, "nar/file-empty.nar")[:nar.ContentsOffset-8]
	for _, size := range []string{"\x00\x00\x00\x80\x00\x00\x00\x00", "\x00\x00\x00\x00\x00\x00\x00\x40", "\x00\x00\x00\x00\x00\x00\x00\x80",
		"\xf8\xff\xff\xff\xff\xff\xff\xff", "\xff\xff\xff\xff\xff\xff\xff\xff", "\xff\xff\xff\xff\xff\xff\xff\x7f"} {
		data := string(head) + size
		got := testing.AllocsPerRun(1, func() {
			if nar.Skip(strings.NewReader(data)) == nil {
				t.Errorf("size %x accepted", size)
			}
		})
		if got > 50 {
			t.Errorf("size %x: %v allocations", size, got)
		}
	}
}

func TestReaderLeavesWhatFollows(t *testing.T) {
	data := readGolden(t, "nar/dir-nested.nar")
	r := strings.NewReader(string(data) + "next")
	if err := nar.Skip(r); err != nil {
		t.Fatal(err)
	}
	if rest, _ := io.ReadAll(r); string(rest) != "next" {
		t.Errorf("left %q", rest)
	}
}

func TestTroubleOfTheReaderIsNoFormatError(t *testing.T) {
	data := readGolden(t, "nar/file-9000.nar")
	for _, n := range []int{3, 50, 100, 4000} {
		err := nar.Skip(io.MultiReader(bytes.NewReader(data[:n]), iotest.ErrReader(os.ErrClosed)))
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

func nested(depth int) []byte {
	const start = "\x01\x00\x00\x00\x00\x00\x00\x00(\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00type\x00\x00\x00\x00" +
		"\x09\x00\x00\x00\x00\x00\x00\x00directory\x00\x00\x00\x00\x00\x00\x00"
	const entry = "\x05\x00\x00\x00\x00\x00\x00\x00entry\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00(\x00\x00\x00\x00\x00\x00\x00" +
		"\x04\x00\x00\x00\x00\x00\x00\x00name\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00d\x00\x00\x00\x00\x00\x00\x00" +
		"\x04\x00\x00\x00\x00\x00\x00\x00node\x00\x00\x00\x00"
	const end = "\x01\x00\x00\x00\x00\x00\x00\x00)\x00\x00\x00\x00\x00\x00\x00"
	return []byte("\x0d\x00\x00\x00\x00\x00\x00\x00nix-archive-1\x00\x00\x00" + strings.Repeat(start+entry, depth-1) + start + end + strings.Repeat(end+end, depth-1))
}

func TestDeepArchive(t *testing.T) {
	data := nested(10000)
	dir, err := os.MkdirTemp("/dev/shm", "nar") // disks take long for this
	if err != nil {
		dir = t.TempDir()
	}
	defer fstree.RemoveAll(dir)
	dest := filepath.Join(dir, "x")
	if err := nar.Restore(bytes.NewReader(data), dest); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(dump(t, dest), data) {
		t.Error("another archive after restoring")
	}
	if _, err := fstree.RemoveAll(dest); err != nil {
		t.Fatal(err)
	}
	if err := nar.Skip(bytes.NewReader(nested(nar.MaxDepth))); err != nil {
		t.Error(err)
	}
	err = nar.Skip(bytes.NewReader(nested(nar.MaxDepth + 1)))
	if err == nil || err.Error() != "bad archive: archive exceeds maximum NAR directory depth of 16384" {
		t.Errorf("too deep an archive: %v", err)
	}
}

func TestRestoreNeverWritesOverAnything(t *testing.T) {
	data := readGolden(t, "nar/file-hello.nar")
	dir := t.TempDir()
	canary := filepath.Join(dir, "canary")
	if err := os.WriteFile(canary, []byte("alive"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"canary", "nothing-there"} {
		link := filepath.Join(dir, "link")
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		err := nar.Restore(bytes.NewReader(data), link)
		if err == nil || err.Error() != "creating file '"+link+"': file exists" {
			t.Errorf("restoring over a link to %s: %v", target, err)
		}
		os.Remove(link)
	}
	if _, err := os.Lstat(filepath.Join(dir, "nothing-there")); err == nil {
		t.Error("wrote through a dangling link")
	}
	if got, _ := os.ReadFile(canary); string(got) != "alive" {
		t.Errorf("canary has %q", got)
	}
	for _, sample := range []string{"nar/dir-one.nar", "nar/symlink-abs.nar"} {
		if err := nar.Restore(bytes.NewReader(readGolden(t, sample)), canary); !errors.Is(err, os.ErrExist) {
			t.Errorf("restoring %s over a file: %v", sample, err)
		}
	}
}

func TestDumpOfWhatCannotBeArchived(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(dir, "sub", "p")
	if err := syscall.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, fifo} {
		err := nar.Dump(io.Discard, path)
		var bad *fstree.TreeError
		if !errors.As(err, &bad) || err.Error() != "file '"+fifo+"' has an unsupported type" {
			t.Errorf("dumping %s: %v", path, err)
		}
	}
	if err := nar.Dump(io.Discard, filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("dumping what does not exist: %v", err)
	}
}

func TestDumpStopsWhenTheWriterFails(t *testing.T) {
	dir := t.TempDir()
	for _, size := range []int{10, 1 << 20} {
		path := filepath.Join(dir, "f")
		if err := os.WriteFile(path, make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := nar.Dump(failing{}, path); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestWriteFileIsTheDumpOfSuchAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, text := range []string{"", "a", "12345678", strings.Repeat("x", 100000)} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := nar.WriteFile(&b, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b.Bytes(), dump(t, path)) || nar.FileSize(int64(len(text))) != int64(b.Len()) {
			t.Errorf("another archive for %d bytes", len(text))
		}
		if got := b.Bytes()[nar.ContentsOffset:][:len(text)]; string(got) != text {
			t.Errorf("contents of %d bytes are not at ContentsOffset", len(text))
		}
	}
}

func TestAgainstNix(t *testing.T) {
	nix, err := exec.LookPath("nix-store")
	if err != nil {
		t.Skip("nix-store is not installed")
	}
	dir := filepath.Join(t.TempDir(), "d")
	for _, name := range []string{"a/b/c", "Z", "_", "a.b", "a-b", "\xff\xfe", "é", "sp ace\n"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, bytes.Repeat([]byte(name), 40000), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	want, err := exec.Command(nix, "--dump", dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(dump(t, dir), want) {
		t.Error("nix-store dumps another archive")
	}
}

func FuzzRestore(f *testing.F) {
	for _, pattern := range []string{"nar/*.nar", "nar-bad/*.nar"} {
		files, err := filepath.Glob(filepath.Join(golden, pattern))
		if err != nil || len(files) == 0 {
			f.Fatal("no samples: ", err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			if len(data) < 20000 {
				f.Add(data)
			}
		}
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		dest, err := os.MkdirTemp(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		defer fstree.RemoveAll(dest)
		r := bytes.NewReader(data)
		err = nar.Restore(r, filepath.Join(dest, "x"))
		if checked := nar.Skip(bytes.NewReader(data)); (checked == nil) != (err == nil) {
			t.Fatalf("restoring says %v, checking says %v", err, checked)
		}
		if err == nil && !bytes.Equal(dump(t, filepath.Join(dest, "x")), data[:len(data)-r.Len()]) {
			t.Error("another archive after restoring")
		}
	})
}

func BenchmarkDumpBigFile(b *testing.B) {
	const size = 64 << 20
	path := filepath.Join(b.TempDir(), "f")
	if err := os.WriteFile(path, make([]byte, size), 0o644); err != nil {
		b.Fatal(err)
	}
	b.Run("sha256 alone", func(b *testing.B) {
		b.SetBytes(size)
		block := make([]byte, nar.BlockSize)
		for b.Loop() {
			h := sha256.New()
			for range size / len(block) {
				h.Write(block)
			}
		}
	})
	b.Run("dump into sha256", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			if err := nar.Dump(sha256.New(), path); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("dump", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			if err := nar.Dump(io.Discard, path); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkRead(b *testing.B) {
	data := readGolden(b, "nar/dir-nested.nar")
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if err := nar.Skip(bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
}
