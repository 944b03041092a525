package compress

import (
	"bytes"
	"io"
	"testing"
)

// fuzz feeds a method with anything: it must neither crash nor hang, and must
// fail when it has read less than there was.
func fuzz(f *testing.F, method string) {
	for _, data := range [][]byte{nil, []byte("text"), sample(2000)} {
		if codecs[method].write != nil {
			file := pack(f, method, data)
			f.Add(file)
			f.Add(append(file, file...))
			f.Add(append(file, 0))
			f.Add(file[:len(file)/2])
		}
	}
	f.Add([]byte{0x5d, 0, 0, 0x80, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0})
	f.Add([]byte("LZIP\x01\x0c"))
	f.Fuzz(func(t *testing.T, file []byte) {
		source := bytes.NewReader(file)
		r, err := NewReader(method, source)
		if err != nil {
			return
		}
		defer r.Close()
		if _, err := io.Copy(io.Discard, io.LimitReader(r, 8<<20)); err != nil {
			return
		}
		if n, err := r.Read(make([]byte, 1)); n == 0 && err == io.EOF && source.Len() > 0 {
			t.Errorf("%d bytes after the end were not looked at", source.Len())
		}
	})
}

func FuzzBzip2(f *testing.F)  { fuzz(f, "bzip2") }
func FuzzBrotli(f *testing.F) { fuzz(f, "br") }
func FuzzGzip(f *testing.F)   { fuzz(f, "gzip") }
func FuzzLzip(f *testing.F)   { fuzz(f, "lzip") }
func FuzzLzma(f *testing.F)   { fuzz(f, "lzma") }
func FuzzXz(f *testing.F)     { fuzz(f, "xz") }
func FuzzZstd(f *testing.F)   { fuzz(f, "zstd") }
