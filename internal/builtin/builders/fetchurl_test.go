package builders

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"gobuild/internal/builtin"
	"gobuild/internal/cache/compress"
	"gobuild/internal/store/nar"
)

// fetched is a lab's usual network.
func fetched(edit func(*builtin.Fetch)) *builtin.Fetch {
	f := &builtin.Fetch{Fixed: true, UserAgent: "agent/1", HTTP2: true, Attempts: 3, ConnectTimeout: 10 * time.Second}
	if edit != nil {
		edit(f)
	}
	return f
}

func (l *lab) fetch(f *builtin.Fetch, url string, attrs ...string) error {
	l.t.Helper()
	if err := os.RemoveAll(l.path("out")); err != nil {
		l.t.Fatal(err)
	}
	all := map[string]string{"url": url}
	for i := 0; i < len(attrs); i += 2 {
		all[attrs[i]] = attrs[i+1]
	}
	return l.run("fetchurl", f, all)
}

// got expects that the output is a file with a text.
func (l *lab) got(want string) {
	l.t.Helper()
	if text, err := os.ReadFile(l.path("out")); err != nil || string(text) != want {
		l.t.Errorf("the output has %q, want %q (%v)", text, want, err)
	}
}

// serve starts a server, and notes all requests as METHOD PATH AUTHORIZATION.
func serve(t *testing.T, start func(http.Handler) *httptest.Server, answer http.HandlerFunc) (*httptest.Server, *[]string) {
	t.Helper()
	var seen []string
	s := start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		seen = append(seen, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", r.Method, r.URL.Path, user, password)))
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s, &seen
}

func text(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, s) }
}

func TestFetchFile(t *testing.T) {
	l := newLab(t)
	s, _ := serve(t, httptest.NewServer, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("User-Agent") + "|" + r.Header.Get("Accept-Encoding"); got != "agent/1|" {
			t.Errorf("headers: %q", got)
		}
		w.Header().Set("Content-Encoding", "gzip") // which it is not, and nobody looks
		fmt.Fprint(w, "contents of ", r.URL.Path, r.URL.RawQuery)
	})
	if err := l.fetch(fetched(nil), s.URL+"/file?a=b"); err != nil {
		t.Fatal(err)
	}
	l.got("contents of /filea=b")
	want := fmt.Sprintf(`@nix {"action":"start","fields":["%[1]s"],"id":1,"level":4,"text":"downloading '%[1]s'","type":101}`+"\n"+
		`@nix {"action":"result","fields":[20,20,0,0],"id":1,"type":105}`+"\n"+`@nix {"action":"stop","id":1}`+"\n", s.URL+"/file?a=b")
	if got := l.log.String(); got != want {
		t.Errorf("the log is\n%s, want\n%s", got, want)
	}
	if info, err := os.Stat(l.path("out")); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("the output's mode: %v, %v", info.Mode(), err)
	}
	if err := l.fetch(fetched(nil), s.URL+"/run", "executable", "1"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(l.path("out")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the mode of a program: %v, %v", info.Mode(), err)
	}
	file := l.write("a file", "local")
	if err := l.fetch(fetched(nil), "file://"+strings.ReplaceAll(file, " ", "%20")); err != nil {
		t.Fatal(err)
	}
	l.got("local")
}

func TestFetchArchive(t *testing.T) {
	l := newLab(t)
	l.write("tree/file", "one")
	l.symlink("file", "tree/link")
	var archive, packed bytes.Buffer
	if err := nar.Dump(&archive, l.path("tree")); err != nil {
		t.Fatal(err)
	}
	w, err := compress.NewWriter("xz", &packed, -1, false)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write(archive.Bytes())
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	s, seen := serve(t, httptest.NewServer, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/plain":
			_, _ = w.Write(archive.Bytes())
		case "/packed.xz":
			_, _ = w.Write(packed.Bytes())
		case "/more":
			_, _ = w.Write(append(archive.Bytes(), 0))
		case "/cut", "/cut.xz":
			_, _ = w.Write(packed.Bytes()[:packed.Len()-5])
		}
	})
	for _, name := range []string{"/plain", "/packed.xz"} {
		if err := l.fetch(fetched(nil), s.URL+name, "unpack", "1"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got, want := l.tree("out"), l.tree("tree"); got != want {
			t.Errorf("%s: the tree is\n%s", name, got)
		}
	}
	for name, want := range map[string]string{"/more": "something follows", "/cut": "unpacking", "/cut.xz": "unexpected EOF"} {
		*seen = nil
		l.fails(l.fetch(fetched(nil), s.URL+name, "unpack", "1"), want)
		if len(*seen) != 1 {
			t.Errorf("%s: asked %d times for what is malformed", name, len(*seen))
		}
	}
}

