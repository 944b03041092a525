package goal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/storepath"
	"gobuild/internal/worker"
)

// long is a time to sleep, in seconds, by which the sleeper can be found.
func long() string { return fmt.Sprint(100_000_000 + os.Getpid()) }

// nothingRuns wants none of the lab's builders to run any more, and no process
// to be a child of ours. What was killed may take a moment to be gone.
func (l *lab) nothingRuns() {
	l.Helper()
	left := sleepers()
	for deadline := time.Now().Add(5 * time.Second); len(left) > 0 && time.Now().Before(deadline); left = sleepers() {
		runtime.Gosched()
	}
	if len(left) > 0 {
		l.Errorf("still there: %q", left)
	}
	if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
		l.Errorf("there are children: %d, %v", pid, err)
	}
}

// sleepers are the processes that sleep for that long.
func sleepers() []string {
	var all []string
	found, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range found {
		if text, err := os.ReadFile(name); err == nil && strings.Contains(string(text), "sleep\x00"+long()) {
			stat, _ := os.ReadFile(filepath.Dir(name) + "/stat")
			all = append(all, string(stat))
		}
	}
	return all
}

// stubborn is a builder that leaves processes in sessions of their own, if the
// machine has a program for that, and that says when.
func stubborn(t testing.TB, marker string) string {
	setsid := "setsid"
	if _, err := os.Stat("/usr/bin/setsid"); err != nil {
		t.Log("there is no setsid here: builders do not try to hide")
		setsid = ""
	}
	return fmt.Sprintf("sh -c 'sleep %s & %s sleep %s & echo > $out.%s; wait' & ", long(), setsid, long(), marker)
}

// TestEngineInterrupted ends a run at each of its moments and wants nothing to
// be left but what was finished.
func TestEngineInterrupted(t *testing.T) {
	for _, mode := range []string{"plain", "sandboxed"} {
		t.Run(mode, func(t *testing.T) {
			step := 1
			if testing.Short() {
				step = 5
			}
			for n, undisturbed := 0, 0; n < 60 && undisturbed < 2; n += step {
				if !interruptAt(t, n, mode == "sandboxed") {
					undisturbed++
				}
				if t.Failed() {
					t.Fatalf("interrupted at call %d", n)
				}
			}
		})
	}
}

// interruptAt interrupts at the n-th chance, and tells whether there was one.
func interruptAt(t *testing.T, n int, sandboxed bool) bool {
	l := newLab(t)
	if sandboxed {
		l.sandboxed()
	}
	l.opt.MaxJobs = 2
	l.opt.FsyncOutputs = n%2 == 1 // outputs are finalised by a child then
	a := l.drv("a", "mkdir -p x/y; sleep "+long()+" & echo > $out; dd if=/dev/zero bs=100k count=1; exit 0")
	f := l.drv("f", "sleep 0.01; echo hello > $out", fixed("sha256", helloHash))
	b := l.drv("b", "sleep 0.01; echo > $dev; echo > $out", outputs("dev", "out"), l.needs(a))
	wrong := l.drv("wrong", "echo hello > $out", fixed("sha256", strings.Repeat("0", 64)), l.needs(f))
	top := l.drv("top", "echo > $out", l.needs(b, wrong))
	asked := 0
	l.opt.Interrupted = func() error {
		if asked++; asked > n {
			return worker.ErrInterrupted
		}
		return nil
	}
	results, err := l.engine().Realise(targets(top, b))
	var failed *Failure
	if !errors.Is(err, worker.ErrInterrupted) && !errors.As(err, &failed) {
		t.Errorf("ended with %v", err)
	}
	if failed == nil {
		for _, r := range results {
			if r.Status != MiscFailure && !r.Status.OK() || r.Status == MiscFailure && r.Err.Error() != "building of '"+string(r.Path)+"' was not finished" {
				t.Errorf("a result is %+v", r)
			}
		}
	}
	l.nothingRuns()
	l.wantNoLocks()
	l.wantClean()
	return failed == nil
}

// TestEngineAbandonsStubbornBuilders ends builders without a sandbox that have
// left processes outside of their group.
func TestEngineAbandonsStubbornBuilders(t *testing.T) {
	l := newLab(t)
	marker := filepath.Base(l.dir)
	d := l.drv("x", stubborn(t, marker)+"sleep "+long())
	sign := l.store.RealPath(l.out(d, "out")) + "." + marker
	l.opt.Interrupted = func() error {
		if _, err := os.Stat(sign); err == nil {
			return worker.ErrInterrupted
		}
		return nil
	}
	if _, err := l.engine().Realise(targets(d)); !errors.Is(err, worker.ErrInterrupted) {
		t.Fatalf("ended with %v", err)
	}
	os.Remove(sign)
	l.nothingRuns()
	l.wantNoLocks()
	l.wantClean()
}

// TestEngineEndsWhatBuildersLeave is the same for builders that end.
func TestEngineEndsWhatBuildersLeave(t *testing.T) {
	for _, how := range []string{"exit 1", "kill -9 $$", "echo > $out"} {
		l := newLab(t)
		marker := filepath.Base(l.dir)
		d := l.drv("x", stubborn(t, marker)+"while ! [ -e $out."+marker+" ]; do :; done; rm $out."+marker+"; "+how)
		_, err := l.engine().Realise(targets(d))
		if (err == nil) != (how == "echo > $out") {
			t.Errorf("%s: ended with %v", how, err)
		}
		l.nothingRuns()
		l.wantClean()
	}
}

// TestPlanInterrupted does not make the user wait for a large plan.
func TestPlanInterrupted(t *testing.T) {
	l := newLab(t)
	var all []storepath.Path
	for i := range 300 {
		all = append(all, l.drv(fmt.Sprint("x", i), ""))
	}
	l.opt.Interrupted = func() error { return worker.ErrInterrupted }
	if _, err := l.engine().Plan(targets(all...), JustLook); !errors.Is(err, worker.ErrInterrupted) {
		t.Errorf("planning ended with %v", err)
	}
}
