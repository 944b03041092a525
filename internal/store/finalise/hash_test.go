package finalise

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/digest"
)

func TestHashTrees(t *testing.T) {
	dir := scratch(t)
	var trees []Tree
	for i := range 40 { // the sizes make later ones ready before earlier ones
		path := filepath.Join(dir, fmt.Sprint(i))
		write(t, path, strings.Repeat("x", (40-i)<<12), 0o644)
		trees = append(trees, Tree{path, []digest.Algorithm{digest.SHA256, digest.MD5}[i%2]})
	}
	tree(t, filepath.Join(dir, "tree"))
	must(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o644))
	trees = append(trees, Tree{filepath.Join(dir, "tree"), digest.SHA512})
	good := len(trees)
	for _, name := range []string{"none", "pipe", "none/below"} {
		trees = append(trees, Tree{filepath.Join(dir, name), digest.SHA256})
	}
	trees = append(trees, Tree{filepath.Join(dir, "0"), 99}, Tree{filepath.Join(dir, "0/below"), digest.SHA256})

	var out bytes.Buffer
	must(t, hashTrees(trees, &out))
	lines := json.NewDecoder(&out)
	for i, want := range trees {
		var got Sum
		must(t, lines.Decode(&got))
		switch {
		case i < good:
			if got.Fault != "" || got.Error != "" || got.Digest != digest.Of(want.Algorithm, archive(t, want.Path)) {
				t.Errorf("%s: %+v", want.Path, got)
			}
		case i < good+3:
			if got.Fault == "" || got.Error != "" || got.Digest.IsSet() {
				t.Errorf("%s: %+v, want a fault of the tree", want.Path, got)
			}
		case got.Fault != "" || got.Error == "" || got.Digest.IsSet():
			t.Errorf("%s: %+v, want an error", want.Path, got)
		}
	}
	if rest, _ := io.ReadAll(lines.Buffered()); strings.TrimSpace(string(rest)) != "" {
		t.Errorf("and then it said %q", rest)
	}
	must(t, hashTrees(nil, &out))
}

// closedPipe takes some writes.
type closedPipe int

func (c *closedPipe) Write(b []byte) (int, error) {
	if *c--; *c < 0 {
		return 0, os.ErrClosed
	}
	return len(b), nil
}

func TestHashTreesUnheard(t *testing.T) {
	path := filepath.Join(scratch(t), "f")
	write(t, path, "", 0o644)
	trees := make([]Tree, 100)
	for i := range trees {
		trees[i] = Tree{path, digest.SHA256}
	}
	out := closedPipe(3)
	if err := hashTrees(trees, &out); !errors.Is(err, os.ErrClosed) {
		t.Errorf("hashing for nobody: %v", err)
	}
}
