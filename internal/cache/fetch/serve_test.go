package fetch

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"gobuild/internal/cache/wire"
	"gobuild/internal/store/digest"
	"gobuild/internal/store/nar"
	"gobuild/internal/store/narinfo"
	"gobuild/internal/store/storepath"
)

// A slowCache is one whose archives never come to their end.
type slowCache struct {
	url     string
	path    func(n int) storepath.Path
	started chan struct{} // for each archive that has been begun
}

// newSlowCache serves any number of paths, whose archives are promised to be
// of that size.
func newSlowCache(t *testing.T, size int) *slowCache {
	s := &slowCache{started: make(chan struct{}, 10000)}
	archive := fileArchive(t, noise(size))
	c := newCache(t)
	s.path = func(n int) storepath.Path {
		return storepath.Path(fmt.Sprintf("%s/%s-slow", storeDir, digest.Of(digest.SHA256, fmt.Append(nil, n)).Nix32()[:storepath.HashLen]))
	}
	const narinfos = 100
	for n := range narinfos {
		c.add(s.path(n), archive, "none", func(i *narinfo.Info) { i.URL = fmt.Sprintf("nar/%d.nar", n) })
	}
	s.url = c.http(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/nar/") {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(archive)))
		w.Write(archive[:len(archive)-1])
		http.NewResponseController(w).Flush()
		s.started <- struct{}{}
		<-r.Context().Done()
		return true
	})
	return s
}

func TestCancel(t *testing.T) {
	for _, size := range []int{1000, 4 << 20} {
		c := newSlowCache(t, size)
		e := start(t, func(c *wire.Config) { c.Connections = minLoads }, c.url)
		dests := t.TempDir()
		dest := func(n int) string { return filepath.Join(dests, fmt.Sprint(n)) }
		var ids []uint64
		for n := range 3 * minLoads {
			ids = append(ids, e.send(wire.Request{Op: wire.Fetch, Path: string(c.path(n)), Dest: dest(n)}))
		}
		for range minLoads {
			<-c.started
		}
		// Those that wait, those at work, and those that do not exist.
		for n := len(ids) - 1; n >= 0; n-- {
			e.tell(wire.Request{ID: ids[n], Op: wire.Cancel})
			e.tell(wire.Request{ID: ids[n], Op: wire.Cancel})
			if r := e.reply(ids[n]); r.Kind != wire.Failed || r.Error != "cancelled" || r.Gone {
				t.Errorf("%d bytes, request %d: %+v", size, n, r)
			}
			if _, err := os.Lstat(dest(n)); !os.IsNotExist(err) {
				t.Errorf("%d bytes: request %d has left something, or %v", size, n, err)
			}
		}
		e.tell(wire.Request{ID: 12345, Op: wire.Cancel})
		nothingIn(t, dests)
		must(t, e.stop())
	}
}

func TestCancelLookup(t *testing.T) {
	asked := make(chan struct{}, 1)
	c := newCache(t)
	e := start(t, nil, c.http(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, narinfo.Suffix) {
			asked <- struct{}{}
			<-r.Context().Done()
			return true
		}
		return false
	}))
	id := e.send(wire.Request{Op: wire.Info, Path: string(aPath)})
	<-asked
	e.tell(wire.Request{ID: id, Op: wire.Cancel})
	if r := e.reply(id); r.Kind != wire.Absent || r.Error != "cancelled" {
		t.Errorf("%+v", r)
	}
}

// TestTheEndOfInput gives up in the middle of everything.
func TestTheEndOfInput(t *testing.T) {
	c := newSlowCache(t, 1<<20)
	e := start(t, nil, c.url)
	dests := t.TempDir()
	for n := range 40 {
		e.send(wire.Request{Op: wire.Fetch, Path: string(c.path(n)), Dest: filepath.Join(dests, fmt.Sprint(n))})
	}
	for range 10 {
		<-c.started
	}
	must(t, e.stop())
	nothingIn(t, dests)
}

