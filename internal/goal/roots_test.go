package goal

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

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
// when the builder starts, and what is fetched when it is fetched.
func TestEngineProtects(t *testing.T) {
	l := newLab(t)
	fetched := l.path("fetched")
	l.caches(fakeCache{string(fetched): {Contents: "x"}})
	d := l.drv("x", "echo > $out; echo > $dev", outputs("dev", "out"))
	want := []storepath.Path{d, l.out(d, "dev"), l.out(d, "out"), fetched}
	l.reopen()
	looked := false
	l.opt.Interrupted = func() error {
		if looked || !l.sink.has("start 105") || !l.sink.has("start 108") {
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
	l.realise(d, fetched)
	if !looked {
		t.Errorf("nobody looked:\n%s", l.sink)
	}
}
