package upload

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"gobuild/internal/store/fstree"
	"gobuild/internal/store/nar"
)

// keeper is a sink of blocks that keeps the archive.
type keeper struct {
	*archive
	all bytes.Buffer
}

func list(t *testing.T, dir string) ([]byte, *lister, error) {
	t.Helper()
	k := &keeper{}
	k.archive = &archive{ctx: t.Context(), out: &k.all, hash: discard{}, moved: func(uint64) {}, lister: newLister()}
	if err := nar.DumpTree(k.archive, fstree.Walk{Path: dir}, k.lister); err != nil {
		t.Fatal(err)
	}
	text, err := k.lister.end()
	checkOffsets(t, k.all.Bytes(), text, err)
	return text, k.lister, err
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Sum(b []byte) []byte         { return b }
func (discard) Reset()                      {}
func (discard) Size() int                   { return 0 }
func (discard) BlockSize() int              { return 1 }

// A node is what a listing says of a file.
type node struct {
	Type       string
	Size       uint64
	NarOffset  uint64
	Executable bool
	Target     string
	Entries    map[string]*node
}

// checkOffsets looks into the archive at the places that the listing names:
// before the contents their length must stand.
func checkOffsets(t *testing.T, archive, text []byte, err error) {
	t.Helper()
	if err != nil {
		return
	}
	var all struct {
		Version int
		Root    *node
	}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	var check func(*node)
	check = func(n *node) {
		if n.Type == "regular" && binary.LittleEndian.Uint64(archive[n.NarOffset-8:]) != n.Size {
			t.Errorf("no contents of %d bytes at %d", n.Size, n.NarOffset)
		}
		for _, e := range n.Entries {
			check(e)
		}
	}
	check(all.Root)
}

func TestListing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "top")
	id := "lib/debug/.build-id/ab/" + strings.Repeat("0123456789", 4)[:38] + ".debug"
	for _, d := range []string{"empty", "sub/deeper", filepath.Dir(id)} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"a\"\\\n\x01é": "x", "run": "#!", "sub/deeper/none": "", id: "debug", filepath.Dir(id) + "/other": "",
		"sub/big": strings.Repeat("y", 1<<20),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "run"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a\tb", filepath.Join(dir, "zlink")); err != nil {
		t.Fatal(err)
	}
	text, l, err := list(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`{"version":1,"root":{"type":"directory","entries":{"a\"\\\n\u0001é":{"type":"regular","size":1,"narOffset":`,
		`,"empty":{"type":"directory","entries":{}},"lib":{`,
		`"run":{"type":"regular","size":2,"executable":true,"narOffset":`,
		`"zlink":{"type":"symlink","target":"a\tb"}}}}`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s\nlacks %s", text, want)
		}
	}
	want := []debugFile{{"ab" + filepath.Base(id), id}}
	if !reflect.DeepEqual(l.debug, want) {
		t.Errorf("debugging information: %v, want %v", l.debug, want)
	}
	if err := os.WriteFile(filepath.Join(dir, "bad\xff"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := list(t, dir); err == nil || !strings.Contains(err.Error(), `'"bad\xff"' cannot be listed`) {
		t.Errorf("a name that JSON cannot express: %v", err)
	}
}

func FuzzAppendString(f *testing.F) {
	f.Add("plain \"\\\n\r\t\x00\x1f\x7f é <&>")
	f.Fuzz(func(t *testing.T, s string) {
		var back string
		if err := json.Unmarshal(appendString(nil, s), &back); utf8.ValidString(s) && (err != nil || back != s) {
			t.Errorf("%q reads as %q, %v", s, back, err)
		}
	})
}
