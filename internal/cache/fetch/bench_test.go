package fetch

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"gobuild/internal/cache/compress"
	"gobuild/internal/cache/wire"
	"gobuild/internal/store/digest"
	"gobuild/internal/store/fstree"
	"gobuild/internal/store/nar"
	"gobuild/internal/store/narinfo"
	"gobuild/internal/store/storepath"
)

// scratch is a directory in memory.
func scratch(b *testing.B) string {
	dir, err := os.MkdirTemp("/dev/shm", "fetch")
	if err != nil {
		return b.TempDir()
	}
	b.Cleanup(func() { fstree.RemoveAll(dir) })
	return dir
}

// contents are n bytes that compress to about a third, as programs do.
func contents(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	words := make([][]byte, 3000)
	for i := range words {
		words[i] = make([]byte, 4+r.IntN(36))
		for k := range words[i] {
			words[i][k] = byte(r.Uint32())
		}
	}
	b := make([]byte, 0, n+40)
	for len(b) < n {
		b = append(b, words[r.IntN(len(words))]...)
	}
	return b[:n]
}

func benchmarkCache(b *testing.B) *testCache {
	c := &testCache{t: b, dir: filepath.Join(scratch(b), "cache")}
	must(b, os.MkdirAll(filepath.Join(c.dir, "nar"), 0o755))
	c.write(narinfo.CacheInfoName, []byte("StoreDir: "+storeDir+"\n"))
	return c
}

func BenchmarkSmallPaths(b *testing.B) {
	const paths = 200
	for _, method := range []string{"none", "xz", "zstd"} {
		c := benchmarkCache(b)
		var all []storepath.Path
		for n := range paths {
			path := storepath.Path(fmt.Sprintf("%s/%s-small", storeDir, digest.Of(digest.SHA256, fmt.Append(nil, n)).Nix32()[:storepath.HashLen]))
			all = append(all, path)
			c.add(path, fileArchive(b, contents(16<<10, uint64(n))), method, nil)
		}
		for transport, url := range transports {
			uri := url(c)
			b.Run(transport+"/"+method, func(b *testing.B) {
				dests := scratch(b)
				e := start(b, nil, uri)
				ids := make([]uint64, paths)
				e.ask(wire.Request{Op: wire.Info, Path: string(all[0])})
				b.ReportAllocs()
				for b.Loop() {
					for i, path := range all {
						ids[i] = e.send(wire.Request{Op: wire.Info, Path: string(path)})
					}
					for i, id := range ids {
						r := e.reply(id)
						ids[i] = e.send(wire.Request{Op: wire.Fetch, Path: string(all[i]), Source: r.Source, Dest: filepath.Join(dests, fmt.Sprint(i))})
					}
					for _, id := range ids {
						if r := e.reply(id); r.Kind != wire.Fetched {
							b.Fatalf("%+v", r)
						}
					}
					b.StopTimer()
					_, err := fstree.RemoveAll(dests)
					must(b, err, os.Mkdir(dests, 0o755))
					b.StartTimer()
				}
				b.ReportMetric(float64(paths*b.N)/b.Elapsed().Seconds(), "paths/s")
			})
		}
	}
}

func BenchmarkLargePath(b *testing.B) {
	const size = 256 << 20
	data := contents(size, 1)
	b.Run("sha256 alone", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			h := sha256.New()
			for n := 0; n < size; n += nar.BlockSize {
				h.Write(data[n : n+nar.BlockSize])
			}
		}
	})
	archive := fileArchive(b, data)
	for _, method := range []string{"none", "xz", "zstd"} {
		b.Run(method, func(b *testing.B) {
			c := benchmarkCache(b)
			i := c.add(aPath, archive, method, nil)
			b.Run("alone", func(b *testing.B) {
				b.SetBytes(size)
				for b.Loop() {
					must(b, decompress(filepath.Join(c.dir, i.URL), method))
				}
			})
			for transport, url := range transports {
				uri := url(c)
				b.Run(transport, func(b *testing.B) {
					b.SetBytes(size)
					dest := filepath.Join(scratch(b), "x")
					e := start(b, nil, uri)
					for b.Loop() {
						if r := e.fetch(aPath, dest); r.Kind != wire.Fetched {
							b.Fatalf("%+v", r)
						}
						b.StopTimer()
						must(b, os.Remove(dest))
						b.StartTimer()
					}
				})
			}
		})
	}
}

func decompress(file, method string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := compress.NewReader(method, f)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, make([]byte, nar.BlockSize))
	return err
}
