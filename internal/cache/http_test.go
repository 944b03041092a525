package cache

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
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

// A cut download goes on where it was, if the file is still the same.
func TestResume(t *testing.T) {
	file := strings.Repeat("0123456789abcdef", 4096) // 64 KiB
	for name, c := range map[string]struct {
		tag, second string // ETags of the two answers
		ranges      bool
		works       bool
	}{
		"resumable": {`"v1"`, `"v1"`, true, true},
		"changed":   {`"v1"`, `"v2"`, true, false},
		"weak tag":  {`W/"v1"`, `W/"v1"`, true, false},
		"no tag":    {"", "", true, false},
		"no ranges": {`"v1"`, `"v1"`, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				var ranges []string
				l.serve("c", func(w http.ResponseWriter, r *http.Request) {
					first := l.asked("c") == 1
					ranges = append(ranges, r.Header.Get("Range"))
					w.Header().Set("ETag", c.second)
					if first {
						w.Header().Set("ETag", c.tag)
					}
					if !c.ranges {
						io.WriteString(w, file[:100])
						panic(http.ErrAbortHandler)
					}
					if l.asked("c") < 4 {
						w = &cutter{ResponseWriter: w, left: 10_000}
					}
					http.ServeContent(w, r, "", time.Time{}, strings.NewReader(file))
				})
				cache := l.open("http://c", l.options())
				text, err := fetch(t, cache, "nar/x")
				if c.works != (err == nil && text == file) || c.works && strings.Join(ranges, " ") != " bytes=10000- bytes=20000- bytes=30000-" {
					t.Errorf("got %d bytes, %v; ranges %q", len(text), err, ranges)
				}
				if !strings.HasPrefix(file, text) {
					t.Errorf("the bytes are not the file's: %.100q", text)
				}
				cache.(*server).close()
			})
		})
	}
}

// A cutter ends the connection after some bytes.
type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(p []byte) (int, error) {
	n := min(len(p), c.left)
	c.ResponseWriter.Write(p[:n])
	if c.left -= n; c.left == 0 {
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, nil
}

// Downloads that do not get on end, those of slow readers do not.
func TestStalls(t *testing.T) {
	drip := func(each int, pause time.Duration) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for range 100 {
				w.Write(bytes.Repeat([]byte("x"), each))
				w.(http.Flusher).Flush()
				if sleep(r.Context(), pause) != nil {
					return
				}
			}
		}
	}
	for name, c := range map[string]struct {
		serve http.HandlerFunc
		ends  time.Duration // 0: it does not
	}{
		"nothing comes":        {drip(0, time.Hour), 300 * time.Second},
		"a byte now and then":  {drip(1, 10*time.Second), 300 * time.Second},
		"enough now and then":  {drip(5000, 200*time.Second), 0},
		"a stop in the middle": {drip(5000, time.Hour), 300 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				l.serve("c", c.serve)
				cache := l.open("http://c", l.options())
				began := time.Now()
				_, err := fetch(t, cache, "nar/x")
				if c.ends == 0 && err != nil {
					t.Error(err)
				}
				if c.ends > 0 {
					wantFault(t, err, "stalled")
					if took := time.Since(began); took != c.ends {
						t.Errorf("it ended after %v", took)
					}
				}
				cache.(*server).close()
			})
		})
	}
	t.Run("a slow reader", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t)
			l.serve("c", drip(5000, 0))
			c := l.open("http://c", l.options())
			body, err := c.Get(t.Context(), "nar/x")
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				time.Sleep(time.Hour)
				if _, err := body.Read(make([]byte, 10)); err != nil {
					t.Error(err)
				}
			}
			body.Close()
			c.(*server).close()
		})
	})
}

