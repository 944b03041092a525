package sandbox

import (
	"os"
	"path"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestStale(t *testing.T) {
	dir := t.TempDir()
	p := &Policy{BuildDir: dir}
	for _, name := range []string{"nix-1-0", "nix-2-0", "nix-3-0", "nix-4", "other", "nix-x-1"} {
		if err := os.Mkdir(path.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(path.Join(dir, "nix-2-0"), 0o755); err != nil { // kept
		t.Fatal(err)
	}
	fd, err := unix.Open(path.Join(dir, "nix-3-0"), openDir, 0) // in use
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Flock(fd, unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if got := p.Stale(time.Now()); len(got) != 0 {
		t.Errorf("new directories are taken for stale: %v", got)
	}
	want := []string{path.Join(dir, "nix-1-0")}
	if got := p.Stale(time.Now().Add(2 * staleAge)); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
