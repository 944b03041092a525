package fetch

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gobuild/internal/cache/wire"
	"gobuild/internal/store/digest"
	"gobuild/internal/store/nar"
	"gobuild/internal/store/narinfo"
	"gobuild/internal/store/storepath"
)

func TestGoldenCaches(t *testing.T) {
	for _, name := range []string{"none", "xz", "bzip2", "zstd", "ca"} {
		dir, err := filepath.Abs(filepath.Join(golden, "cache", name))
		must(t, err)
		infos, err := filepath.Glob(filepath.Join(dir, "*"+narinfo.Suffix))
		must(t, err)
		if len(infos) == 0 {
			t.Fatalf("there is nothing in '%s'", dir)
		}
		e := start(t, func(c *wire.Config) { c.TrustedKeys = nil }, "file://"+dir)
		dests := t.TempDir()
		for _, file := range infos {
			text, err := os.ReadFile(file)
			must(t, err)
			want, err := narinfo.Parse(storeDir, filepath.Base(file), text)
			must(t, err)
			dest := filepath.Join(dests, "x")
			r := e.ask(wire.Request{Op: wire.Info, Path: string(want.Path)})
			if r.Kind != wire.Found || r.Info.NarHash != want.NarHash.String() || r.Info.NarSize != want.NarSize ||
				len(r.Info.References) != len(want.References) || r.Info.Deriver != string(want.Deriver) || r.Info.CA != want.CA.String() ||
				len(r.Info.Sigs) != len(want.Sigs) || r.Info.DownloadSize != want.FileSize {
				t.Errorf("%s: %s: %+v with %+v", name, want.Path, r, r.Info)
				continue
			}
			r = e.ask(wire.Request{Op: wire.Fetch, Path: string(want.Path), Source: r.Source, Dest: dest})
			if r.Kind != wire.Fetched || r.Downloaded != want.FileSize || r.Unpacked != want.NarSize {
				t.Errorf("%s: %s: %+v", name, want.Path, r)
				continue
			}
			h := digest.SHA256.New()
			must(t, nar.Dump(h, dest))
			if got := digest.FromHash(digest.SHA256, h); got != want.NarHash {
				t.Errorf("%s: %s is %s after unpacking, want %s", name, want.Path, got, want.NarHash)
			}
			must(t, os.RemoveAll(dest))
		}
	}
}

// TestSizes has archives around the sizes at which something changes.
func TestSizes(t *testing.T) {
	c := newCache(t)
	e := start(t, nil, c.file())
	dests := t.TempDir()
	for _, size := range []int{0, 1, 8, 16 << 10, nar.BlockSize - 113, nar.BlockSize - 112, nar.BlockSize - 111, nar.BlockSize,
		2*nar.BlockSize - 112, 3 << 20, largeNar + 1} {
		for _, method := range []string{"none", "zstd"} {
			if size > 1<<20 && method != "none" {
				continue // takes long to make
			}
			archive := fileArchive(t, noise(size))
			c.add(aPath, archive, method, nil)
			dest := filepath.Join(dests, "x")
			if r := e.fetch(aPath, dest); r.Kind != wire.Fetched {
				t.Errorf("%d bytes, %s: %+v", size, method, r)
				continue
			}
			isTree(t, dest, archive)
		}
	}
	nothingIn(t, dests)
}

func TestTreesByAllMethods(t *testing.T) {
	c := newCache(t)
	e := start(t, nil, c.file())
	dests := t.TempDir()
	for _, method := range []string{"none", "xz", "bzip2", "zstd", "gzip", "br"} {
		for _, large := range []int{1000, 400 << 10} {
			archive := treeArchive(t, large)
			c.add(aPath, archive, method, nil)
			dest := filepath.Join(dests, "x")
			if r := e.fetch(aPath, dest); r.Kind != wire.Fetched {
				t.Errorf("%s: %+v", method, r)
				continue
			}
			isTree(t, dest, archive)
		}
	}
	nothingIn(t, dests)
}

