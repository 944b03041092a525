package cache

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"gobuild/internal/activity"
	"gobuild/internal/cache/wire"
	"gobuild/internal/store/digest"
	"gobuild/internal/store/narinfo"
	"gobuild/internal/store/sign"
	"gobuild/internal/store/storepath"
)

const storeDir = "/nix/store"

// A lab is a network in memory, on which time can be a bubble's, and what was
// said on it.
type lab struct {
	t *testing.T

	mu       sync.Mutex
	hosts    map[string]*host
	messages []string
	warnings []string
	dials    map[string]int
	requests map[string]int // by "host path"
}

func newLab(t *testing.T) *lab {
	l := &lab{t: t, hosts: map[string]*host{}, dials: map[string]int{}, requests: map[string]int{}}
	t.Cleanup(func() {
		for _, h := range l.hosts {
			h.server.Close()
		}
	})
	return l
}

// A host accepts connections that its dialler made.
type host struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	server *http.Server
}

func (h *host) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *host) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

func (h *host) Addr() net.Addr { return &net.TCPAddr{} }

// serve puts a server on the network, at http://NAME.
func (l *lab) serve(name string, handler http.HandlerFunc) {
	h := &host{conns: make(chan net.Conn), closed: make(chan struct{})}
	h.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		l.requests[name+" "+r.URL.Path]++
		l.requests[name]++
		l.mu.Unlock()
		handler(w, r)
	})}
	l.hosts[name+":80"] = h
	go h.server.Serve(h)
}

// blackhole puts a host on the network to which packets are lost.
func (l *lab) blackhole(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hosts[name+":80"] = &host{server: &http.Server{}}
}

var errRefused = errors.New("connection refused")

func (l *lab) dial(ctx context.Context, _, address string) (net.Conn, error) {
	l.mu.Lock()
	h := l.hosts[address]
	l.dials[strings.TrimSuffix(address, ":80")]++
	l.mu.Unlock()
	if h == nil {
		return nil, errRefused
	}
	ours, theirs := net.Pipe()
	select {
	case h.conns <- theirs:
		return ours, nil
	case <-h.closed:
		return nil, errRefused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *lab) message(level activity.Level, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.messages = append(l.messages, text)
	if level <= activity.Warn {
		l.warnings = append(l.warnings, text)
	}
}

// said are the warnings so far.
func (l *lab) said() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.warnings...)
}

func (l *lab) asked(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.requests[what]
}

func (l *lab) dialled(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dials[name]
}

func (l *lab) options() Options {
	return Options{
		Config: wire.Config{
			StoreDir: storeDir, RequireSigs: true, Connections: 25, HTTP2: true, Attempts: 5,
			ConnectTimeout: 5 * time.Second, StallTimeout: 300 * time.Second,
			PositiveTTL: 24 * time.Hour, NegativeTTL: time.Hour,
		},
		Message: l.message,
		dial:    l.dial,
	}
}

// open opens a cache in the lab.
func (l *lab) open(url string, o Options) Cache {
	l.t.Helper()
	c, err := Open(url, o)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		if s, ok := c.(*server); ok {
			s.close()
		}
	})
	return c
}

// set opens a set in the lab.
func (l *lab) set(o Options, urls ...string) *Set {
	l.t.Helper()
	s, err := NewSet(l.t.Context(), urls, o)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(s.Close)
	return s
}

// A shelf is the files of a cache.
type shelf map[string]string

func (s shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, ok := s[strings.TrimPrefix(r.URL.Path, "/")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	io.WriteString(w, text)
}

func newShelf(priority int) shelf {
	return shelf{"nix-cache-info": fmt.Sprintf("StoreDir: %s\nPriority: %d\n", storeDir, priority)}
}

// path is the n-th store path of a test.
func path(n int) storepath.Path {
	p, err := storepath.Dir(storeDir).Make("source", digest.Of(digest.SHA256, fmt.Append(nil, n)), fmt.Sprintf("path-%d", n))
	if err != nil {
		panic(err)
	}
	return p
}

// put adds a path to a shelf, signed unless the key is nil.
func (s shelf) put(p storepath.Path, key *sign.SecretKey, change ...func(*narinfo.Info)) *narinfo.Info {
	nar := "contents of " + string(p)
	i := &narinfo.Info{
		Path: p, URL: "nar/" + p.HashPart() + ".nar", Compression: "none",
		NarHash: digest.Of(digest.SHA256, []byte(nar)), NarSize: uint64(len(nar)),
	}
	for _, f := range change {
		f(i)
	}
	if key != nil {
		text, err := sign.Fingerprint(i.Path, i.NarHash, i.NarSize, i.References)
		if err != nil {
			panic(err)
		}
		i.Sigs = append(i.Sigs, key.Sign(text))
	}
	s[p.HashPart()+".narinfo"] = string(i.Append(nil))
	s[i.URL] = nar
	return i
}

func newKey(t *testing.T) (*sign.SecretKey, []string) {
	t.Helper()
	k, err := sign.Generate("test-1")
	if err != nil {
		t.Fatal(err)
	}
	return &k, []string{k.Public().String()}
}

// fetch reads a file of a cache to its end.
func fetch(t *testing.T, c Cache, name string) (string, error) {
	t.Helper()
	body, err := c.Get(t.Context(), name)
	if err != nil {
		return "", err
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	return string(text), err
}

// wantFault checks that an error says something.
func wantFault(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("got the error %v, want one that says %q", err, text)
	}
}

// local serves on a real socket.
func local(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s
}

func pemOf(s *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}
