package upload

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"testing"

	"gobuild/internal/cache/wire"
)

// A putServer keeps what is put there, and knows the types that it was told.
type putServer struct {
	mu     sync.Mutex
	files  map[string]string
	types  map[string]string
	denied string // a suffix of names that may not be written
}

func (s *putServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := strings.TrimPrefix(path.Clean(r.URL.Path), "/cache/")
	text, there := s.files[name]
	switch {
	case r.Method == http.MethodPut && s.denied != "" && strings.HasSuffix(name, s.denied):
		http.Error(w, "no", http.StatusForbidden)
	case r.Method == http.MethodPut:
		body, err := io.ReadAll(r.Body)
		if err != nil || r.ContentLength != int64(len(body)) {
			http.Error(w, "half a file", http.StatusBadRequest)
			return
		}
		s.files[name], s.types[name] = string(body), r.Header.Get("Content-Type")
		w.WriteHeader(http.StatusCreated)
	case !there:
		http.NotFound(w, r)
	default:
		_, _ = io.WriteString(w, text)
	}
}

// TestHTTP writes to a server what Nix writes to a directory.
func TestHTTP(t *testing.T) {
	s := &putServer{files: map[string]string{}, types: map[string]string{}}
	server := httptest.NewServer(s)
	defer server.Close()
	req := wire.Upload{To: server.URL + "/cache?compression=none" + goldenKey, Paths: goldenPaths(t)}
	req.Connections, req.Attempts = 4, 2
	if f := failures(serveIt(t, req)); f != nil {
		t.Fatal(f)
	}
	if want := tree(t, golden+"/cache/none"); !maps.Equal(s.files, want) {
		t.Errorf("got %v\nwant %v", s.files, want)
	}
	for name, got := range s.types {
		want := map[string]string{"": "text/x-nix-cache-info", ".narinfo": "text/x-nix-narinfo", ".nar": "application/x-nix-nar", ".ls": "application/json"}
		if got != want[path.Ext(name)] {
			t.Errorf("%s has the type '%s'", name, got)
		}
	}

	s.files, s.denied = map[string]string{}, ".nar"
	f := failures(serveIt(t, req))
	if len(f) == 0 || !strings.Contains(f[0], "403") {
		t.Errorf("got %q", f)
	}
	for name := range s.files {
		if strings.HasSuffix(name, ".narinfo") {
			t.Errorf("'%s' was written", name)
		}
	}
}
