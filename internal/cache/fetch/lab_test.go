package fetch

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gobuild/internal/cache/compress"
	"gobuild/internal/cache/wire"
	"gobuild/internal/store/digest"
	"gobuild/internal/store/fstree"
	"gobuild/internal/store/nar"
	"gobuild/internal/store/narinfo"
	"gobuild/internal/store/storepath"
)

const (
	golden   = "../../../testdata/golden"
	storeDir = "/nix/store"
	aPath    = storepath.Path(storeDir + "/94f9f6i31zwzwbf0kclq1naqxxi4c7v9-simple")
)

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// An engine is the other side of a Serve.
type engine struct {
	t       testing.TB
	in      *io.PipeWriter
	ended   chan error
	replies chan *wire.Reply // of Serve, as they come

	lastID uint64
	news   []*wire.Reply // what came while another reply was waited for
}

// start runs a Serve that asks these caches. Unless a test changes that, it
// believes unsigned narinfos.
func start(t testing.TB, change func(*wire.Config), urls ...string) *engine {
	t.Helper()
	cfg := wire.Config{Version: wire.Version, StoreDir: storeDir, Substituters: urls, Connections: 25, Attempts: 1}
	if change != nil {
		change(&cfg)
	}
	requests, in := io.Pipe()
	out, answers := io.Pipe()
	e := &engine{t: t, in: in, ended: make(chan error, 1), replies: make(chan *wire.Reply, 10000)}
	go func() {
		err := Serve(requests, answers, nil)
		requests.CloseWithError(errors.New("Serve has ended"))
		answers.Close()
		e.ended <- err
	}()
	go func() {
		defer close(e.replies)
		for d := json.NewDecoder(out); ; {
			r := new(wire.Reply)
			if d.Decode(r) != nil {
				return
			}
			e.replies <- r
		}
	}()
	t.Cleanup(func() { must(t, e.stop()) })
	e.tell(cfg)
	return e
}

func (e *engine) tell(message any) {
	e.t.Helper()
	line, err := wire.Encode(message)
	must(e.t, err)
	_, err = e.in.Write(line)
	must(e.t, err)
}

// send asks something and returns its number.
func (e *engine) send(r wire.Request) uint64 {
	e.t.Helper()
	e.lastID++
	r.ID = e.lastID
	e.tell(r)
	return r.ID
}

// reply waits for an answer that is final.
func (e *engine) reply(id uint64) *wire.Reply {
	e.t.Helper()
	for i, r := range e.news {
		if r.ID == id && r.Kind != wire.Progress {
			e.news = append(e.news[:i], e.news[i+1:]...)
			return r
		}
	}
	for r := range e.replies {
		if r.ID == id && r.Kind != wire.Progress {
			return r
		}
		e.news = append(e.news, r)
	}
	e.t.Fatalf("Serve ended without an answer to request %d", id)
	return nil
}

func (e *engine) ask(r wire.Request) *wire.Reply {
	e.t.Helper()
	return e.reply(e.send(r))
}

// fetch asks for a path as the engine does, and for its substitute at dest.
func (e *engine) fetch(path storepath.Path, dest string) *wire.Reply {
	e.t.Helper()
	r := e.ask(wire.Request{Op: wire.Info, Path: string(path)})
	if r.Kind != wire.Found {
		return r
	}
	return e.ask(wire.Request{Op: wire.Fetch, Path: string(path), Source: r.Source, Dest: dest})
}

// stop ends the input, and may be called twice.
func (e *engine) stop() error {
	e.in.Close()
	err := <-e.ended
	e.ended <- err
	return err
}

// A testCache is a directory that is served by file or by HTTP.
type testCache struct {
	t      testing.TB
	dir    string
	latest storepath.Path // that was added
}

func newCache(t testing.TB) *testCache {
	t.Helper()
	c := &testCache{t: t, dir: t.TempDir()}
	must(t, os.Mkdir(filepath.Join(c.dir, "nar"), 0o755))
	c.write(narinfo.CacheInfoName, []byte("StoreDir: "+storeDir+"\nWantMassQuery: 1\n"))
	return c
}

