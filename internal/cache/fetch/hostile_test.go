package fetch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gobuild/internal/cache/wire"
	"gobuild/internal/store/digest"
	"gobuild/internal/store/nar"
	"gobuild/internal/store/narinfo"
	"gobuild/internal/store/storepath"
)

// transports are the ways to a cache that tests take.
var transports = map[string]func(*testCache) string{
	"file": (*testCache).file,
	"http": func(c *testCache) string { return c.http(nil) },
}

// A lie is something wrong with an archive or what is said of it.
type lie struct {
	name string
	make func(t *testing.T, c *testCache)
	want string // in the error
	gone bool
}

var lies = []lie{
	{name: "other contents", want: "hash mismatch importing path '" + string(aPath) + "';\n  specified: " + digest.Of(digest.SHA256, nil).String() + "\n  got:       sha256:",
		make: func(t *testing.T, c *testCache) {
			c.add(aPath, fileArchive(t, []byte("hello")), "none", func(i *narinfo.Info) { i.NarHash = digest.Of(digest.SHA256, nil) })
		}},
	{name: "other contents of a large file", want: "hash mismatch importing path '" + string(aPath) + "'", make: func(t *testing.T, c *testCache) {
		c.add(aPath, fileArchive(t, noise(1<<20)), "zstd", func(i *narinfo.Info) { i.NarHash = digest.Of(digest.SHA256, nil) })
	}},
	{name: "longer than promised", want: "size mismatch importing path '" + string(aPath) + "';\n  specified: 120\n  got:       more", make: func(t *testing.T, c *testCache) {
		c.add(aPath, fileArchive(t, []byte("hello, world")), "none", func(i *narinfo.Info) { i.NarSize = 120 })
	}},
	{name: "much longer than promised", want: "size mismatch importing path '" + string(aPath) + "';\n  specified: 600000\n  got:       more", make: func(t *testing.T, c *testCache) {
		c.add(aPath, fileArchive(t, noise(3<<20)), "none", func(i *narinfo.Info) { i.NarSize = 600000 })
	}},
	{name: "shorter than promised", want: "size mismatch importing path '" + string(aPath) + "';\n  specified: 1000\n  got:       120", make: func(t *testing.T, c *testCache) {
		c.add(aPath, fileArchive(t, []byte("hello")), "none", func(i *narinfo.Info) { i.NarSize = 1000 })
	}},
	{name: "shorter than promised, and large", want: "size mismatch importing path '" + string(aPath) + "';\n  specified: 600008\n  got:       600000", make: func(t *testing.T, c *testCache) {
		c.add(aPath, fileArchive(t, noise(600000-112)), "none", func(i *narinfo.Info) { i.NarSize = 600008 })
	}},
	{name: "the longest of all sizes", want: "specified: 18446744073709551615\n  got:       120", make: func(t *testing.T, c *testCache) {
		c.add(aPath, fileArchive(t, []byte("hello")), "none", func(i *narinfo.Info) { i.NarSize = 1<<64 - 1 })
	}},
	{name: "something after the archive", want: "bad archive: something follows its end", make: func(t *testing.T, c *testCache) {
		c.add(aPath, append(fileArchive(t, []byte("hello")), "evil...."...), "none", nil)
	}},
	{name: "something after a large archive", want: "bad archive: something follows its end", make: func(t *testing.T, c *testCache) {
		c.add(aPath, append(fileArchive(t, noise(1<<20)), noise(1<<20)...), "zstd", nil)
	}},
	{name: "half an archive", want: "unexpected end-of-file", make: func(t *testing.T, c *testCache) {
		c.add(aPath, fileArchive(t, noise(1<<20))[:1<<19], "none", nil)
	}},
	{name: "no archive", want: "bad archive: input doesn't look like a Nix archive", make: func(t *testing.T, c *testCache) {
		c.add(aPath, noise(1000), "none", nil)
	}},
	{name: "a file longer than promised", want: "its file is longer than the 100 bytes that were promised", make: func(t *testing.T, c *testCache) {
		c.add(aPath, fileArchive(t, []byte("hello")), "none", func(i *narinfo.Info) { i.FileSize = 100 })
	}},
	{name: "unknown compression", want: "unknown compression method 'lz5'", make: func(t *testing.T, c *testCache) {
		c.add(aPath, fileArchive(t, []byte("hello")), "none", func(i *narinfo.Info) { i.Compression = "lz5" })
	}},
	{name: "no file", want: "fetching path '" + string(aPath) + "'", gone: true, make: func(t *testing.T, c *testCache) {
		i := c.add(aPath, fileArchive(t, []byte("hello")), "none", nil)
		must(t, os.Remove(filepath.Join(c.dir, i.URL)))
	}},
	{name: "a link in place of a text", want: "is that of a file that is not executable", make: func(t *testing.T, c *testCache) {
		const target = "/etc/passwd"
		ca := storepath.ContentAddress{Method: storepath.Text, Digest: digest.Of(digest.SHA256, []byte(target))}
		link := filepath.Join(t.TempDir(), "link")
		must(t, os.Symlink(target, link))
		var b bytes.Buffer
		must(t, nar.Dump(&b, link))
		c.add(addressed(t, ca, "text"), b.Bytes(), "none", func(i *narinfo.Info) { i.CA = ca })
	}},
}