func TestFetchErrors(t *testing.T) {
	l := newLab(t)
	l.fails(l.fetch(nil, "http://x"), "network")
	l.fails(l.fetch(fetched(func(f *builtin.Fetch) { f.Fixed = false }), "http://x"), "'builtin:fetchurl' must be a fixed-output or impure derivation")
	l.fails(l.run("fetchurl", fetched(nil), nil), "attribute 'url' missing")
	l.fails(l.run("fetchurl", fetched(nil), map[string]string{"out": ""}), "'builtin:fetchurl' requires an 'out' output")
	l.fails(l.fetch(fetched(nil), "gopher://x/y"), "unable to download 'gopher://x/y': the protocol 'gopher' is not supported")
	l.fails(l.fetch(fetched(nil), "no url"), "not supported")
	l.fails(l.fetch(fetched(nil), "http://\x7f"), "it is not a URL")
	l.fails(l.fetch(fetched(nil), "file://elsewhere/file"), "names the host")
	l.fails(l.fetch(fetched(nil), "file://"+l.path("none")), "no such file")
	fifo := l.path("fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, special := range []string{fifo, l.dir, "/dev/zero"} {
		l.fails(l.fetch(fetched(nil), "file://"+special), "is not a regular file")
	}
	if len(l.pauses) != 0 {
		t.Error("what cannot work is tried again")
	}
}

// Attempts follow each other after growing pauses, if that may help, and start
// anew.
func TestFetchAttempts(t *testing.T) {
	for name, c := range map[string]struct {
		answers []int // 200: the file; 0: half of it
		want    string
	}{
		"at once":         {[]int{200}, ""},
		"busy":            {[]int{503, 429, 200}, ""},
		"interrupted":     {[]int{0, 0, 200}, ""},
		"always busy":     {[]int{500, 502, 504}, "HTTP error 504; the server says:\nbecause"},
		"always broken":   {[]int{0, 0, 0}, "unexpected EOF"},
		"missing":         {[]int{404}, "HTTP error 404; the server says:\nbecause"},
		"forbidden":       {[]int{403}, "HTTP error 403"},
		"not implemented": {[]int{501}, "HTTP error 501"},
		"partial":         {[]int{206}, "HTTP error 206"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			n := 0
			s, seen := serve(t, httptest.NewServer, func(w http.ResponseWriter, _ *http.Request) {
				code := 404
				if n < len(c.answers) {
					code = c.answers[n]
				}
				n++
				switch code {
				case 200:
					fmt.Fprint(w, "the file")
				case 0:
					w.Header().Set("Content-Length", "8")
					fmt.Fprint(w, "the ")
				default:
					http.Error(w, "because", code)
				}
			})
			err := l.fetch(fetched(nil), s.URL+"/file")
			if len(*seen) != len(c.answers) || len(l.pauses) != len(c.answers)-1 {
				t.Errorf("asked %d times, with %d pauses, want %d", len(*seen), len(l.pauses), len(c.answers))
			}
			for i, p := range l.pauses {
				if least := firstDelay << i; p < least || p >= 2*least {
					t.Errorf("pause %d takes %v, want between %v and twice that", i, p, least)
				}
			}
			for _, w := range l.warnings() {
				if !strings.HasPrefix(w, "warning: unable to download '"+s.URL+"/file': ") || !strings.Contains(w, "; retrying in ") {
					t.Errorf("warning: %q", w)
				}
			}
			if c.want != "" {
				l.fails(err, "unable to download '"+s.URL+"/file': ")
				l.fails(err, c.want)
			} else if err != nil {
				t.Error(err)
			} else {
				l.got("the file")
			}
		})
	}
	l := newLab(t)
	s, _ := serve(t, httptest.NewServer, text(""))
	s.Close()
	err := l.fetch(fetched(nil), s.URL)
	if !errors.Is(err, syscall.ECONNREFUSED) || len(l.pauses) != 2 {
		t.Errorf("a server that does not run: %v, after %d pauses", err, len(l.pauses))
	}
}

