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
