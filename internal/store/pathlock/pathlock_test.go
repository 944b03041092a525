package pathlock

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestAcquireExcludesAndReleases(t *testing.T) {
	dir := t.TempDir()
	a, b, c := filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "c")
	first, ok, err := Acquire([]string{b, a, b}, Try)
	if err != nil || !ok {
		t.Fatalf("first lock: %v, %v", ok, err)
	}
	if _, ok, err := Acquire([]string{c, b}, Try); ok || err != nil {
		t.Fatalf("a path in common was locked twice: %v, %v", ok, err)
	}
	// b was busy, so whatever else that attempt took must be free again
	other, ok, err := Acquire([]string{c}, Try)
	if err != nil || !ok {
		t.Fatalf("a failed attempt kept a lock: %v, %v", ok, err)
	}
	other.Release(Delete)
	first.Release(Keep)
	first.Release(Delete) // holds nothing any more: must not remove files
	for _, p := range []string{a, b} {
		if st, err := os.Stat(p + Suffix); err != nil || st.Size() != 0 || st.Mode().Perm() != 0o600 {
			t.Errorf("kept lock file of '%s': %v, %v", p, st, err)
		}
	}
	if _, err := os.Stat(c + Suffix); !os.IsNotExist(err) {
		t.Errorf("deleted lock file is still there: %v", err)
	}
}

// A waiter that opened the file before its removal must notice and lock the
// file's successor.
func TestRemovedFileIsStale(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x"+Suffix)
	early, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	f, ok, err := LockFile(name, Exclusive, Try)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	f.Remove()
	waiter := &File{name: name, fd: int(early.Fd())}
	if stale, err := waiter.Stale(); !stale || err != nil {
		t.Errorf("Stale = %v, %v; want true", stale, err)
	}
	// a file that something else wrote to: nobody must retry for ever
	if err := os.WriteFile(name, []byte("d"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, ok, err := Acquire([]string{strings.TrimSuffix(name, Suffix)}, Block)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	l.Release(Delete)
}

func TestSharedLocks(t *testing.T) {
	name := filepath.Join(t.TempDir(), "gc.lock")
	a, ok, err := LockFile(name, Shared, Try)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	b, ok, err := LockFile(name, Shared, Try)
	if err != nil || !ok {
		t.Fatal("two shared locks exclude each other", err)
	}
	if _, ok, _ := LockFile(name, Exclusive, Try); ok {
		t.Error("exclusive lock beside shared ones")
	}
	a.Close()
	if ok, err := LockFD(b.FD(), Exclusive, Try); !ok || err != nil {
		t.Errorf("conversion with nobody else: %v, %v", ok, err)
	}
	UnlockFD(b.FD())
	if c, ok, _ := LockFile(name, Exclusive, Try); !ok {
		t.Error("unlocked file is still locked")
	} else {
		c.Close()
	}
	b.Close()
}

// Other programs must see our locks: flock(1) takes them the same way.
func TestOtherProcessSeesLock(t *testing.T) {
	flock, err := exec.LookPath("flock")
	if err != nil {
		t.Skip("flock(1) is not in PATH")
	}
	path := filepath.Join(t.TempDir(), "out")
	l, _, err := Acquire([]string{path}, Block)
	if err != nil {
		t.Fatal(err)
	}
	if exec.Command(flock, "-n", path+Suffix, "true").Run() == nil {
		t.Error("another process could lock the path")
	}
	l.Release(Keep)
	if out, err := exec.Command(flock, "-n", path+Suffix, "true").CombinedOutput(); err != nil {
		t.Errorf("released lock is still held: %v %s", err, out)
	}
}

func TestErrorsNameTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "out")
	_, _, err := Acquire([]string{path}, Try)
	if err == nil || !strings.Contains(err.Error(), "opening lock file '"+path+".lock'") {
		t.Errorf("error %v", err)
	}
}
