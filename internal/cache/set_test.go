package cache

import (
	"errors"
	"fmt"
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
	"gobuild/internal/store/sign"
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

// Only what somebody vouches for is found; the rest is told once.
func TestTrust(t *testing.T) {
	key, keys := newKey(t)
	other, _ := newKey(t) // of the same name
	fixed := storepath.ContentAddress{Method: storepath.NAR, Digest: digest.Of(digest.SHA256, []byte("contents"))}
	self := storepath.References{Others: []storepath.Path{path(7)}, Self: true}
	byContents, err := storepath.Dir(storeDir).Content(fixed, "fixed", self)
	if err != nil {
		t.Fatal(err)
	}
	withCA := func(i *narinfo.Info) {
		i.CA = fixed
		i.References = []storepath.Path{path(7), i.Path}
		slices.Sort(i.References)
	}
	const unsigned = "ignoring substitute for '%s' from 'http://c', as it's not signed by any of the keys in 'trusted-public-keys'"
	for name, c := range map[string]struct {
		path     storepath.Path
		key      *sign.SecretKey
		change   func(*narinfo.Info)
		spoil    func(text string) string
		params   string
		lax      bool
		found    bool
		warnings []string
	}{
		"signed":          {path: path(1), key: key, found: true},
		"unsigned":        {path: path(1), warnings: []string{fmt.Sprintf(unsigned, path(1))}},
		"another's key":   {path: path(1), key: other, warnings: []string{fmt.Sprintf(unsigned, path(1))}},
		"trusted cache":   {path: path(1), params: "?trusted=1", found: true},
		"nobody cares":    {path: path(1), lax: true, found: true},
		"by its contents": {path: byContents, change: withCA, found: true},
		"not by its contents": {path: path(1), change: withCA, warnings: []string{
			fmt.Sprintf("path '%s' claims to be content-addressed but isn't", path(1)), fmt.Sprintf(unsigned, path(1))}},
		"other references than signed": {path: path(1), key: key, spoil: func(text string) string {
			return strings.Replace(text, "References: ", "References: "+path(2).Base(), 1)
		}, warnings: []string{fmt.Sprintf(unsigned, path(1))}},
		"another path": {path: path(1), key: key, spoil: func(text string) string {
			return strings.Replace(text, "-path-1\n", "-path-2\n", 1)
		}, warnings: []string{fmt.Sprintf("asked 'http://c' for '%s' but got '%s'", path(1), strings.Replace(string(path(1)), "-path-1", "-path-2", 1))}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				sh := newShelf(50)
				var changes []func(*narinfo.Info)
				if c.change != nil {
					changes = append(changes, c.change)
				}
				info := sh.put(c.path, c.key, changes...)
				if c.spoil != nil {
					file := narinfo.Name(c.path)
					sh[file] = c.spoil(sh[file])
				}
				l.serve("c", sh.ServeHTTP)
				o := l.options()
				o.TrustedKeys, o.RequireSigs = keys, !c.lax
				s := l.set(o, "http://c"+c.params)
				for range 2 {
					found, err := s.Lookup(t.Context(), c.path, 0)
					switch {
					case c.found && (err != nil || found.Info.NarHash != info.NarHash || found.Info.Path != c.path):
						t.Errorf("%+v, %v", found, err)
					case !c.found && err != ErrAbsent:
						t.Errorf("%+v, %v", found, err)
					}
				}
				if said := l.said(); !slices.Equal(said, c.warnings) {
					t.Errorf("warnings: %q, want %q", said, c.warnings)
				}
				s.Close()
			})
		})
	}
}

// A cache of another store is passed over, with one warning; so is what is no
// cache. A damaged narinfo is no answer.
func TestUnfit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		key, keys := newKey(t)
		foreign, none, bad := newShelf(1), newShelf(2), newShelf(3)
		foreign["nix-cache-info"] = "StoreDir: /gnu/store\nPriority: 1\n"
		delete(none, "nix-cache-info")
		for n := range 3 {
			for _, sh := range []shelf{foreign, none, bad} {
				sh.put(path(n), key)
			}
			bad[narinfo.Name(path(n))] = "StorePath: nonsense\n"
		}
		l.serve("foreign", foreign.ServeHTTP)
		l.serve("none", none.ServeHTTP)
		l.serve("bad", bad.ServeHTTP)
		l.serve("locked", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
		o := l.options()
		o.TrustedKeys = keys
		s := l.set(o, "http://foreign", "http://none", "http://bad", "http://locked")
		for n := range 3 {
			_, err := s.Lookup(t.Context(), path(n), 0)
			wantFault(t, err, "is corrupt")
			wantFault(t, err, "cache 'http://locked' is out of service")
		}
		said := l.said()
		slices.Sort(said)
		if len(said) != 3 ||
			!strings.HasPrefix(said[0], "'http://none' does not appear to be a binary cache") ||
			said[1] != "binary cache 'http://foreign' is for Nix stores with prefix '/gnu/store', not '/nix/store'" ||
			!strings.Contains(said[2], "401") {
			t.Errorf("warnings: %q", said)
		}
		for _, name := range []string{"foreign", "none", "locked"} {
			if n := l.asked(name); n != 1 {
				t.Errorf("'%s' was asked %d times", name, n)
			}
		}
		s.Close()
	})
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

