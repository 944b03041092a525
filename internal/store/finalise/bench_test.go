package finalise

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/fstree"
	"gobuild/internal/store/nar"
)

func BenchmarkBigFile(b *testing.B) {
	const size = 64 << 20
	dir := scratch(b)
	r := rand.New(rand.NewPCG(1, 1))
	random, text := make([]byte, size), make([]byte, size)
	for i := range random {
		random[i] = byte(r.Uint32())
		text[i] = digest.Alphabet[random[i]&31]
	}
	b.Run("sha256 alone", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			h := sha256.New()
			for part := range slices.Chunk(random, nar.BlockSize) {
				h.Write(part)
			}
		}
	})
	for name, data := range map[string][]byte{"random": random, "text": text} {
		path := filepath.Join(dir, name)
		must(b, os.WriteFile(path, data, 0o644))
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				_, err := Run(one(Output{Path: path}))
				must(b, err)
			}
		})
	}
}

func BenchmarkSmallFiles(b *testing.B) {
	const files = 50000
	dir := scratch(b)
	for b.Loop() {
		b.StopTimer()
		src := filepath.Join(dir, "src")
		for d := range 50 {
			sub := filepath.Join(src, fmt.Sprint(d))
			must(b, os.MkdirAll(sub, 0o755))
			for i := range files / 50 {
				must(b, os.WriteFile(filepath.Join(sub, fmt.Sprint("file", i)), []byte(sub), 0o644))
			}
		}
		req := one(Output{Path: src})
		req.Candidates = []string{hashA, hashB, hashC}
		b.StartTimer()
		_, err := Run(req)
		must(b, err)
		b.StopTimer()
		_, err = fstree.RemoveAll(src)
		must(b, err)
		b.StartTimer()
	}
	b.ReportMetric(float64(files)*float64(b.N)/b.Elapsed().Seconds(), "files/s")
}

func BenchmarkTrivialOutput(b *testing.B) {
	path := filepath.Join(scratch(b), "f")
	write(b, path, "hello", 0o644)
	req := one(Output{Path: path})
	req.Candidates = []string{hashA, hashB, hashC}
	for b.Loop() {
		_, err := Run(req)
		must(b, err)
	}
}

// BenchmarkLinking is what linking equal files adds: nothing has an equal, or
// everything has.
func BenchmarkLinking(b *testing.B) {
	const size, files = 64 << 20, 2000
	for _, shape := range []struct {
		name  string
		links bool
		equal bool
	}{{"not asked for", false, false}, {"all different", true, false}, {"all equal", true, true}} {
		b.Run(shape.name, func(b *testing.B) {
			dir := scratch(b)
			b.SetBytes(size)
			for b.Loop() {
				b.StopTimer()
				src := filepath.Join(dir, "src")
				must(b, os.Mkdir(src, 0o755))
				data := make([]byte, size/files)
				for i := range files {
					if !shape.equal {
						data[0], data[1] = byte(i), byte(i>>8)
					}
					must(b, os.WriteFile(filepath.Join(src, fmt.Sprint(i)), data, 0o644))
				}
				req := one(Output{Path: src})
				if shape.links {
					req.Links = filepath.Join(dir, ".links")
				}
				b.StartTimer()
				_, err := Run(req)
				must(b, err)
				b.StopTimer()
				_, err = fstree.RemoveAll(src)
				must(b, err)
				_, err = fstree.RemoveAll(filepath.Join(dir, ".links"))
				must(b, err)
				b.StartTimer()
			}
		})
	}
}
