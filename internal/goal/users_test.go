package goal

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gobuild/internal/sandbox"
	"gobuild/internal/store/pathlock"
)

// TestEngineWaitsForAUser has the only build user in use elsewhere for a while.
func TestEngineWaitsForAUser(t *testing.T) {
	l := newLab(t)
	if l.opt.Users == nil {
		t.Skip("skipped: an ordinary user has no build users")
	}
	l.opt.Users.Count = sandbox.IDsPerBuild
	pool := filepath.Join(l.cfg.StateDir, "userpool2")
	if err := os.MkdirAll(pool, 0o755); err != nil {
		t.Fatal(err)
	}
	lock, ok, err := pathlock.LockFile(filepath.Join(pool, "slot-0"), pathlock.Exclusive, pathlock.Try)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	d := l.drv("x", "id -u > $out")
	waiting := fmt.Sprintf("start 111 waiting for a free build user ID for '%s'", d)
	asked := 0
	l.opt.Interrupted = func() error {
		if asked++; asked == 8 {
			if l.sink.has("start 105") || !l.sink.has(waiting) {
				t.Errorf("it does not wait:\n%s", l.sink)
			}
			lock.Close()
		}
		return nil
	}
	l.wantStatuses(l.realise(d), Built)
	if n := strings.Count(l.sink.String(), waiting); n != 1 {
		t.Errorf("the wait was announced %d times", n)
	}
	if got, want := l.read(l.out(d, "out")), fmt.Sprintln(l.opt.Users.StartID); got != want {
		t.Errorf("the builder was user %q, want %q", got, want)
	}
	l.wantClean()
	l.wantNoLocks()
}

// TestEngineSharesUsers builds two at once with one user: one after the other.
func TestEngineSharesUsers(t *testing.T) {
	l := newLab(t)
	if l.opt.Users == nil {
		t.Skip("skipped: an ordinary user has no build users")
	}
	l.opt.Users.Count = sandbox.IDsPerBuild
	shared := filepath.Join(l.dir, "shared")
	if err := os.Mkdir(shared, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(shared, 0o777); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("mkdir %s/busy || exit 9; id -u; rmdir %s/busy; echo > $out", shared, shared)
	l.wantStatuses(l.realise(l.drv("a", script), l.drv("b", script), l.drv("c", script)), Built, Built, Built)
	l.wantClean()
	l.wantNoLocks()
}
