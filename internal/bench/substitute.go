package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"gobuild/internal/cache/compress"
	"gobuild/internal/store/digest"
	"gobuild/internal/store/narinfo"
	"gobuild/internal/store/storepath"
)

// The two ways to a cache that are measured.
const (
	byFile = "file"
	byHTTP = "http"
)

// programLike is n bytes of which about a third are left by compression, as of programs.
func programLike(n int, seed uint64) []byte {
	random := rand.New(rand.NewPCG(seed, 5))
	words := make([][]byte, max(16, min(n/96, 3000))) // small programs repeat themselves, too
	for i := range words {
		words[i] = make([]byte, 4+random.IntN(36))
		for k := range words[i] {
			words[i][k] = byte(random.Uint32())
		}
	}
	contents := make([]byte, 0, n+40)
	for len(contents) < n {
		contents = append(contents, words[random.IntN(len(words))]...)
	}
	return contents[:n]
}

// A binaryCache is a directory with archives of files.
type binaryCache struct {
	name  string
	dir   string
	store storepath.Dir
	paths []string
	infos []*narinfo.Info
}

// binaryCache makes a cache for a store, unless the row before used the same: compressing takes longest of all.
func (b *bench) binaryCache(p *place, name string, fill func(*binaryCache) error) (*binaryCache, error) {
	if b.cache != nil && b.cache.name == name {
		return b.cache, nil
	}
	store, err := storepath.ParseDir(p.store())
	if err != nil {
		return nil, err
	}
	c := &binaryCache{name: name, dir: b.path("cache"), store: store}
	if err := errors.Join(removeTree(c.dir), os.MkdirAll(filepath.Join(c.dir, "nar"), 0o755)); err != nil {
		return nil, err
	}
	about := narinfo.CacheInfo{StoreDir: string(store), Priority: narinfo.DefaultPriority}
	if err := os.WriteFile(filepath.Join(c.dir, narinfo.CacheInfoName), about.Append(nil), 0o644); err != nil {
		return nil, err
	}
	if err := fill(c); err != nil {
		return nil, err
	}
	b.cache = c
	return c, nil
}

func (c *binaryCache) add(name string, contents []byte, method string) error {
	archive := narOfFile(string(contents))
	hash := digest.Of(digest.SHA256, archive)
	path, err := c.store.Make("source", hash, name)
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	level := -1
	if method == "xz" {
		level = 1 // the usual one takes minutes for a large path, and is as fast to undo
	}
	w, err := compress.NewWriter(method, &packed, level, false)
	if err != nil {
		return err
	}
	if _, err := w.Write(archive); err != nil {
		return errors.Join(err, w.Close())
	}
	if err := w.Close(); err != nil {
		return err
	}
	info := &narinfo.Info{
		Path: path, Compression: method, FileHash: digest.Of(digest.SHA256, packed.Bytes()), FileSize: uint64(packed.Len()),
		NarHash: hash, NarSize: uint64(len(archive)),
	}
	info.URL = "nar/" + info.FileHash.Nix32() + ".nar" + compress.Extension(method)
	c.paths, c.infos = append(c.paths, string(path)), append(c.infos, info)
	return errors.Join(os.WriteFile(filepath.Join(c.dir, info.URL), packed.Bytes(), 0o644),
		os.WriteFile(filepath.Join(c.dir, narinfo.Name(path)), info.Append(nil), 0o644))
}

// serve makes the cache reachable and returns its URL.
func (c *binaryCache) serve(transport string) (url string, stop func() error, err error) {
	if transport == byFile {
		return "file://" + c.dir, func() error { return nil }, nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: http.FileServer(http.Dir(c.dir))}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	return "http://" + l.Addr().String(), func() error {
		err := server.Close()
		if e := <-done; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
		return err
	}, nil
}

// A fetching is what a row about substitutes measures.
type fetching struct {
	name      string // of the cache
	transport string
	units     float64
	fill      func(*binaryCache) error
	floor     func(c *binaryCache, out string) (seconds float64, err error)
}

