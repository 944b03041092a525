package goal

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
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

// TestEngineSweepsUsers has something run as the build user that an engine has
// left that died: it must be gone before the builder starts.
func TestEngineSweepsUsers(t *testing.T) {
	l := newLab(t)
	if l.opt.Users == nil {
		t.Skip("skipped: an ordinary user has no build users")
	}
	l.opt.Users.Count = sandbox.IDsPerBuild
	left := exec.Command("/bin/sleep", "1000")
	left.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: l.opt.Users.StartID, Gid: l.opt.Users.StartID}}
	if err := left.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = left.Process.Kill()
		_ = left.Wait()
	}()
	// Until it is waited for, what is dead can be seen.
	d := l.drv("x", fmt.Sprintf("grep ^State: /proc/%d/status > $out", left.Process.Pid))
	l.wantStatuses(l.realise(d), Built)
	if state := l.read(l.out(d, "out")); !strings.Contains(state, "zombie") {
		t.Errorf("while the builder ran, the other process was in %q", state)
	}
	l.wantClean()
}

// TestEngineTakesBuildersOutputsOnly has a builder present a file of somebody
// else's as its own.
func TestEngineTakesBuildersOutputsOnly(t *testing.T) {
	l := newLab(t)
	if l.opt.Users == nil {
		t.Skip("skipped: an ordinary user's builders have the user's files")
	}
	shared := filepath.Join(l.dir, "shared")
	if err := os.Mkdir(shared, 0o755); err != nil {
		t.Fatal(err)
	}
	theirs := filepath.Join(shared, "theirs")
	if err := os.WriteFile(theirs, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(theirs, 0o666); err != nil { // or the kernel would not let it be linked
		t.Fatal(err)
	}
	d := l.drv("x", fmt.Sprintf("mkdir $out; ln %s $out/file", theirs))
	if os.Link(theirs, filepath.Join(l.store.RealDir(), "probe")) != nil {
		t.Skip("skipped: the store is on another file system")
	}
	_ = os.Remove(filepath.Join(l.store.RealDir(), "probe"))
	results, f := l.fails(d)
	l.wantStatuses(results, OutputRejected)
	if !strings.Contains(f.Error(), "invalid ownership on file '") {
		t.Errorf("error: %v", f)
	}
	if info, err := os.Stat(theirs); err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("the file has changed: %v, %v", info.Mode(), err)
	}
	l.wantClean()
}

// TestEngineKeepsLockFiles wants the lock files of a failed build to stay:
// somebody may be waiting at one, and would not meet those who come later.
func TestEngineKeepsLockFiles(t *testing.T) {
	l := newLab(t)
	d := l.drv("x", "exit 1", outputs("dev", "out"))
	l.fails(d)
	for _, id := range []string{"dev", "out"} {
		if _, err := os.Lstat(l.store.RealPath(l.out(d, id)) + pathlock.Suffix); err != nil {
			t.Errorf("output %s: %v", id, err)
		}
	}
}