// addressed is the path of a content address without references.
func addressed(t *testing.T, ca storepath.ContentAddress, name string) storepath.Path {
	t.Helper()
	p, err := storepath.Dir(storeDir).Content(ca, name, storepath.References{})
	must(t, err)
	return p
}

// damages are things that happen to a compressed file.
var damages = map[string]func([]byte) []byte{
	"cut off":          func(b []byte) []byte { return b[:len(b)*2/3] },
	"without its end":  func(b []byte) []byte { return b[:len(b)-1] },
	"empty":            func([]byte) []byte { return nil },
	"not compressed":   func([]byte) []byte { return bytes.Repeat([]byte("evil"), 100) },
	"altered":          func(b []byte) []byte { b = bytes.Clone(b); b[len(b)/2] ^= 0x55; return b },
	"rubbish after it": func(b []byte) []byte { return append(bytes.Clone(b), "evil"...) },
}

// everyLie is all lies, and all damages by all methods.
func everyLie(t *testing.T) []lie {
	all := lies
	for _, method := range []string{"none", "xz", "bzip2", "zstd", "gzip", "br"} {
		for _, size := range []int{5000, 300 << 10} {
			archive := fileArchive(t, noise(size))
			packed := pack(t, method, archive)
			for name, damage := range damages {
				all = append(all, lie{name: fmt.Sprintf("%s file of %d bytes %s", method, size, name), make: func(t *testing.T, c *testCache) {
					c.addPacked(aPath, archive, damage(packed), method, nil)
				}})
			}
		}
	}
	return all
}

func TestHostileArchives(t *testing.T) {
	all := everyLie(t)
	for transport, url := range transports {
		for _, l := range all {
			c := newCache(t)
			l.make(t, c)
			uri := url(c)
			e := start(t, nil, uri)
			dests := t.TempDir()
			r := e.fetch(c.latest, filepath.Join(dests, "x"))
			switch {
			case r.Kind == wire.Fetched && strings.HasSuffix(l.name, "rubbish after it"):
				continue // a decoder may stop at the end of its format: what it gave was verified
			case r.Kind != wire.Failed || r.Gone != l.gone || !strings.Contains(r.Error, l.want):
				t.Errorf("%s, %s: %+v, want %q", transport, l.name, r, l.want)
			case !strings.Contains(r.Error, "'"+string(c.latest)+"'") || !strings.HasPrefix(r.Error, "cache '"+uri+"': "):
				t.Errorf("%s, %s: the message does not name cache and path: %s", transport, l.name, r.Error)
			}
			nothingIn(t, dests)
			must(t, e.stop())
		}
	}
}

// TestMalformedArchives fetches the archives that the archive reader refuses,
// under their own hashes.
func TestMalformedArchives(t *testing.T) {
	var samples map[string]map[string]string
	text, err := os.ReadFile(filepath.Join(golden, "nar-bad.json"))
	must(t, err, json.Unmarshal(text, &samples))
	c := newCache(t)
	e := start(t, nil, c.file())
	dests := t.TempDir()
	refused := 0
	for name, sample := range samples {
		data, err := os.ReadFile(filepath.Join(golden, sample["file"]))
		must(t, err)
		if len(data) == 0 {
			continue // has no size to promise
		}
		rest := bytes.NewReader(data)
		want := nar.Skip(rest)
		c.add(aPath, data, "none", nil)
		dest := filepath.Join(dests, "x")
		r := e.fetch(aPath, dest)
		switch {
		case want == nil && rest.Len() == 0:
			if r.Kind != wire.Fetched {
				t.Errorf("%s: %+v, want it fetched", name, r)
			} else {
				isTree(t, dest, data)
			}
			continue
		case want == nil:
			want = errors.New("something follows its end")
		}
		refused++
		if r.Kind != wire.Failed || !strings.Contains(r.Error, strings.ToValidUTF8(want.Error(), "\ufffd")) {
			t.Errorf("%s: %+v, want %v", name, r, want)
		}
		nothingIn(t, dests)
	}
	if refused < 20 {
		t.Errorf("only %d samples were refused", refused)
	}
}

