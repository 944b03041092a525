package fetch

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"gobuild/internal/activity"
	"gobuild/internal/cache/wire"
	"gobuild/internal/store/narinfo"
	"gobuild/internal/store/storepath"
)

func TestHostileServers(t *testing.T) {
	small, large := fileArchive(t, []byte("hello")), fileArchive(t, noise(1<<20))
	isNar := func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/nar/") }
	for _, c := range []struct {
		name    string
		archive []byte
		method  string
		edit    func(*narinfo.Info)
		answer  http.HandlerFunc // to a request for an archive
		want    string
		gone    bool
	}{
		{"endless archive", small, "none", func(i *narinfo.Info) { i.FileSize = 0 }, func(w http.ResponseWriter, r *http.Request) {
			for block := append(small[:96:96], make([]byte, 1<<16)...); ; block = block[96:] {
				if _, err := w.Write(block); err != nil {
					return
				}
				block = make([]byte, 1<<16)
			}
		}, "size mismatch importing path", false},
		{"endless file", small, "gzip", nil, func(w http.ResponseWriter, r *http.Request) {
			w.Write(pack(t, "gzip", small)[:20])
			for {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}, "", false},
		{"nothing without end", small, "gzip", func(i *narinfo.Info) { i.FileSize = 1 << 62 }, func(w http.ResponseWriter, r *http.Request) {
			for nothing := bytes.Repeat(pack(t, "gzip", nil), 1<<12); ; {
				if _, err := w.Write(nothing); err != nil {
					return
				}
			}
		}, "far longer than its archive", false},
		{"cut connection", large, "none", nil, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(large)))
			w.Write(large[:400000])
			panic(http.ErrAbortHandler)
		}, "", false},
		{"gone", small, "none", nil, http.NotFound, "", true},
		{"forbidden", small, "none", nil, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusForbidden) }, "", true},
		{"a page instead", small, "xz", nil, func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("<html>log in first</html>")) }, "unpacking its file", false},
		{"broken server", small, "none", nil, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, "500", true},
		{"on to a file", small, "none", nil, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		}, "redirect", false},
		{"on for ever", small, "none", nil, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		}, "redirect", false},
	} {
		cache := newCache(t)
		cache.add(aPath, c.archive, c.method, c.edit)
		e := start(t, nil, cache.http(func(w http.ResponseWriter, r *http.Request) bool {
			if isNar(r) {
				c.answer(w, r)
			}
			return isNar(r)
		}))
		dests := t.TempDir()
		r := e.fetch(aPath, filepath.Join(dests, "x"))
		if r.Kind != wire.Failed || r.Gone != c.gone || !strings.Contains(r.Error, c.want) || !strings.Contains(r.Error, string(aPath)) {
			t.Errorf("%s: %+v, want %q", c.name, r, c.want)
		}
		nothingIn(t, dests)
		must(t, e.stop())
	}
}

// TestServerDies loses the server between its promise and the archive, which
// is nobody's fault, and is told once.
func TestServerDies(t *testing.T) {
	c := newCache(t)
	c.add(aPath, fileArchive(t, []byte("hello")), "none", nil)
	s := httptest.NewServer(http.FileServer(http.Dir(c.dir)))
	defer s.Close()
	e := start(t, nil, s.URL)
	r := e.ask(wire.Request{Op: wire.Info, Path: string(aPath)})
	if r.Kind != wire.Found {
		t.Fatalf("%+v", r)
	}
	s.Close()
	dests := t.TempDir()
	r = e.ask(wire.Request{Op: wire.Fetch, Path: string(aPath), Source: r.Source, Dest: filepath.Join(dests, "x")})
	if want := "fetching path '" + string(aPath) + "': cache '" + s.URL + "' is out of service"; r.Kind != wire.Failed || !r.Gone || !r.Down || !strings.HasPrefix(r.Error, want) {
		t.Errorf("%+v, want %q", r, want)
	}
	if r := e.ask(wire.Request{Op: wire.Info, Path: string(aPath) + "-more"}); r.Kind != wire.Absent || r.Error != "" {
		t.Errorf("%+v", r)
	}
	nothingIn(t, dests)
	warned := false
	for _, n := range e.news {
		warned = warned || n.Kind == wire.Message && n.Level == activity.Warn && strings.Contains(n.Text, s.URL)
	}
	if !warned {
		t.Errorf("nobody was warned: %+v", e.news)
	}
}

// TestHostileNarinfos has nothing to offer that is to be believed.
func TestHostileNarinfos(t *testing.T) {
	archive := fileArchive(t, []byte("hello"))
	const other = storepath.Path(storeDir + "/3p04jdnsw65v6nld53wli53r60p4xmjk-other")
	for name, edit := range map[string]func(*narinfo.Info) string{
		"another path":         func(i *narinfo.Info) string { i.Path = other; return "" },
		"another name":         func(i *narinfo.Info) string { i.Path = aPath + "-not"; return "" },
		"leads out":            func(i *narinfo.Info) string { i.URL = "../../etc/passwd"; return "" },
		"leads to a file":      func(i *narinfo.Info) string { i.URL = "file:///etc/passwd"; return "" },
		"leads elsewhere":      func(i *narinfo.Info) string { i.URL = "http://localhost:1/nar/x"; return "" },
		"references nonsense":  func(*narinfo.Info) string { return "References: ../../etc/passwd\n" },
		"reference of no path": func(*narinfo.Info) string { return "References: hello\n" },
		"no line":              func(*narinfo.Info) string { return "hello" },
		"signed by a stranger": func(i *narinfo.Info) string {
			i.Sigs = []string{"stranger:" + strings.Repeat("A", 86) + "=="}
			return ""
		},
		"not signed": func(*narinfo.Info) string { return "" },
	} {
		for transport, url := range transports {
			c := newCache(t)
			i := c.add(aPath, archive, "none", nil)
			rest := edit(i)
			c.write(narinfo.Name(aPath), append(i.Append(nil), rest...))
			e := start(t, func(w *wire.Config) { w.RequireSigs = true }, url(c))
			if r := e.ask(wire.Request{Op: wire.Info, Path: string(aPath)}); r.Kind != wire.Absent {
				t.Errorf("%s, %s: %+v", transport, name, r)
			}
			dests := t.TempDir()
			if r := e.ask(wire.Request{Op: wire.Fetch, Path: string(aPath), Dest: filepath.Join(dests, "x")}); r.Kind != wire.Failed {
				t.Errorf("%s, %s: %+v", transport, name, r)
			}
			nothingIn(t, dests)
			must(t, e.stop())
		}
	}
}
