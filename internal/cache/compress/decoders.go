package compress

import (
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Decoders makes readers as NewReader does, and keeps what is costly to make of
// those that were closed: for small files that is most of the work. The zero
// value is ready; it is safe for concurrent use.
type Decoders struct {
	zstd sync.Pool // of *zstd.Decoder
}

// NewReader is the function of that name.
func (d *Decoders) NewReader(method string, r io.Reader) (io.ReadCloser, error) {
	if method == "zstd" {
		return newReader(method, d.readZstd, r)
	}
	return NewReader(method, r)
}

func (d *Decoders) readZstd(r io.Reader) (io.ReadCloser, error) {
	if old, ok := d.zstd.Get().(*zstd.Decoder); ok {
		if err := old.Reset(r); err != nil {
			return nil, err
		}
		return &keptZstd{zstdReader{old}, d}, nil
	}
	fresh, err := newZstd(r)
	if err != nil {
		return nil, err
	}
	return &keptZstd{zstdReader{fresh}, d}, nil
}

// A keptZstd goes back to where it came from.
type keptZstd struct {
	zstdReader
	from *Decoders
}

func (k *keptZstd) Close() error {
	if err := k.Reset(nil); err != nil { // lets go of what it read
		k.Decoder.Close()
		return nil
	}
	k.from.zstd.Put(k.Decoder)
	return nil
}