// A file must be as long as its server said.
func TestLength(t *testing.T) {
	s := local(t, func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		length := map[string]int{"/nar/short": 100, "/nar/exact": 5, "/nar/long": 3}[r.URL.Path]
		fmt.Fprintf(rw, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nhello", length)
		rw.Flush()
	})
	o := newLab(t).options()
	o.dial, o.Attempts = nil, 1
	c, err := Open(s.URL, o)
	if err != nil {
		t.Fatal(err)
	}
	_, err = fetch(t, c, "nar/short")
	wantFault(t, err, "ended after 5 of 100 bytes")
	for name, want := range map[string]string{"nar/exact": "hello", "nar/long": "hel"} {
		if text, err := fetch(t, c, name); err != nil || text != want {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}

// What hostile servers send is not taken in without bounds.
func TestBounds(t *testing.T) {
	var served atomic.Int64
	s := local(t, func(w http.ResponseWriter, r *http.Request) {
		block := bytes.Repeat([]byte("x"), 1<<16)
		switch r.URL.Path {
		case "/headers.narinfo":
			w.Header().Set("X", strings.Repeat("y", 2*maxHeader))
		case "/endless.narinfo":
			for range 10 * maxSmall / len(block) {
				n, err := w.Write(block)
				if served.Add(int64(n)); err != nil {
					return
				}
			}
		case "/bomb.narinfo":
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			for range 10 * maxSmall / len(block) {
				z.Write(block)
			}
			z.Close()
		case "/packed.narinfo":
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			io.WriteString(z, "StorePath: x\n")
			z.Close()
		case "/strange.narinfo":
			w.Header().Set("Content-Encoding", "rot13")
		case "/around":
			http.Redirect(w, r, "/around", http.StatusFound)
		}
	})
	o := newLab(t).options()
	o.dial, o.Attempts = nil, 1
	c, err := Open(s.URL, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []struct{ name, says string }{
		{"headers.narinfo", ""},
		{"endless.narinfo", "is larger than"},
		{"bomb.narinfo", "is larger than"},
		{"strange.narinfo", "unknown compression method 'rot13'"},
		{"around", "redirected it 11 times"},
	} {
		if bad.name == "headers.narinfo" { // for which the cache would go out of service
			alone, _ := Open(s.URL, o)
			_, err := fetch(t, alone, bad.name)
			wantFault(t, err, bad.says)
			continue
		}
		_, err := fetch(t, c, bad.name)
		wantFault(t, err, bad.says)
	}
	if n := served.Load(); n > 4*maxSmall {
		t.Errorf("%d bytes of an endless file were taken", n)
	}
	if text, err := fetch(t, c, "packed.narinfo"); err != nil || text != "StorePath: x\n" {
		t.Errorf("%q, %v", text, err)
	}
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

// Who gets which password.
func TestPasswords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		seen := map[string]string{}
		for _, name := range []string{"one", "two", "three"} {
			l.serve(name, func(w http.ResponseWriter, r *http.Request) {
				login, password, _ := r.BasicAuth()
				seen[name] = login + ":" + password
				if r.Header.Get("Referer") != "" {
					t.Errorf("'%s' was told where we came from", name)
				}
				if to := r.URL.Query().Get("to"); to != "" {
					http.Redirect(w, r, "http://"+to+"/x", http.StatusTemporaryRedirect)
				}
			})
		}
		o := l.options()
		o.NetrcFile = filepath.Join(t.TempDir(), "netrc")
		text := "machine one login a password b\nmachine two login c password d\ndefault login e password f\n"
		if err := os.WriteFile(o.NetrcFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ url, to, first, second string }{
			{"http://one", "two", "a:b", "c:d"},   // each has an entry
			{"http://one", "three", "a:b", ":"},   // the default is not for strangers
			{"http://three", "two", "e:f", "c:d"}, // but for the cache
			{"http://me:pw@one", "three", "me:pw", ":"},
			{"http://me:pw@three", "one", "me:pw", "a:b"},
			{"http://three", "evil:pw@one", "e:f", "a:b"}, // a redirection sets none
		} {
			clear(seen)
			cache := l.open(c.url, o)
			if _, err := fetch(t, cache, "x?to="+c.to); err != nil {
				t.Error(err)
			}
			u, _ := url.Parse(c.url)
			target, _ := url.Parse("http://" + c.to)
			if seen[u.Host] != c.first || seen[target.Host] != c.second {
				t.Errorf("%s, redirected to '%s': %v", c.url, c.to, seen)
			}
			if strings.Contains(cache.URI(), "pw") {
				t.Errorf("the URI '%s' shows a password", cache.URI())
			}
			cache.(*server).close()
		}
	})
}

// Redirections from HTTPS to HTTP, to files and to this machine are refused.
func TestRedirections(t *testing.T) {
	plain := local(t, func(http.ResponseWriter, *http.Request) { t.Error("a redirection was followed") })
	to := func(location string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", location)
			w.WriteHeader(http.StatusFound)
		}
	}
	o := newLab(t).options()
	o.dial = nil
	for location, says := range map[string]string{
		plain.URL:            "from https to",
		"file:///etc/passwd": "to 'file:' is refused",
		"gopher://x/":        "to 'gopher:' is refused",
	} {
		secure := httptest.NewTLSServer(to(location))
		defer secure.Close()
		o.CAFile = writeCertificate(t, secure)
		c, err := Open(secure.URL, o)
		if err != nil {
			t.Fatal(err)
		}
		_, err = fetch(t, c, "nar/x")
		wantFault(t, err, says)
		if _, down := errors.AsType[*DownError](err); down {
			t.Errorf("a redirection to '%s' takes the cache out of service", location)
		}
	}

	// The cache is elsewhere: here, behind a name that only its dialler knows.
	cache, err := Open("http://elsewhere.invalid", o)
	if err != nil {
		t.Fatal(err)
	}
	n := cache.(*server).net
	_, err = n.dial(t.Context(), "tcp", strings.TrimPrefix(plain.URL, "http://"))
	wantFault(t, err, "leads to this machine")
	n.local.Store(true)
	conn, err := n.dial(t.Context(), "tcp", strings.TrimPrefix(plain.URL, "http://"))
	if err != nil {
		t.Fatalf("a cache on this machine may: %v", err)
	}
	conn.Close()
}