func TestFetchStalls(t *testing.T) {
	l := newLab(t)
	release := make(chan struct{})
	s, _ := serve(t, httptest.NewServer, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, strings.Repeat("x", 10_000))
		w.(http.Flusher).Flush()
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	err := l.fetch(fetched(func(f *builtin.Fetch) { f.StallTimeout, f.Attempts = 50*time.Millisecond, 1 }), s.URL)
	close(release)
	l.fails(err, "nothing was received for 50ms")
}

// That we are slow, by a limit on the speed, is no stall.
func TestFetchSlowly(t *testing.T) {
	l := newLab(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	d := &downloader{build: &build{log: &l.log}}
	b := &body{
		r: strings.NewReader(strings.Repeat("x", 512)), ctx: ctx, progress: d.begin("url"),
		watch: newWatch(400*time.Millisecond, cancel), pace: newPace(&builtin.Fetch{Speed: 1}),
	}
	n, err := b.Read(make([]byte, 512)) // takes half a second
	if n != 512 || err != nil || ctx.Err() != nil {
		t.Errorf("%d bytes, %v; the request: %v", n, err, context.Cause(ctx))
	}
}

func TestFetchMirrors(t *testing.T) {
	l := newLab(t)
	s, seen := serve(t, httptest.NewServer, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/empty") {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, "from ", r.URL.Path)
	})
	mirrors := []string{"gopher://nowhere", s.URL + "/empty", s.URL + "/full/", s.URL + "/late"}
	if err := l.fetch(fetched(func(f *builtin.Fetch) { f.Mirrors, f.FlatHash = mirrors, "sha256/abc" }), s.URL+"/main"); err != nil {
		t.Fatal(err)
	}
	l.got("from /full/sha256/abc")
	if want := []string{"GET /empty/sha256/abc", "GET /full/sha256/abc"}; !reflect.DeepEqual(*seen, want) {
		t.Errorf("requests: %q, want %q", *seen, want)
	}
	if err := l.fetch(fetched(func(f *builtin.Fetch) { f.Mirrors, f.FlatHash = mirrors[:2], "sha256/abc" }), s.URL+"/main"); err != nil {
		t.Fatal(err)
	}
	l.got("from /main")
	if err := l.fetch(fetched(func(f *builtin.Fetch) { f.Mirrors = mirrors }), s.URL+"/recursive"); err != nil {
		t.Fatal(err)
	}
	l.got("from /recursive")
}