func (c *testCache) file() string { return "file://" + c.dir }

// http serves the cache. handle, if given, may answer itself.
func (c *testCache) http(handle func(w http.ResponseWriter, r *http.Request) bool) string {
	files := http.FileServer(http.Dir(c.dir))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if handle == nil || !handle(w, r) {
			files.ServeHTTP(w, r)
		}
	}))
	c.t.Cleanup(s.Close)
	return s.URL
}

func (c *testCache) write(name string, data []byte) {
	c.t.Helper()
	must(c.t, os.WriteFile(filepath.Join(c.dir, name), data, 0o644))
}

// add puts an archive into the cache. edit may make a liar of the narinfo.
func (c *testCache) add(path storepath.Path, archive []byte, method string, edit func(*narinfo.Info)) *narinfo.Info {
	c.t.Helper()
	return c.addPacked(path, archive, pack(c.t, method, archive), method, edit)
}

func (c *testCache) addPacked(path storepath.Path, archive, packed []byte, method string, edit func(*narinfo.Info)) *narinfo.Info {
	c.t.Helper()
	i := &narinfo.Info{
		Path: path, Compression: method, FileHash: digest.Of(digest.SHA256, packed), FileSize: uint64(len(packed)),
		NarHash: digest.Of(digest.SHA256, archive), NarSize: uint64(len(archive)),
	}
	i.URL = "nar/" + i.FileHash.Nix32() + ".nar" + compress.Extension(method)
	if edit != nil {
		edit(i)
	}
	c.latest = path
	c.write(i.URL, packed)
	c.write(narinfo.Name(path), i.Append(nil))
	return i
}

func pack(t testing.TB, method string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := compress.NewWriter(method, &b, -1, false)
	must(t, err)
	_, err = w.Write(data)
	must(t, err, w.Close())
	return b.Bytes()
}

// fileArchive is the archive of a file.
func fileArchive(t testing.TB, contents []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	must(t, nar.WriteFile(&b, contents))
	return b.Bytes()
}

// treeArchive is the archive of a tree with many files, a large one, a link
// and an empty directory.
func treeArchive(t testing.TB, large int) []byte {
	t.Helper()
	top := filepath.Join(t.TempDir(), "tree")
	for _, dir := range []string{"bin", "empty", "share/doc"} {
		must(t, os.MkdirAll(filepath.Join(top, dir), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(top, "bin/tool"), noise(large), 0o755), os.Symlink("../bin/tool", filepath.Join(top, "share/link")))
	for i := range 40 {
		must(t, os.WriteFile(filepath.Join(top, "share/doc", strings.Repeat("x", i+1)), noise(i*100), 0o644))
	}
	var b bytes.Buffer
	must(t, nar.Dump(&b, top))
	return b.Bytes()
}

// noise is n bytes that compress to about half.
func noise(n int) []byte {
	b := make([]byte, n)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x>>24) & 0x0f
	}
	return b
}

// nothingIn demands that a directory is empty, and so that nothing was left.
func nothingIn(t testing.TB, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		t.Errorf("'%s' was left in '%s'", e.Name(), dir)
	}
}

// isTree demands that a canonical tree is there, and removes it.
func isTree(t testing.TB, dest string, archive []byte) {
	t.Helper()
	var b bytes.Buffer
	if err := nar.Dump(&b, dest); err != nil || !bytes.Equal(b.Bytes(), archive) {
		t.Errorf("'%s' is not the tree that was to be fetched (%v)", dest, err)
	}
	must(t, filepath.WalkDir(dest, func(path string, d fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err := errors.Join(err, unix.Lstat(path, &st)); err != nil {
			return err
		}
		mode := st.Mode & 07777
		if st.Mtim != (unix.Timespec{Sec: 1}) || d.Type() != fs.ModeSymlink && mode != 0o444 && mode != 0o555 {
			t.Errorf("'%s' is not canonical: mode %o, time %v", path, mode, st.Mtim)
		}
		return nil
	}))
	_, err := fstree.RemoveAll(dest)
	must(t, err)
}