// TestBombs has small files that unpack to much more than was promised.
func TestBombs(t *testing.T) {
	archive := fileArchive(t, make([]byte, 8<<20))
	for _, method := range []string{"xz", "zstd", "gzip", "bzip2"} {
		packed := pack(t, method, archive)
		for _, promised := range []uint64{1000, 1 << 20} {
			c := newCache(t)
			c.addPacked(aPath, archive, packed, method, func(i *narinfo.Info) { i.NarSize = promised })
			e := start(t, nil, c.file())
			dests := t.TempDir()
			r := e.fetch(aPath, filepath.Join(dests, "x"))
			if r.Kind != wire.Failed || !strings.Contains(r.Error, "size mismatch importing path") {
				t.Errorf("%s: %+v", method, r)
			}
			nothingIn(t, dests)
		}
	}
}

func TestContentAddresses(t *testing.T) {
	text, other := []byte("some text"), []byte("other text")
	file := func(b []byte) []byte { return fileArchive(t, b) }
	tree := treeArchive(t, 400<<10)
	for _, c := range []struct {
		name          string
		ca            storepath.ContentAddress
		archive, evil []byte
	}{
		{"text", storepath.ContentAddress{Method: storepath.Text, Digest: digest.Of(digest.SHA256, text)}, file(text), file(other)},
		{"flat", storepath.ContentAddress{Method: storepath.Flat, Digest: digest.Of(digest.SHA512, text)}, file(text), file(other)},
		{"large", storepath.ContentAddress{Method: storepath.Flat, Digest: digest.Of(digest.SHA1, noise(1<<20))}, file(noise(1 << 20)), file(noise(1<<20 + 1))},
		{"tree", storepath.ContentAddress{Method: storepath.NAR, Digest: digest.Of(digest.SHA256, tree)}, tree, file(text)},
		{"old", storepath.ContentAddress{Method: storepath.NAR, Digest: digest.Of(digest.SHA1, tree)}, tree, file(text)},
	} {
		cache := newCache(t)
		path := addressed(t, c.ca, c.name)
		address := func(i *narinfo.Info) { i.CA = c.ca }
		e := start(t, func(w *wire.Config) { w.RequireSigs = true }, cache.file())
		dest := filepath.Join(t.TempDir(), "x")
		cache.add(path, c.archive, "none", address)
		if r := e.fetch(path, dest); r.Kind != wire.Fetched {
			t.Errorf("%s: %+v", c.name, r)
			continue
		}
		isTree(t, dest, c.archive)
		cache.add(path, c.evil, "none", address)
		want := "ca hash mismatch importing path '" + string(path) + "';\n  specified: " + c.ca.String() + "\n  got:       "
		if r := e.fetch(path, dest); r.Kind != wire.Failed || !strings.Contains(r.Error, want) {
			t.Errorf("%s, other contents: %+v, want %q", c.name, r, want)
		}
		nothingIn(t, filepath.Dir(dest))
	}
}

func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a small file system")
	}
	dests := t.TempDir()
	must(t, unix.Mount("small", dests, "tmpfs", 0, "size=1m"))
	defer func() { must(t, unix.Unmount(dests, 0)) }()
	c := newCache(t)
	c.add(aPath, fileArchive(t, noise(8<<20)), "none", nil)
	e := start(t, nil, c.file())
	r := e.fetch(aPath, filepath.Join(dests, "x"))
	if r.Kind != wire.Failed || r.Gone || !strings.Contains(r.Error, "no space left on device") {
		t.Errorf("%+v", r)
	}
	nothingIn(t, dests)
}

// brokenDecoder is one that hostile bytes have brought down.
type brokenDecoder struct{}

func (brokenDecoder) Read([]byte) (int, error) { panic("index out of range") }

// idleDecoder is one that does not get on.
type idleDecoder struct{}

func (idleDecoder) Read([]byte) (int, error) { return 0, nil }

func TestDecodersMayBreak(t *testing.T) {
	if _, err := readFull(brokenDecoder{}, make([]byte, 10)); err == nil || err.Error() != "the decoder broke down: index out of range" {
		t.Error(err)
	}
	if _, err := readFull(idleDecoder{}, make([]byte, 10)); err == nil {
		t.Error("an idle decoder was waited for")
	}
}
