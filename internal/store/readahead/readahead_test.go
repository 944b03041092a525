package readahead

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/storepath"
)

func name(i int) storepath.Path {
	return storepath.Path(fmt.Sprintf("/nix/store/%032d-n%d.drv", i, i))
}

func TestReader(t *testing.T) {
	dir := t.TempDir()
	const n = 1000
	for i := range n {
		text := fmt.Sprintf("text %d", i)
		if err := os.WriteFile(filepath.Join(dir, name(i).Base()), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r, err := New(dir, 2)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[storepath.Path]string{}
	for i := 0; i < n || r.InFlight() > 0; {
		for i < n && !r.Full() {
			var paths []storepath.Path
			for ; i < n && len(paths) < BatchSize; i++ {
				paths = append(paths, name(i))
			}
			r.Ask(paths)
		}
		b := r.Next()
		for j, p := range b.Paths {
			seen[p] = string(b.Text(j))
		}
		r.Done(b)
	}
	r.Close()
	for i := range n {
		if got, want := seen[name(i)], fmt.Sprintf("text %d", i); got != want {
			t.Fatalf("%s: %q, want %q", name(i), got, want)
		}
	}
}

// TestOddFiles: what is no plain file, or too large, or not there, has no text,
// and does not disturb its neighbours.
func TestOddFiles(t *testing.T) {
	dir := t.TempDir()
	at := func(i int) string { return filepath.Join(dir, name(i).Base()) }
	for i, text := range map[int]string{0: "first", 2: "third", 7: "last", 5: ""} {
		if err := os.WriteFile(at(i), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(at(0), at(1)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(at(3), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at(4), make([]byte, maxFile+1), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := New(dir, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var paths []storepath.Path
	for i := range 8 {
		paths = append(paths, name(i))
	}
	r.Ask(paths)
	b := r.Next()
	for i, want := range []string{"first", "", "third", "", "", "", "", "last"} {
		if got := string(b.Text(i)); got != want {
			t.Errorf("text %d: %q, want %q", i, got, want)
		}
	}
}

func TestNoDirectory(t *testing.T) {
	if _, err := New("/nonexistent", 1); err == nil {
		t.Error("no error")
	}
}