func TestOnDisk(t *testing.T) {
	c := newCache(t)
	e := start(t, func(c *wire.Config) { c.Fsync = true }, c.file())
	archive := treeArchive(t, 1000)
	c.add(aPath, archive, "none", nil)
	dest := filepath.Join(t.TempDir(), "x")
	if r := e.fetch(aPath, dest); r.Kind != wire.Fetched {
		t.Fatalf("%+v", r)
	}
	isTree(t, dest, archive)
}

func TestNobodyHasIt(t *testing.T) {
	e := start(t, nil, newCache(t).file(), newCache(t).file())
	if r := e.ask(wire.Request{Op: wire.Info, Path: string(aPath)}); r.Kind != wire.Absent || r.Error != "" {
		t.Errorf("%+v", r)
	}
	if r := e.ask(wire.Request{Op: wire.Info, Path: "/etc/passwd"}); r.Kind != wire.Absent || !strings.Contains(r.Error, "is not in the Nix store") {
		t.Errorf("%+v", r)
	}
	none := start(t, nil)
	if r := none.ask(wire.Request{Op: wire.Info, Path: string(aPath)}); r.Kind != wire.Absent || r.Error != "" {
		t.Errorf("without any cache: %+v", r)
	}
}

// TestCachesThatAreDown keeps nobody from building: a cache that is out of
// service is as good as one that has nothing, also when it promised something
// before.
func TestCachesThatAreDown(t *testing.T) {
	dead := httptest.NewServer(http.NotFoundHandler())
	dead.Close()
	e := start(t, nil, dead.URL, newCache(t).file())
	if r := e.ask(wire.Request{Op: wire.Info, Path: string(aPath)}); r.Kind != wire.Absent || r.Error != "" {
		t.Errorf("%+v", r)
	}
	broken := newCache(t)
	broken.write(narinfo.Name(aPath), []byte("nonsense"))
	e = start(t, nil, dead.URL, broken.file())
	r := e.ask(wire.Request{Op: wire.Info, Path: string(aPath)})
	if r.Kind != wire.Absent || !strings.Contains(r.Error, "corrupt") || strings.Contains(r.Error, dead.URL) {
		t.Errorf("%+v", r)
	}

	dies := newCache(t)
	dies.add(aPath, fileArchive(t, []byte("hello")), "none", nil)
	url := dies.http(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/nar/") {
			return false
		}
		panic(http.ErrAbortHandler)
	})
	e = start(t, nil, url)
	if r := e.fetch(aPath, filepath.Join(t.TempDir(), "x")); r.Kind != wire.Failed || !r.Gone {
		t.Errorf("%+v", r)
	}
}

// TestTheNextSource asks again where the first answer came from.
func TestTheNextSource(t *testing.T) {
	first, second := newCache(t), newCache(t)
	archive := fileArchive(t, []byte("hello"))
	first.add(aPath, fileArchive(t, []byte("hallo")), "none", func(i *narinfo.Info) { i.NarHash = digest.Of(digest.SHA256, archive) })
	second.add(aPath, archive, "none", nil)
	e := start(t, nil, first.file(), second.file())
	dest := filepath.Join(t.TempDir(), "x")
	r := e.ask(wire.Request{Op: wire.Info, Path: string(aPath)})
	if r.Kind != wire.Found || r.Source != 0 || r.URI != first.file() {
		t.Fatalf("%+v", r)
	}
	if r := e.ask(wire.Request{Op: wire.Fetch, Path: string(aPath), Source: r.Source, Dest: dest}); r.Kind != wire.Failed || r.Gone {
		t.Errorf("%+v", r)
	}
	r = e.ask(wire.Request{Op: wire.Info, Path: string(aPath), After: r.Source + 1})
	if r.Kind != wire.Found || r.Source != 1 || r.URI != second.file() {
		t.Fatalf("%+v", r)
	}
	if r := e.ask(wire.Request{Op: wire.Fetch, Path: string(aPath), Source: r.Source, Dest: dest}); r.Kind != wire.Fetched {
		t.Errorf("%+v", r)
	}
	isTree(t, dest, archive)
	if r := e.ask(wire.Request{Op: wire.Info, Path: string(aPath), After: 2}); r.Kind != wire.Absent || r.Error != "" {
		t.Errorf("%+v", r)
	}
}