// What caches said is believed for a while, also by the next process.
func TestMemory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dir", "caches.sqlite")
	key, keys := newKey(t)
	sh := newShelf(50)
	sh.put(path(1), key)
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.serve("c", sh.ServeHTTP)
		o := l.options()
		o.TrustedKeys, o.CacheFile = keys, file
		for n, c := range []struct {
			sleep    time.Duration
			path     int
			found    bool
			requests int // so far
		}{
			{0, 1, true, 2}, {0, 1, true, 2}, {0, 2, false, 3}, {0, 2, false, 3},
			{59 * time.Minute, 2, false, 3}, {time.Minute, 2, false, 4},
			{22 * time.Hour, 1, true, 4}, {time.Hour, 1, true, 5},
			{7 * 24 * time.Hour, 3, false, 7}, // and the cache's description
		} {
			time.Sleep(c.sleep)
			s := l.set(o, "http://c")
			_, err := s.Lookup(t.Context(), path(c.path), 0)
			if c.found != (err == nil) || !c.found && err != ErrAbsent || l.asked("c") != c.requests {
				t.Errorf("step %d: %v, %d requests", n, err, l.asked("c"))
			}
			s.Close()
		}
		// Trust is decided anew each time.
		s := l.set(o, "http://c")
		if _, err := s.Lookup(t.Context(), path(1), 0); err != nil {
			t.Error(err)
		}
		s.Close()
		o.TrustedKeys = nil
		s = l.set(o, "http://c")
		before := l.asked("c")
		if _, err := s.Lookup(t.Context(), path(1), 0); err != ErrAbsent || l.asked("c") != before {
			t.Errorf("without a key: %v after %d requests", err, l.asked("c")-before)
		}
		s.Close()
	})
}

// A remembered narinfo may be out of date: the archive has another name now, or
// is gone, or is of other contents.
func TestGone(t *testing.T) {
	key, keys := newKey(t)
	for name, c := range map[string]struct {
		change func(sh shelf, i *narinfo.Info)
		found  bool // by who remembers it
		again  bool // and then by who asks again
	}{
		"moved": {func(sh shelf, i *narinfo.Info) {
			text := sh[i.URL]
			delete(sh, i.URL)
			i.URL, i.Compression = "nar/moved.nar", "zstd"
			sh[i.URL] = text
		}, true, true},
		"replaced": {func(sh shelf, i *narinfo.Info) {
			delete(sh, i.URL)
			i.URL, i.NarSize = "nar/moved.nar", i.NarSize+1
			sh[i.URL] = "something else"
		}, false, true},
		"lost":    {func(sh shelf, i *narinfo.Info) { delete(sh, i.URL) }, false, true},
		"deleted": {func(sh shelf, i *narinfo.Info) { delete(sh, i.URL); delete(sh, narinfo.Name(i.Path)) }, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				sh := newShelf(50)
				info := sh.put(path(1), nil)
				was := *info
				l.serve("c", sh.ServeHTTP)
				o := l.options()
				o.TrustedKeys, o.CacheFile = keys, filepath.Join(t.TempDir(), "caches.sqlite")
				sign := func() {
					text, _ := sign.Fingerprint(info.Path, info.NarHash, info.NarSize, nil)
					info.Sigs = []string{key.Sign(text)}
					sh[narinfo.Name(info.Path)] = string(info.Append(nil))
				}
				sign()
				s := l.set(o, "http://c")
				found, err := s.Lookup(t.Context(), path(1), 0)
				if err != nil || found.Info.URL != was.URL {
					t.Fatal(found, err)
				}
				if c.change(sh, info); sh[narinfo.Name(path(1))] != "" {
					sign()
				}
				text, err := fetchFrom(t, s, found)
				if c.found != (err == nil) || !c.found && !errors.Is(err, ErrAbsent) || c.found && text != "contents of "+string(path(1)) {
					t.Errorf("the archive: %q, %v", text, err)
				}
				if c.found && (found.Info.URL != info.URL || found.Info.Compression != "zstd") {
					t.Errorf("%+v", found.Info)
				}
				found, err = s.Lookup(t.Context(), path(1), 0)
				if c.again != (err == nil) || c.again && (found.Info.URL != info.URL || found.Info.NarSize != info.NarSize) {
					t.Errorf("asked again: %+v, %v", found, err)
				}
				if _, err := s.OpenNar(t.Context(), 7, &was); err == nil {
					t.Error("a cache that is not there delivered")
				}
				s.Close()
			})
		})
	}
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