// authority is the certificate by which a test's server can be trusted.
func authority(s *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

// A server without a trusted certificate gets no request at all, and so no
// password.
func TestFetchCertificates(t *testing.T) {
	const netrc = "machine 127.0.0.1 login me password secret"
	l := newLab(t)
	s, seen := serve(t, httptest.NewTLSServer, text("secret file"))
	trusting := func(cas []byte) *builtin.Fetch {
		return fetched(func(f *builtin.Fetch) { f.CAs, f.Netrc = cas, netrc })
	}
	if err := l.fetch(trusting(authority(s)), s.URL+"/x"); err != nil {
		t.Fatal(err)
	}
	l.got("secret file")
	if want := []string{"GET /x me secret"}; !reflect.DeepEqual(*seen, want) {
		t.Errorf("requests: %q, want %q", *seen, want)
	}
	*seen = nil
	l.fails(l.fetch(trusting(stranger(t)), s.URL+"/x"), "certificate signed by unknown authority")
	l.fails(l.fetch(trusting(nil), s.URL+"/x"), "certificate signed by unknown authority")
	l.fails(l.fetch(trusting([]byte("nothing")), s.URL+"/x"), "there are no certificates")
	// its certificate is for another name
	named := strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
	l.fails(l.fetch(fetched(func(f *builtin.Fetch) { f.CAs, f.Netrc = authority(s), "machine localhost login me password secret" }), named), "certificate is valid for")
	if len(*seen) != 0 || len(l.pauses) != 0 {
		t.Errorf("requests: %q, want none", *seen)
	}
}

// Passwords are for the server that the URL names.
func TestFetchPasswords(t *testing.T) {
	var elsewhere string
	other, otherSeen := serve(t, httptest.NewServer, text("from elsewhere"))
	s, seen := serve(t, httptest.NewServer, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, elsewhere, http.StatusFound)
		case "/on":
			http.Redirect(w, r, "/file", http.StatusFound)
		case "/round":
			http.Redirect(w, r, "/round", http.StatusFound)
		case "/file-url":
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusFound)
		default:
			fmt.Fprint(w, "here")
		}
	})
	const netrc = "machine 127.0.0.1 login me password secret\nmachine localhost login other password hidden\ndefault login all password everything"
	withNetrc := fetched(func(f *builtin.Fetch) { f.Netrc = netrc })
	for _, c := range []struct {
		url, elsewhere string
		want, wantElse []string
		err            string
	}{
		{url: s.URL + "/file", want: []string{"GET /file me secret"}},
		{url: strings.Replace(s.URL, "://", "://you:mine@", 1) + "/file", want: []string{"GET /file you mine"}},
		{url: s.URL + "/on", want: []string{"GET /on me secret", "GET /file me secret"}},
		// the same machine with another port, and a machine of which the file knows, too
		{url: s.URL + "/away", elsewhere: other.URL, want: []string{"GET /away me secret"}, wantElse: []string{"GET /"}},
		{url: s.URL + "/away", elsewhere: strings.Replace(other.URL, "127.0.0.1", "localhost", 1), want: []string{"GET /away me secret"}, wantElse: []string{"GET /"}},
		{url: s.URL + "/away", elsewhere: strings.Replace(other.URL, "://", "://you:yours@", 1), want: []string{"GET /away me secret"}, wantElse: []string{"GET /"}},
		{url: s.URL + "/file-url", want: []string{"GET /file-url me secret"}, err: "a redirection to 'file:' is refused"},
		{url: strings.Replace(s.URL, "127.0.0.1", "127.0.0.2", 1) + "/file", err: "connection refused"},
	} {
		*seen, *otherSeen, elsewhere = nil, nil, c.elsewhere
		l := newLab(t)
		err := l.fetch(withNetrc, c.url)
		if c.err != "" {
			l.fails(err, c.err)
		} else if err != nil {
			t.Errorf("%s: %v", c.url, err)
		}
		if !reflect.DeepEqual(*seen, c.want) || !reflect.DeepEqual(*otherSeen, c.wantElse) {
			t.Errorf("%s: requests %q and %q, want %q and %q", c.url, *seen, *otherSeen, c.want, c.wantElse)
		}
	}
	l := newLab(t)
	*seen = nil
	l.fails(l.fetch(withNetrc, s.URL+"/round"), "redirected the request 11 times")
	// a password in a URL is not shown
	if err := l.fetch(withNetrc, "gopher://me:secret@x/"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("error: %v", err)
	}
	named := strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
	*seen = nil
	if err := l.fetch(fetched(func(f *builtin.Fetch) { f.Netrc = "default login all password everything" }), named+"/file"); err != nil {
		t.Fatal(err)
	}
	if want := []string{"GET /file"}; !reflect.DeepEqual(*seen, want) {
		t.Errorf("requests %q, want %q", *seen, want)
	}
}

func TestFetchProxy(t *testing.T) {
	l := newLab(t)
	proxy, _ := serve(t, httptest.NewServer, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "by proxy: ", r.URL.String(), " ", r.Header.Get("Proxy-Authorization") != "")
	})
	with := func(name string) *builtin.Fetch {
		return fetched(func(f *builtin.Fetch) {
			f.Proxies = map[string]string{name: strings.Replace(proxy.URL, "://", "://me:secret@", 1), "no_proxy": "direct.test"}
		})
	}
	for _, name := range []string{"http_proxy", "all_proxy", "ALL_PROXY"} {
		if err := l.fetch(with(name), "http://far.test/file"); err != nil {
			t.Fatal(err)
		}
		l.got("by proxy: http://far.test/file true")
	}
}

// stranger is a certificate that signs nothing.
func stranger(t *testing.T) []byte {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(nil, c, c, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
