package compress

import (
	"bytes"
	"io"
	"testing"
)

func BenchmarkRead(b *testing.B) {
	data := sample(16 << 20)
	for _, method := range writable() {
		b.Run(method, func(b *testing.B) {
			file := pack(b, method, data)
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				r, err := NewReader(method, bytes.NewReader(file))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, r); err != nil {
					b.Fatal(err)
				}
				_ = r.Close()
			}
		})
	}
}
