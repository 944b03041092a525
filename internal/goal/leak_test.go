package goal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gobuild/internal/store/drv"
	"gobuild/internal/store/finalise"
	"gobuild/internal/store/storepath"
	"gobuild/internal/worker"
)

// descriptors are what this process has open.
func descriptors(t *testing.T) map[string]string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	open := map[string]string{}
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			open[e.Name()] = to
		}
	}
	return open
}

// TestEngineLeaksNothing runs many builds that succeed, fail and are killed in
// one engine, and wants no descriptor, goroutine or memory of them to stay.
func TestEngineLeaksNothing(t *testing.T) {
	n := 200
	if testing.Short() {
		n = 40
	}
	l := newLab(t)
	l.opt.KeepGoing = true
	l.opt.MaxLogSize = 300_000
	var all []storepath.Path
	for i := range n {
		script := "echo > $out"
		switch i % 8 {
		case 1:
			script = "exit 1"
		case 2:
			script = "x=0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\n" +
				"x=$x$x$x$x$x$x$x$x$x$x; for i in 1 2 3 4 5 6 7 8 9 10; do echo $x$x$x$x$x$x$x$x$x$x; done; echo > $out"
		case 3:
			script = "while :; do echo too much; done"
		case 4:
			script = "mkdir $out; for i in 0 1 2 3 4 5 6 7; do for j in 0 1 2 3 4 5 6 7 8 9; do echo > $out/$i$j; done; done"
		case 5:
			script = "sleep 1000 & echo > $out"
		}
		all = append(all, l.drv(fmt.Sprint("x", i), script))
	}
	l.realise(all[0])
	e := l.engine()
	// once, for what is opened at first use and kept
	_, _ = e.Realise(targets(all[:8]...))
	before, goroutines := descriptors(t), runtime.NumGoroutine()
	_, err := e.Realise(targets(all...))
	if err == nil {
		t.Error("all builds were successful")
	}
	after := descriptors(t)
	for fd, to := range after {
		if _, ok := before[fd]; !ok {
			t.Errorf("descriptor %s stays open: %s", fd, to)
		}
	}
	if len(after) > len(before) {
		t.Errorf("there were %d descriptors, and are %d", len(before), len(after))
	}
	if now := runtime.NumGoroutine(); now > goroutines {
		t.Errorf("there were %d goroutines, and are %d", goroutines, now)
	}
	if len(e.drvs)+len(e.substs)+len(e.held)+len(e.outlines) > 0 || e.w.SlotsUsed(worker.BuildSlot) > 0 {
		t.Errorf("the engine remembers %d goals, %d locks, %d outlines, %d slots", len(e.drvs)+len(e.substs), len(e.held), len(e.outlines),
			e.w.SlotsUsed(worker.BuildSlot))
	}
	l.nothingRuns()
	l.wantNoLocks()
	l.wantClean()
}

// TestGoalsAreReleased wants the memory of goals back as soon as they have
// ended.
func TestGoalsAreReleased(t *testing.T) {
	l := newLab(t)
	a := l.drv("a", "echo > $out")
	b := l.drv("b", "echo > $out", l.needs(a))
	e := l.engine()
	freed := make(chan bool, 1)
	runtime.AddCleanup(e.derivation(a, nil, Normal), func(freed chan bool) { freed <- true }, freed)
	if _, err := e.Realise(targets(b)); err != nil {
		t.Fatal(err)
	}
	// One collection may still find a pointer on a stack that is no longer used.
	for deadline := time.Now().Add(10 * time.Second); ; {
		runtime.GC()
		select {
		case <-freed:
			runtime.KeepAlive(e)
			return
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatal("a goal that has ended is kept")
		}
	}
}

// finaliserChild is the process of a finaliser of ours, or 0.
func finaliserChild() int {
	found, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range found {
		text, _ := os.ReadFile(name)
		stat, _ := os.ReadFile(filepath.Dir(name) + "/stat")
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if strings.Contains(string(text), FinaliseChild) && len(fields) > 1 && fields[1] == strconv.Itoa(os.Getpid()) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			return pid
		}
	}
	return 0
}

// TestAbandonedFinaliserLeavesNoCopy kills the finaliser of a fixed output
// while it copies.
func TestAbandonedFinaliserLeavesNoCopy(t *testing.T) {
	l := newLab(t)
	l.opt.FsyncOutputs = true
	d := l.drv("x", "dd if=/dev/zero of=$out bs=1M count=64 2>/dev/null", fixed("r:sha256", strings.Repeat("0", 64)))
	dest := l.store.RealPath(l.out(d, "out"))
	caught := 0
	l.opt.Now = func() time.Time { // asked before each sleep
		for pid := finaliserChild(); pid > 0 && caught == 0; {
			if len(finalise.Copies(dest)) > 0 {
				caught = pid
				if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
					t.Error(err)
				}
			}
		}
		return time.Now()
	}
	l.opt.Interrupted = func() error {
		if caught > 0 {
			return worker.ErrInterrupted
		}
		return nil
	}
	if _, err := l.engine().Realise(targets(d)); !errors.Is(err, worker.ErrInterrupted) || caught == 0 {
		t.Errorf("ended with %v, having stopped process %d", err, caught)
	}
	if left := finalise.Copies(dest); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	l.wantNoLocks()
	l.wantClean()
}

// TestOrdinaryUser runs the tests of the engine as somebody who is not root.
func TestOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: all tests run as an ordinary user")
	}
	if testing.Short() {
		t.Skip("skipped: short")
	}
	const nobody = 65534
	home, err := os.MkdirTemp("", "goal-user-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(home)
	program := filepath.Join(home, "goal.test")
	self, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(program, self, 0o755)
	}
	if err == nil {
		err = os.Chown(home, nobody, nobody)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-test.run=^TestEngine", "-test.short")
	cmd.Dir, cmd.Env = home, []string{"TMPDIR=" + home, "HOME=" + home, "PATH=/usr/bin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("as an ordinary user: %v\n%s", err, out)
	}
}

// TestOneEngineForSeveralRuns wants a run to be judged by itself.
func TestOneEngineForSeveralRuns(t *testing.T) {
	l := newLab(t)
	bad, gone := l.drv("bad", "exit 1"), l.drv("gone", "echo > $out", func(d *drv.Derivation) { d.Platform = "elsewhere" })
	e := l.engine()
	for _, tc := range []struct {
		target storepath.Path
		code   int
	}{{bad, 100}, {gone, 1}, {bad, 100}} {
		_, err := e.Realise(targets(tc.target))
		if f, ok := err.(*Failure); !ok || f.ExitCode != tc.code {
			t.Errorf("'%s' ended with %v, want a failure with exit code %d", tc.target, err, tc.code)
		}
	}
	l.wantClean()
}
