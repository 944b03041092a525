package cache

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/narinfo"
	"gobuild/internal/store/storepath"
)

// Smaller priorities come first, equal ones as they were given; the URL counts
// more than what the cache says.
func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		key, keys := newKey(t)
		for name, priority := range map[string]int{"a": 50, "b": 40, "c": 30, "d": 50, "e": 45} {
			sh := newShelf(priority)
			sh.put(path(1), key)
			if name == "d" {
				sh["nix-cache-info"] = "StoreDir: /nix/store\n"
			}
			l.serve(name, sh.ServeHTTP)
		}
		o := l.options()
		o.TrustedKeys = keys
		s := l.set(o, "http://a", "http://b", "http://c?priority=60", "http://d", "http://e?priority=1", "http://b/", "gopher://x", "daemon",
			"http://x?priority=high", "http://x?trusted=maybe")
		var order []string
		for after := 0; ; {
			found, err := s.Lookup(t.Context(), path(1), after)
			if errors.Is(err, ErrAbsent) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			order = append(order, found.URI)
			after = found.Source + 1
		}
		if want := []string{"http://e", "http://b", "http://a", "http://d", "http://c"}; !slices.Equal(order, want) {
			t.Errorf("the order is %q, want %q", order, want)
		}
		said := l.said()
		slices.Sort(said)
		if len(said) != 4 || !strings.Contains(said[0], "don't know how to open Nix store 'daemon'") || !strings.Contains(said[1], "'gopher://x'") ||
			!strings.Contains(said[2], "parameter 'priority'") || !strings.Contains(said[3], "parameter 'trusted'") {
			t.Errorf("warnings: %q", said)
		}
		s.Close()
	})
}

func TestNewSetErrors(t *testing.T) {
	o := newLab(t).options()
	o.TrustedKeys = []string{"no key"}
	if _, err := NewSet(t.Context(), nil, o); err == nil {
		t.Error("a malformed key was accepted")
	}
	o = newLab(t).options()
	o.StoreDir = "store"
	if _, err := NewSet(t.Context(), nil, o); err == nil {
		t.Error("a relative store directory was accepted")
	}
}

// Those who ask at once share the answer.
func TestSingleFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		key, keys := newKey(t)
		sh := newShelf(50)
		sh.put(path(1), key)
		var now, most int
		l.serve("c", func(w http.ResponseWriter, r *http.Request) {
			l.mu.Lock()
			now++
			most = max(most, now)
			l.mu.Unlock()
			time.Sleep(time.Second)
			l.mu.Lock()
			now--
			l.mu.Unlock()
			sh.ServeHTTP(w, r)
		})
		o := l.options()
		o.TrustedKeys, o.Connections = keys, 7
		s := l.set(o, "http://c")
		var wg sync.WaitGroup
		for n := range 40 {
			wg.Go(func() {
				if _, err := s.Lookup(t.Context(), path(1), 0); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() {
				if _, err := s.Lookup(t.Context(), path(100+n), 0); err != ErrAbsent {
					t.Error(err)
				}
			})
		}
		began := time.Now()
		wg.Wait()
		if n := l.asked("c " + "/" + narinfo.Name(path(1))); n != 1 {
			t.Errorf("one file was asked for %d times", n)
		}
		if most != o.Connections || l.dials["c"] > o.Connections {
			t.Errorf("%d requests at once, %d connections", most, l.dials["c"])
		}
		if took := time.Since(began); took != 7*time.Second { // one alone, then 41 by sevens
			t.Errorf("it took %v", took)
		}
		s.Close()
	})
}

// A slow cache is still preferred to others, as long as it answers anybody.
func TestSlowIsNotSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		key, keys := newKey(t)
		slow, quick := newShelf(40), newShelf(50)
		for n := range 30 {
			slow.put(path(n), key)
			quick.put(path(n), key)
		}
		l.serve("slow", func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(1500 * time.Millisecond)
			slow.ServeHTTP(w, r)
		})
		l.serve("quick", quick.ServeHTTP)
		o := l.options()
		o.TrustedKeys, o.Connections = keys, 3
		s := l.set(o, "http://quick", "http://slow")
		var wg sync.WaitGroup
		for n := range 30 { // most of which wait for longer than our patience
			wg.Go(func() {
				if found, err := s.Lookup(t.Context(), path(n), 0); err != nil || found.URI != "http://slow" {
					t.Errorf("%+v, %v", found, err)
				}
			})
		}
		wg.Wait()
		if n := l.asked("quick"); n != 1 {
			t.Errorf("the other one was asked %d times", n)
		}
		s.Close()
	})
}

func TestOpenLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		drv := storepath.Path(string(path(1)) + "?x.drv")
		without, with := newShelf(1), newShelf(2)
		with["log/"+drv.Base()] = "it failed\n"
		l.serve("without", without.ServeHTTP)
		l.serve("with", func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/log/") {
				w.Header().Set("Content-Encoding", "br")
			}
			with.ServeHTTP(w, r)
		})
		s := l.set(l.options(), "http://without", "http://with")
		body, uri, err := s.OpenLog(t.Context(), drv)
		if err != nil || uri != "http://with" || body.Encoding != "br" {
			t.Fatalf("%+v, '%s', %v", body, uri, err)
		}
		if text, err := io.ReadAll(body); err != nil || string(text) != "it failed\n" {
			t.Errorf("%q, %v", text, err)
		}
		body.Close()
		if _, _, err := s.OpenLog(t.Context(), path(2)); !errors.Is(err, ErrAbsent) {
			t.Errorf("a log that nobody has: %v", err)
		}
		s.Close()
	})
}

// Caches that Nix wrote, in the directory of the test vectors.
func TestGoldenCaches(t *testing.T) {
	o := newLab(t).options()
	o.dial = nil
	o.TrustedKeys = []string{"example-1:9w1poO//JfOFnwpY3Q7u/K0MfrGLIk5emLD50nL6uMA="}
	root, err := filepath.Abs("../../testdata/golden/cache")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, method := range []string{"bzip2", "ca", "none", "xz", "zstd"} {
		s, err := NewSet(t.Context(), []string{"file://" + root + "/" + method}, o)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		files, _ := filepath.Glob(filepath.Join(root, method, "*.narinfo"))
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			i, err := narinfo.Parse(storeDir, filepath.Base(f), text)
			if err != nil {
				t.Fatal(err)
			}
			found, err := s.Lookup(t.Context(), i.Path, 0)
			if err != nil {
				t.Errorf("%s: %v", f, err)
				continue
			}
			body, err := s.OpenNar(t.Context(), 0, found.Info)
			if err != nil {
				t.Errorf("%s: %v", f, err)
				continue
			}
			data, err := io.ReadAll(body)
			if err != nil || uint64(len(data)) != i.FileSize || body.Size != int64(len(data)) || digest.Of(digest.SHA256, data) != i.FileHash {
				t.Errorf("%s: %d bytes, %v", i.URL, len(data), err)
			}
			body.Close()
			checked++
		}
		if _, err := s.Lookup(t.Context(), path(1), 0); err != ErrAbsent {
			t.Errorf("%s: %v", method, err)
		}
	}
	if checked < 10 {
		t.Errorf("only %d paths were checked", checked)
	}
}