// smallSubstitutes fetches n paths of 16 KiB; the unit is paths.
func smallSubstitutes(n int, transport, method string) func(*bench, *result) error {
	fill := func(c *binaryCache) error {
		for i := range n {
			if err := c.add(fmt.Sprintf("small-%03d", i), programLike(16<<10, uint64(i)), method); err != nil {
				return err
			}
		}
		return nil
	}
	f := fetching{"small " + method, transport, float64(n), fill, (*binaryCache).smallFloor}
	return func(b *bench, r *result) error { return b.substitutes(r, f) }
}

// bigSubstitute fetches one path of so many MiB; the unit is MiB.
func bigSubstitute(size int, transport, method string) func(*bench, *result) error {
	fill := func(c *binaryCache) error { return c.add("big", programLike(size<<20, 1), method) }
	f := fetching{"big " + method, transport, float64(size), fill, (*binaryCache).bigFloor}
	return func(b *bench, r *result) error { return b.substitutes(r, f) }
}

// substitutes compares fetching all paths of a cache into an empty store. Nobody may remember what the cache has.
func (b *bench) substitutes(r *result, f fetching) error {
	p, err := b.place("substitute", false)
	if err != nil {
		return err
	}
	empty, err := newGraph(p, b.shell)
	if err != nil {
		return err
	}
	if err := errors.Join(empty.write(p, false), p.keep()); err != nil {
		return err
	}
	c, err := b.binaryCache(p, f.name, f.fill)
	if err != nil {
		return err
	}
	url, stop, err := c.serve(f.transport)
	if err != nil {
		return err
	}
	args := []string{"--option", "substituters", url, "--option", "require-sigs", "false",
		"--option", "narinfo-cache-positive-ttl", "0", "--option", "narinfo-cache-negative-ttl", "0"}
	j := job{place: p, args: append(args, c.paths...), restore: true, reps: b.repetitions(5), nixReps: b.repetitions(5)}
	m, err := b.compare(j)
	if err := errors.Join(err, stop()); err != nil {
		return err
	}
	r.take(m, 1)
	for _, v := range []*float64{&r.Gobuild, &r.Nix} {
		if *v > 0 {
			*v = f.units / *v
		}
	}
	r.Note = fmt.Sprintf("CPU s: gobuild %.2f, nix %.2f", m["gobuild"].CPU, m["nix"].CPU)
	seconds, err := f.floor(c, b.path("unpacked"))
	if err != nil {
		return err
	}
	r.Floor = f.units / seconds
	return p.dropAll()
}

// smallFloor does to each path what cannot be avoided, on one processor.
func (c *binaryCache) smallFloor(out string) (float64, error) {
	if err := os.Mkdir(out, 0o755); err != nil {
		return 0, err
	}
	begin := time.Now()
	for i, info := range c.infos {
		if _, err := os.ReadFile(filepath.Join(c.dir, narinfo.Name(info.Path))); err != nil {
			return 0, err
		}
		var archive bytes.Buffer
		if err := c.unpack(info, &archive); err != nil {
			return 0, err
		}
		sha256.Sum256(archive.Bytes())
		file := filepath.Join(out, fmt.Sprint(i))
		err := errors.Join(os.WriteFile(file, archive.Bytes(), 0o444), os.Chtimes(file, time.Unix(1, 0), time.Unix(1, 0)))
		if err != nil {
			return 0, err
		}
	}
	return time.Since(begin).Seconds(), removeTree(out)
}

// bigFloor is the slower of decompression and SHA-256.
func (c *binaryCache) bigFloor(string) (float64, error) {
	begin := time.Now()
	if err := c.unpack(c.infos[0], io.Discard); err != nil {
		return 0, err
	}
	decompression := time.Since(begin).Seconds()
	block := make([]byte, 1<<20)
	begin = time.Now()
	hash := sha256.New()
	for range c.infos[0].NarSize >> 20 {
		hash.Write(block)
	}
	return max(decompression, time.Since(begin).Seconds()), nil
}

func (c *binaryCache) unpack(info *narinfo.Info, to io.Writer) error {
	f, err := os.Open(filepath.Join(c.dir, info.URL))
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := compress.NewReader(info.Compression, f)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{r}, make([]byte, 256<<10))
	return err
}
