package goal

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gobuild/internal/activity"
	"gobuild/internal/store"
	"gobuild/internal/store/finalise"
	"gobuild/internal/store/pathlock"
	"gobuild/internal/store/storepath"
)

// wantNoLocks tries all locks in the store.
func (l *lab) wantNoLocks() {
	l.Helper()
	files, _ := filepath.Glob(l.store.RealDir() + "/*.lock")
	for _, name := range files {
		f, ok, err := pathlock.LockFile(name, pathlock.Exclusive, pathlock.Try)
		if err != nil || !ok {
			l.Errorf("'%s' is still locked: %v", name, err)
			continue
		}
		f.Close()
	}
}

const (
	helloHash = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03" // SHA-256 of "hello\n"
	helloSRI  = "sha256-WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM="
)

// TestEngineBuildsOneOutputOnce has two derivations make the same fixed output.
func TestEngineBuildsOneOutputOnce(t *testing.T) {
	l := newLab(t)
	l.sink.level = activity.Debug
	made := func(how string) storepath.Path {
		return l.drv("hello", "echo "+how+"; echo hello > $out", fixed("sha256", helloHash))
	}
	a, b, c := made("one way"), made("another way"), made("a third way")
	if a == b || l.out(a, "out") != l.out(b, "out") {
		t.Fatalf("'%s' and '%s' are not two ways to one path", a, b)
	}
	l.opt.MaxJobs = 3
	results := l.realise(a, b, c)
	statuses := []Status{results[0].Status, results[1].Status, results[2].Status}
	slices.Sort(statuses)
	if !slices.Equal(statuses, []Status{Built, AlreadyValid, AlreadyValid}) {
		t.Errorf("statuses %v", statuses)
	}
	if waited := strings.Count(l.sink.String(), "is locked by another goal"); waited < 2 {
		t.Errorf("%d goals waited for another\n%s", waited, l.sink)
	}
	if built := strings.Count(l.sink.String(), "start 105"); built != 1 {
		t.Errorf("built %d times", built)
	}
	l.wantClean()
}

// elsewhere makes a path valid as another process would.
func elsewhere(s *store.Store, p, deriver storepath.Path, contents string) error {
	name := s.RealPath(p)
	if err := os.WriteFile(name, []byte(contents), 0o444); err != nil {
		return err
	}
	if err := os.Chtimes(name, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		return err
	}
	found, err := finalise.HashAndScan(name, nil)
	if err != nil {
		return err
	}
	return s.Register([]store.Info{{Path: p, NarHash: found.NarHash, NarSize: uint64(found.NarSize), Deriver: deriver, Ultimate: true}})
}

// TestEngineWaitsForALock has somebody else hold the lock on an output, who
// then gives up or has made it.
func TestEngineWaitsForALock(t *testing.T) {
	for _, made := range []bool{false, true} {
		l := newLab(t)
		d := l.drv("x", "echo built here > $out")
		out := l.out(d, "out")
		lock, ok, err := pathlock.Acquire([]string{l.store.RealPath(out)}, pathlock.Try)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		other, asked := l.open(), 0
		l.opt.Interrupted = func() error {
			if asked++; asked != 8 {
				return nil
			}
			if !l.sink.has("start 111 waiting for lock on '" + string(out) + "'") {
				t.Errorf("nothing is said of the wait:\n%s", l.sink)
			}
			if made {
				if err := elsewhere(other, out, d, "built elsewhere\n"); err != nil {
					t.Error(err)
				}
			}
			lock.Release(pathlock.Disposal(made))
			return nil
		}
		results := l.realise(d)
		want, text := Built, "built here\n"
		if made {
			want, text = AlreadyValid, "built elsewhere\n"
		}
		l.wantStatuses(results, want)
		if got := l.read(out); got != text {
			t.Errorf("the output is %q, want %q", got, text)
		}
		if n := strings.Count(l.sink.String(), "start 111"); n != 1 {
			t.Errorf("the wait was announced %d times", n)
		}
		l.wantClean()
		l.wantNoLocks()
	}
}

// TestEngineWaitsForASlotAgain has the only slot taken while a goal waits for a
// lock, which it waited for with the slot in hand.
func TestEngineWaitsForASlotAgain(t *testing.T) {
	l := newLab(t)
	l.opt.MaxJobs = 1
	marks := l.dir + "/marks" // for builders of any user
	must(t, errors.Join(os.Mkdir(marks, 0o777), os.Chmod(marks, 0o777)))
	running := marks + "/running"
	first := l.drv("a", "test ! -e "+running+" && echo > $out")
	second := l.drv("b", "echo > "+running+" || exit 1; sleep 0.3; rm "+running+"; echo > $out")
	lock, ok, err := pathlock.Acquire([]string{l.store.RealPath(l.out(first, "out"))}, pathlock.Try)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	l.opt.Interrupted = func() error {
		_, isRunning := os.Lstat(running)
		_, hasRun := os.Lstat(l.store.RealPath(l.out(second, "out")))
		if lock != nil && (isRunning == nil || hasRun == nil) {
			lock.Release(pathlock.Delete)
			lock = nil
		}
		return nil
	}
	l.wantStatuses(l.realise(first, second), Built, Built)
}

// TestEngineFailsWaitingForALock ends a wait by an error.
func TestEngineFailsWaitingForALock(t *testing.T) {
	l := newLab(t)
	d := l.drv("x", "echo > $out")
	name := l.store.RealPath(l.out(d, "out")) + pathlock.Suffix
	lock, ok, err := pathlock.LockFile(name, pathlock.Exclusive, pathlock.Try)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	asked := 0
	l.opt.Interrupted = func() error {
		if asked++; asked == 5 { // what is no file cannot be locked
			lock.Remove()
			if err := os.Symlink("nowhere", name); err != nil {
				t.Error(err)
			}
		}
		return nil
	}
	results, _ := l.fails(d)
	l.wantStatuses(results, MiscFailure)
	os.Remove(name)
	l.wantClean()
}
