package cache

import (
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// Who gets which password.
func TestPasswords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		seen := map[string]string{}
		for _, name := range []string{"one", "two", "three", "sub.one"} {
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
			{"http://me:pw@one", "sub.one", "me:pw", ":"},
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
		// Without HTTP/2, a few are made in vain while others become free.
		if n := connections.Load() - before; h2 && n != 1 || n > 2*int64(o.Connections) {
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
