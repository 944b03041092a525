package goal

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gobuild/internal/store/pathlock"
	"gobuild/internal/store/storepath"
)

// protected are all temporary roots in the lab's store.
func (l *lab) protected() string {
	l.Helper()
	files, err := filepath.Glob(filepath.Join(l.cfg.StateDir, "temproots", "*"))
	if err != nil {
		l.Fatal(err)
	}
	var all strings.Builder
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			l.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}

// reopen is as if another process had made all that there is: nothing is a
// temporary root any more.
func (l *lab) reopen() {
	l.Helper()
	if err := l.store.Close(); err != nil {
		l.Fatal(err)
	}
	if left := l.protected(); left != "" {
		l.Fatalf("still protected: %q", left)
	}
	l.store = l.open()
}

// TestEngineProtects wants a derivation and its outputs to be temporary roots
// when the builder starts, and a path when it is fetched.
func TestEngineProtects(t *testing.T) {
	for name, started := range map[string]string{"built": "start 105", "fetched": "start 108"} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			target := l.path("fetched")
			want := []storepath.Path{target}
			if name == "built" {
				target = l.drv("x", "echo > $out; echo > $dev", outputs("dev", "out"))
				want = []storepath.Path{target, l.out(target, "dev"), l.out(target, "out")}
			} else {
				l.caches(fakeCache{string(target): {Contents: "x"}})
			}
			l.reopen()
			looked := false
			l.opt.Interrupted = func() error {
				if looked || !l.sink.has(started) {
					return nil
				}
				looked = true
				roots := "\x00" + l.protected()
				for _, p := range want {
					if !strings.Contains(roots, "\x00"+string(p)+"\x00") {
						t.Errorf("'%s' is not protected", p)
					}
				}
				return nil
			}
			l.realise(target)
			if !looked {
				t.Errorf("nobody looked:\n%s", l.sink)
			}
		})
	}
}

// TestSubstitutionWaitsForALock has somebody else hold the lock on a path, who
// then gives up or has made it.
func TestSubstitutionWaitsForALock(t *testing.T) {
	for _, made := range []bool{false, true} {
		l := newLab(t)
		p := l.path("x")
		l.caches(fakeCache{string(p): {Contents: "fetched here"}})
		lock, ok, err := pathlock.Acquire([]string{l.store.RealPath(p)}, pathlock.Try)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		other, polls := l.open(), 0
		l.opt.Interrupted = func() error {
			if !l.sink.has("start 111 waiting for lock on '" + string(p) + "'") {
				return nil
			}
			if polls++; polls != 5 {
				return nil
			}
			if made {
				if err := elsewhere(other, p, "", "made elsewhere"); err != nil {
					t.Error(err)
				}
			}
			lock.Release(pathlock.Disposal(made))
			return nil
		}
		results := l.realise(p)
		want, text := Substituted, "fetched here"
		if made {
			want, text = AlreadyValid, "made elsewhere"
		}
		l.wantStatuses(results, want)
		if got := l.read(p); got != text {
			t.Errorf("the path has %q, want %q", got, text)
		}
		if n := strings.Count(l.sink.String(), "start 111"); n != 1 {
			t.Errorf("the wait was announced %d times", n)
		}
		if fetched := l.sink.has("start 108"); fetched == made {
			t.Errorf("fetched: %v", fetched)
		}
		l.unfetched()
		l.wantNoLocks()
	}
}

// TestHookPostponesWithoutLocks wants the locks to be free while no machine is:
// somebody else may build meanwhile.
func TestHookPostponesWithoutLocks(t *testing.T) {
	l := newLab(t)
	l.fakeHook("postpone", "accept valid")
	l.opt.MaxJobs = 0
	d := l.drv("x", "")
	tried := false
	l.opt.Interrupted = func() error {
		if tried || !l.sink.has("start 111 waiting for a machine to build '"+string(d)+"'") {
			return nil
		}
		tried = true
		lock, ok, err := pathlock.Acquire([]string{l.store.RealPath(l.out(d, "out"))}, pathlock.Try)
		if err != nil || !ok {
			t.Errorf("the output is locked: %v, %v", ok, err)
			return nil
		}
		lock.Release(pathlock.Keep)
		return nil
	}
	l.realise(d)
	if !tried {
		t.Errorf("it did not wait:\n%s", l.sink)
	}
	l.wantClean()
	l.wantNoLocks()
}

// TestRepairAskedSecond has the same derivation wanted as it is and repaired.
func TestRepairAskedSecond(t *testing.T) {
	l := newLab(t)
	d := l.drv("x", "echo good > $out")
	l.realise(d)
	l.write(l.store.RealPath(l.out(d, "out")), "bad")
	l.store = l.open()
	results, err := l.engine().Realise([]Target{{Path: d}, {Path: d, Mode: Repair}})
	if err != nil {
		t.Fatal(err)
	}
	l.wantStatuses(results, AlreadyValid, Built)
	if got := l.read(l.out(d, "out")); got != "good\n" {
		t.Errorf("the output is %q", got)
	}
	l.wantClean()
}

// TestRepairIsRemembered wants what has been repaired to count as good in the
// same engine.
func TestRepairIsRemembered(t *testing.T) {
	l := newLab(t)
	a := l.drv("a", "echo good > $out")
	b := l.drv("b", "echo "+string(l.out(a, "out"))+" > $out", l.needs(a))
	l.realise(b)
	l.write(l.store.RealPath(l.out(a, "out")), "bad")
	l.store = l.open()
	e := l.engine()
	for _, p := range []storepath.Path{a, b} {
		if _, err := e.Realise([]Target{{Path: p, Mode: Repair}}); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(l.sink.String(), "start 105 repairing outputs of '"+string(a)+"'"); n != 1 || strings.Contains(l.sink.String(), "found corrupted") {
		t.Errorf("repaired %d times:\n%s", n, l.sink)
	}
}