// TLS errors are final, and told.
func TestCertificates(t *testing.T) {
	var connections atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	l := newLab(t)
	o := l.options()
	o.dial = nil
	c, err := Open(s.URL, o)
	if err != nil {
		t.Fatal(err)
	}
	_, err = fetch(t, c, "nix-cache-info")
	wantFault(t, err, "certificate signed by unknown authority")
	if _, down := errors.AsType[*DownError](err); !down || connections.Load() != 1 {
		t.Errorf("%v after %d connections", err, connections.Load())
	}
	o.CAFile = writeCertificate(t, s)
	for _, h2 := range []bool{true, false} {
		o.HTTP2 = h2
		c, err := Open(s.URL, o)
		if err != nil {
			t.Fatal(err)
		}
		before := connections.Load()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if _, err := fetch(t, c, "nix-cache-info"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := connections.Load() - before; h2 && n != 1 || n > int64(o.Connections) {
			t.Errorf("HTTP/2 %v: %d connections for 50 requests", h2, n)
		}
		c.(*server).close()
	}
	o.CAFile = filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(o.CAFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Open(s.URL, o)
	wantFault(t, err, "there are no certificates in")
}

func writeCertificate(t *testing.T, s *httptest.Server) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pem")
	text := pemOf(s)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestProxies(t *testing.T) {
	var got []string
	proxy := local(t, func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Method+" "+r.RequestURI)
		if r.Method == http.MethodConnect {
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	for _, c := range []struct {
		env  map[string]string
		url  string
		want string // what the proxy is asked; "" for nothing
	}{
		{map[string]string{"http_proxy": proxy.URL}, "http://c.invalid", "GET http://c.invalid/nar/x"},
		{map[string]string{"all_proxy": proxy.URL}, "http://c.invalid", "GET http://c.invalid/nar/x"},
		{map[string]string{"ALL_PROXY": proxy.URL}, "https://c.invalid", "CONNECT c.invalid:443"},
		{map[string]string{"HTTPS_PROXY": proxy.URL}, "https://c.invalid", "CONNECT c.invalid:443"},
		{map[string]string{"HTTP_PROXY": proxy.URL}, "http://c.invalid", ""},
		{map[string]string{"http_proxy": proxy.URL, "no_proxy": "c.invalid"}, "http://c.invalid", ""},
		{map[string]string{"http_proxy": proxy.URL, "NO_PROXY": "*"}, "http://c.invalid", ""},
	} {
		got = nil
		o := newLab(t).options()
		o.dial = nil
		o.Env = func(name string) string { return c.env[name] }
		cache, err := Open(c.url, o)
		if err != nil {
			t.Fatal(err)
		}
		_, err = fetch(t, cache, "nar/x")
		if strings.Join(got, "\n") != c.want {
			t.Errorf("%v, '%s': the proxy was asked %q, want %q", c.env, c.url, got, c.want)
		}
		if c.want == "" || strings.HasPrefix(c.want, "CONNECT") {
			if _, down := errors.AsType[*DownError](err); !down {
				t.Errorf("%v, '%s': %v", c.env, c.url, err)
			}
		}
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

// All downloads share the limit.
func TestSpeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		file := strings.Repeat("x", 100<<10)
		l.serve("c", shelf{"nar/x": file}.ServeHTTP)
		o := l.options()
		o.DownloadSpeed = 50
		o.complete()
		c := l.open("http://c", o)
		began := time.Now()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if text, err := fetch(t, c, "nar/x"); err != nil || text != file {
					t.Errorf("%d bytes, %v", len(text), err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(began).Seconds(); took < 5.99 || took > 6.01 {
			t.Errorf("300 KiB at 50 KiB/s took %v s", took)
		}
		c.(*server).close()
	})
}

// An interrupt ends whatever goes on.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.serve("c", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "x")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		})
		c := l.open("http://c", l.options())
		ctx, cancel := context.WithCancel(t.Context())
		body, err := c.Get(ctx, "nar/x")
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, cancel)
		began := time.Now()
		_, err = io.ReadAll(body)
		if !errors.Is(err, context.Canceled) || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		body.Close()
		body.Close()
		if _, err := c.Get(ctx, "nix-cache-info"); !errors.Is(err, context.Canceled) || len(l.said()) != 0 {
			t.Errorf("%v; %q", err, l.said())
		}
		c.(*server).close()
	})
}