// TestCrowd asks for more than can be done at once.
func TestCrowd(t *testing.T) {
	const paths = 2000
	archive := fileArchive(t, noise(16<<10))
	large := fileArchive(t, noise(nar.BlockSize+1000))
	c := newCache(t)
	var all []storepath.Path
	for n := range paths {
		path := storepath.Path(fmt.Sprintf("%s/%s-crowd", storeDir, digest.Of(digest.SHA256, fmt.Append(nil, n)).Nix32()[:storepath.HashLen]))
		all = append(all, path)
		text := archive
		if n%50 == 0 {
			text = large
		}
		c.add(path, text, "none", nil)
	}
	var goroutines, requests, most atomic.Int64
	var memory atomic.Uint64
	url := c.http(func(w http.ResponseWriter, r *http.Request) bool {
		most.Store(max(most.Load(), requests.Add(1)))
		defer requests.Add(-1)
		goroutines.Store(max(goroutines.Load(), int64(runtime.NumGoroutine())))
		if goroutines.Load()%50 == 0 {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			memory.Store(max(memory.Load(), m.HeapAlloc))
		}
		http.ServeFile(w, r, filepath.Join(c.dir, r.URL.Path))
		return true
	})
	const connections = 8
	e := start(t, func(c *wire.Config) { c.Connections = connections }, url)
	dests := t.TempDir()
	var ids []uint64
	for _, path := range all {
		ids = append(ids, e.send(wire.Request{Op: wire.Info, Path: string(path)}))
	}
	for i, id := range ids {
		if r := e.reply(id); r.Kind != wire.Found {
			t.Fatalf("%+v", r)
		}
		ids[i] = e.send(wire.Request{Op: wire.Fetch, Path: string(all[i]), Dest: filepath.Join(dests, fmt.Sprint(i))})
	}
	for _, id := range ids {
		if r := e.reply(id); r.Kind != wire.Fetched {
			t.Fatalf("%+v", r)
		}
	}
	// The server's are among them, and those of the connections on both sides.
	if n := goroutines.Load(); n > maxAsks*2+connections*8+50 {
		t.Errorf("%d goroutines at once", n)
	}
	if n := most.Load(); n > connections {
		t.Errorf("%d requests at once", n)
	}
	if n := memory.Load(); n > 200<<20 {
		t.Errorf("%d MiB of memory", n>>20)
	}
	for i := range all {
		text := archive
		if i%50 == 0 {
			text = large
		}
		isTree(t, filepath.Join(dests, fmt.Sprint(i)), text)
	}
}

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	m := newMeter(t.Context(), newOutbox(&out), 7)
	m.from = bytes.NewReader(make([]byte, 100))
	m.told = m.told.Add(-progressEvery)
	for range 10 {
		if n, err := m.Read(make([]byte, 10)); n != 10 || err != nil {
			t.Fatal(n, err)
		}
	}
	must(t, m.out.close())
	if got := out.String(); got != `{"ID":7,"Kind":"progress","Downloaded":10}`+"\n" {
		t.Errorf("ten reads at once were reported as %q", got)
	}
}

func TestLogs(t *testing.T) {
	const drv = storepath.Path(storeDir + "/xdmc4szg3vxcn7lg6j37qg5rqqk11cm1-selfref.drv")
	text := []byte(strings.Repeat("building\n", 100000))
	dests := t.TempDir()
	dest := filepath.Join(dests, "log")
	for _, method := range []string{"none", "bzip2", "xz", "zstd", "gzip"} {
		for transport, url := range transports {
			c := newCache(t)
			must(t, os.Mkdir(filepath.Join(c.dir, "log"), 0o755))
			c.write("log/"+drv.Base(), pack(t, method, text))
			e := start(t, nil, newCache(t).file(), url(c))
			r := e.ask(wire.Request{Op: wire.Log, Path: string(drv), Dest: dest})
			got, err := os.ReadFile(dest)
			if r.Kind != wire.Fetched || r.Unpacked != uint64(len(text)) || err != nil || !bytes.Equal(got, text) {
				t.Errorf("%s, %s: %+v, %v", transport, method, r, err)
			}
			must(t, os.RemoveAll(dest), e.stop())
		}
	}
	c := newCache(t)
	must(t, os.Mkdir(filepath.Join(c.dir, "log"), 0o755))
	c.write("log/"+drv.Base(), pack(t, "xz", text)[:100])
	encoded := newCache(t)
	e := start(t, nil, c.file(), encoded.http(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/log/") {
			w.Header().Set("Content-Encoding", "br")
			w.Write(pack(t, "br", text))
			return true
		}
		return false
	}))
	if r := e.ask(wire.Request{Op: wire.Log, Path: string(drv), Dest: dest}); r.Kind != wire.Failed || !strings.Contains(r.Error, "its file is truncated") {
		t.Errorf("%+v", r)
	}
	nothingIn(t, dests)
	must(t, os.RemoveAll(filepath.Join(c.dir, "log")))
	if r := e.ask(wire.Request{Op: wire.Log, Path: string(drv), Dest: dest}); r.Kind != wire.Fetched || r.Unpacked != uint64(len(text)) {
		t.Errorf("%+v", r)
	}
	must(t, os.Remove(dest))
	if r := e.ask(wire.Request{Op: wire.Log, Path: "/etc/passwd", Dest: dest}); r.Kind != wire.Failed || r.Gone {
		t.Errorf("a log of nothing: %+v", r)
	}
	none := start(t, nil, newCache(t).file())
	if r := none.ask(wire.Request{Op: wire.Log, Path: string(drv), Dest: dest}); r.Kind != wire.Failed || !r.Gone {
		t.Errorf("%+v", r)
	}
	nothingIn(t, dests)
}
