package cache

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// What a status means.
func TestStatuses(t *testing.T) {
	for code, want := range map[int]struct {
		absent, down bool
		requests     int
	}{
		404: {absent: true, requests: 1}, 403: {absent: true, requests: 1}, 410: {absent: true, requests: 1},
		400: {requests: 1}, 401: {requests: 1}, 204: {requests: 1}, 206: {requests: 1}, 501: {requests: 1},
		500: {down: true, requests: 5}, 503: {down: true, requests: 5}, 429: {down: true, requests: 5},
	} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				l.serve("c", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
				c := l.open("http://c", l.options())
				_, err := fetch(t, c, "nar/x.nar")
				wantFault(t, err, fmt.Sprintf("HTTP status %d", code))
				_, down := errors.AsType[*DownError](err)
				if errors.Is(err, ErrAbsent) != want.absent || down != want.down || l.asked("c") != want.requests {
					t.Errorf("%v after %d requests", err, l.asked("c"))
				}
				c.(*server).close()
			})
		})
	}
}

// Passing errors are repeated after growing pauses, and as servers ask.
func TestRetries(t *testing.T) {
	for name, c := range map[string]struct {
		fail     http.HandlerFunc
		min, max time.Duration
	}{
		"503":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, 1750 * time.Millisecond, 2625 * time.Millisecond},
		"cut":  {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 1750 * time.Millisecond, 2625 * time.Millisecond},
		"busy": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Retry-After", "7"); w.WriteHeader(429) }, 21 * time.Second, 22 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				l.serve("c", func(w http.ResponseWriter, r *http.Request) {
					if l.asked("c") < 4 {
						c.fail(w, r)
						return
					}
					io.WriteString(w, "StoreDir: /nix/store\n")
				})
				cache := l.open("http://c", l.options())
				began := time.Now()
				text, err := fetch(t, cache, "nix-cache-info")
				if took := time.Since(began); err != nil || text != "StoreDir: /nix/store\n" || took < c.min || took > c.max {
					t.Errorf("%q, %v after %v", text, err, took)
				}
				if len(l.said()) != 0 || len(l.messages) != 3 || !strings.Contains(l.messages[0], "trying again in ") {
					t.Errorf("messages: %q", l.messages)
				}
				cache.(*server).close()
			})
		})
	}
}

// A server that asks for a long pause gets one.
func TestRetryAfterLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.serve("c", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", time.Now().Add(5*time.Minute).UTC().Format(http.TimeFormat))
			w.WriteHeader(503)
		})
		c := l.open("http://c", l.options())
		for _, wait := range []time.Duration{0, 4 * time.Minute} {
			time.Sleep(wait)
			if _, err := fetch(t, c, "nix-cache-info"); err == nil || l.asked("c") != 1 {
				t.Errorf("%v after %d requests", err, l.asked("c"))
			}
		}
		time.Sleep(time.Minute)
		if fetch(t, c, "nix-cache-info"); l.asked("c") != 2 {
			t.Errorf("%d requests", l.asked("c"))
		}
		c.(*server).close()
	})
}

// Names stay within the cache, and reach it as they are.
func TestNames(t *testing.T) {
	var got atomic.Value
	s := local(t, func(_ http.ResponseWriter, r *http.Request) { got.Store(r.RequestURI) })
	o := newLab(t).options()
	o.dial = nil
	c, err := Open(s.URL+"/a%20b//?priority=3", o)
	if err != nil {
		t.Fatal(err)
	}
	if want := s.URL + "/a%20b"; c.URI() != want {
		t.Errorf("the URI is '%s', want '%s'", c.URI(), want)
	}
	for name, want := range map[string]string{
		"nar/x.nar.xz":         "/a%20b/nar/x.nar.xz",
		"nar/x.nar?hash=y":     "/a%20b/nar/x.nar?hash=y",
		"nar/a%2Fb+c":          "/a%20b/nar/a%2Fb+c",
		"log/x-who?=+._-1.drv": "/a%20b/log/x-who%3F=+._-1.drv",
	} {
		if _, err := fetch(t, c, name); err != nil || got.Load() != want {
			t.Errorf("%s: asked for %v, want %s (%v)", name, got.Load(), want, err)
		}
	}
	got.Store("")
	d, err := Open("file://"+t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "/nar/x", "../x", "nar/../../x", "nar/..", ".", "nar//x", "http://evil/x", "nar/x y", "nar/\r\nX: y",
		"nar/\\x", "nar/\x7f", strings.Repeat("n", 2000), "file:///etc/passwd"} {
		for _, cache := range []Cache{c, d} {
			if _, err := fetch(t, cache, name); err == nil || !strings.Contains(err.Error(), "is not a name") {
				t.Errorf("%s, %q: %v", cache.URI(), name, err)
			}
		}
	}
	_, err = fetch(t, c, "nar/%2e%2e/%2e%2e/x")
	wantFault(t, err, "is not a name")
	if got.Load() != "" {
		t.Errorf("asked for %v", got.Load())
	}
}

func TestPut(t *testing.T) {
	var mu sync.Mutex
	files, tries := shelf{}, 0
	s := local(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		switch r.Method {
		case http.MethodPut:
			text, err := io.ReadAll(r.Body)
			if tries++; err != nil || tries == 1 {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			if strings.HasPrefix(r.URL.Path, "/forbidden") {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			if r.Header.Get("Content-Type") != "text/x-test" || r.Header.Get("User-Agent") != "gobuild/1 x" {
				t.Errorf("headers: %v", r.Header)
			}
			files[strings.TrimPrefix(r.URL.Path, "/")] = string(text)
			w.WriteHeader(http.StatusCreated)
		default:
			files.ServeHTTP(w, r)
		}
	})
	o := newLab(t).options()
	o.dial, o.UserAgent = nil, "gobuild/1 x"
	c, err := Open(s.URL, o)
	if err != nil {
		t.Fatal(err)
	}
	for n, body := range []struct {
		io.Reader
		size int64
	}{
		{strings.NewReader("contents"), 8},
		{strings.NewReader("contents"), -1},
		{io.MultiReader(strings.NewReader("cont"), strings.NewReader("ents")), -1},
		{io.MultiReader(strings.NewReader("contents")), 8},
	} {
		name := fmt.Sprintf("nar/%d", n)
		if there, err := c.Exists(t.Context(), name); there || err != nil {
			t.Errorf("before: %v, %v", there, err)
		}
		if err := c.Put(t.Context(), name, "text/x-test", body.Reader, body.size); err != nil {
			t.Error(err)
		}
		if there, err := c.Exists(t.Context(), name); !there || err != nil {
			t.Errorf("after: %v, %v", there, err)
		}
		if text, err := fetch(t, c, name); err != nil || text != "contents" {
			t.Errorf("%q, %v", text, err)
		}
	}
	if tries != 5 {
		t.Errorf("%d attempts", tries)
	}
	err = c.Put(t.Context(), "empty", "text/x-test", strings.NewReader(""), 0)
	if text, e := fetch(t, c, "empty"); err != nil || e != nil || text != "" {
		t.Errorf("%q, %v, %v", text, err, e)
	}
	err = c.Put(t.Context(), "forbidden", "text/x-test", strings.NewReader("x"), 1)
	if wantFault(t, err, "403"); errors.Is(err, ErrAbsent) {
		t.Errorf("%v", err)
	}
	tries = 0
	err = c.Put(t.Context(), "once", "text/x-test", io.MultiReader(strings.NewReader("x")), 1)
	if wantFault(t, err, "502"); tries != 1 {
		t.Errorf("a body that is gone was sent %d times", tries)
	}
}