// TestURLs tells people what is downloaded, if anything is.
func TestURLs(t *testing.T) {
	c := newCache(t)
	info := c.add(aPath, fileArchive(t, []byte("hello")), "none", nil)
	for _, cache := range []struct{ uri, want string }{
		{c.file(), ""},
		{c.http(nil), "/" + info.URL},
	} {
		e := start(t, nil, cache.uri)
		want := cache.want
		if want != "" {
			want = cache.uri + want
		}
		if r := e.ask(wire.Request{Op: wire.Info, Path: string(aPath)}); r.Kind != wire.Found || r.URL != want {
			t.Errorf("%s: %+v, want the URL %q", cache.uri, r, want)
		}
	}
}

// TestFetchWithoutInfo is what happens when the answer was another process's.
func TestFetchWithoutInfo(t *testing.T) {
	empty, c := newCache(t), newCache(t)
	archive := fileArchive(t, []byte("hello"))
	c.add(aPath, archive, "none", nil)
	e := start(t, nil, empty.file(), c.file())
	dest := filepath.Join(t.TempDir(), "x")
	if r := e.ask(wire.Request{Op: wire.Fetch, Path: string(aPath), Source: 1, Dest: dest}); r.Kind != wire.Fetched {
		t.Errorf("%+v", r)
	}
	isTree(t, dest, archive)
	if r := e.ask(wire.Request{Op: wire.Fetch, Path: string(aPath), Source: 0, Dest: dest}); r.Kind != wire.Failed || !r.Gone {
		t.Errorf("from a cache that does not have it: %+v", r)
	}
	if r := e.ask(wire.Request{Op: wire.Fetch, Path: string(aPath), Source: 7, Dest: dest}); r.Kind != wire.Failed {
		t.Errorf("from a cache that does not exist: %+v", r)
	}
}

// TestMovedArchive has a cache compress its archive anew after it was asked:
// the new file is another one, and longer than the first promise.
func TestMovedArchive(t *testing.T) {
	c := newCache(t)
	archive := fileArchive(t, noise(5000))
	before := c.add(aPath, archive, "xz", nil)
	e := start(t, nil, c.http(nil))
	dest := filepath.Join(t.TempDir(), "x")
	r := e.ask(wire.Request{Op: wire.Info, Path: string(aPath)})
	if r.Kind != wire.Found || r.Info.DownloadSize != before.FileSize {
		t.Fatalf("%+v", r)
	}
	must(t, os.Remove(filepath.Join(c.dir, before.URL)))
	c.add(aPath, archive, "none", nil)
	r = e.ask(wire.Request{Op: wire.Fetch, Path: string(aPath), Source: r.Source, Dest: dest})
	if r.Kind != wire.Fetched || r.Downloaded != uint64(len(archive)) {
		t.Errorf("%+v", r)
	}
	isTree(t, dest, archive)
}

func TestWhatIsThereStays(t *testing.T) {
	c := newCache(t)
	c.add(aPath, fileArchive(t, []byte("hello")), "none", nil)
	e := start(t, nil, c.file())
	dest := filepath.Join(t.TempDir(), "x")
	must(t, os.WriteFile(dest, []byte("precious"), 0o600))
	r := e.fetch(aPath, dest)
	if r.Kind != wire.Failed || !strings.Contains(r.Error, "something is there already") {
		t.Errorf("%+v", r)
	}
	if got, err := os.ReadFile(dest); err != nil || string(got) != "precious" {
		t.Errorf("it holds %q, %v", got, err)
	}
}

