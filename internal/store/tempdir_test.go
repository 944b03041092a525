package store

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/pathlock"
)

// What those who died have left goes with the first temporary directory of the
// next one; what the living have stays.
func TestTempDirsOfTheDead(t *testing.T) {
	s := newStore(t)
	living, err := s.NewTempDir()
	if err != nil {
		t.Fatal(err)
	}
	dead, err := s.NewTempDir()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dead.Path+"/x", nil, 0o400); err != nil {
		t.Fatal(err)
	}
	dead.mark.Release(pathlock.Keep) // as the kernel does when a process ends

	again := openStore(t, s.cfg)
	fresh, err := again.NewTempDir()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(dead.Path); !errors.Is(err, unix.ENOENT) {
		t.Errorf("the dead one's directory: %v", err)
	}
	if _, err := os.Lstat(living.Path); err != nil {
		t.Errorf("the living one's directory: %v", err)
	}
	living.Remove()
	fresh.Remove()
	if left, err := os.ReadDir(s.state(tempMarks)); err != nil || len(left) > 0 {
		t.Errorf("marks are left: %v, %v", left, err)
	}
}