func TestLinksEqualFiles(t *testing.T) {
	c := newCache(t)
	store := t.TempDir()
	links := filepath.Join(store, ".links")
	archive := fileArchive(t, noise(10000))
	paths := []storepath.Path{aPath, storeDir + "/3p04jdnsw65v6nld53wli53r60p4xmjk-other"}
	e := start(t, nil, c.file())
	for i, path := range paths {
		c.add(path, archive, "none", nil)
		r := e.ask(wire.Request{Op: wire.Fetch, Path: string(path), Dest: filepath.Join(store, path.Base()), Links: links})
		if r.Kind != wire.Fetched || r.LinkedFiles != uint64(i) || r.LinkedBytes != uint64(i*10000) {
			t.Errorf("%s: %+v", path, r)
		}
	}
	first, err1 := os.Stat(filepath.Join(store, paths[0].Base()))
	second, err2 := os.Stat(filepath.Join(store, paths[1].Base()))
	must(t, err1, err2)
	if !os.SameFile(first, second) {
		t.Error("equal files were not linked")
	}
}

func TestProtocolErrors(t *testing.T) {
	config := func(change func(*wire.Config)) string {
		c := wire.Config{Version: wire.Version, StoreDir: storeDir}
		change(&c)
		line, err := wire.Encode(c)
		must(t, err)
		return string(line)
	}
	good := config(func(*wire.Config) {})
	for _, c := range []struct{ in, want string }{
		{"", "reading the settings: unexpected EOF"},
		{"{\n", "reading the settings: unexpected end of JSON input"},
		{config(func(c *wire.Config) { c.Version = 7 }), "the settings are in version 7 of the protocol, not 1: this program and gobuild were not built together"},
		{config(func(c *wire.Config) { c.StoreDir = "x" }), "store directory 'x' is not an absolute path"},
		{good + "hello\n", "reading a request: invalid character 'h' looking for beginning of value"},
		{good + `{"ID":3,"Op":"dance"}` + "\n", "request 3 is for an unknown operation 'dance'"},
		{good + strings.Repeat("x", wire.MaxLine+1), "reading a request: bufio.Scanner: token too long"},
		{good + `{"ID":3,"Op":"info"`, ""},
		{good, ""},
	} {
		var out strings.Builder
		err := Serve(strings.NewReader(c.in), &out, nil)
		if got := errorText(err); got != c.want {
			t.Errorf("%.100q: %s, want %s", c.in, got, c.want)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestNobodyListens(t *testing.T) {
	line, err := wire.Encode(wire.Config{Version: wire.Version, StoreDir: storeDir})
	must(t, err)
	in := string(line)
	for range 1000 {
		in += `{"ID":1,"Op":"info","Path":"/etc"}` + "\n"
	}
	err = Serve(strings.NewReader(in), deaf{}, nil)
	if err == nil {
		t.Error("no error")
	}
}

type deaf struct{}

func (deaf) Write([]byte) (int, error) { return 0, os.ErrClosed }

func FuzzServe(f *testing.F) {
	c := newCache(f)
	c.add(aPath, fileArchive(f, []byte("hello")), "none", nil)
	cfg, err := wire.Encode(wire.Config{Version: wire.Version, StoreDir: storeDir, Substituters: []string{c.file()}})
	must(f, err)
	for _, r := range []wire.Request{
		{ID: 1, Op: wire.Info, Path: string(aPath)}, {ID: 2, Op: wire.Fetch, Path: string(aPath), Source: -1}, {ID: 3, Op: wire.Cancel},
		{ID: 1 << 63, Op: wire.Log, Path: string(aPath) + ".drv"}, {Op: wire.Info, After: -7, Path: string(aPath)},
	} {
		line, err := wire.Encode(r)
		must(f, err)
		f.Add(line)
		f.Add(append(line, line...))
	}
	f.Fuzz(func(t *testing.T, requests []byte) {
		if strings.Contains(strings.ToLower(string(requests)), "dest") {
			t.Skip("that would be made")
		}
		var out strings.Builder
		_ = Serve(strings.NewReader(string(cfg)+string(requests)), &out, nil)
		for line := range strings.Lines(out.String()) {
			var r wire.Reply
			if err := json.Unmarshal([]byte(line), &r); err != nil || !strings.HasSuffix(line, "\n") {
				t.Errorf("reply %q: %v", line, err)
			}
		}
	})
}
