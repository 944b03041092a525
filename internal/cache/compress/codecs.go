package compress

import (
	"errors"
	"io"
	"runtime"

	"github.com/andybalholm/brotli"
	"github.com/dsnet/compress/bzip2"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

func readNone(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(r), nil }

func writeNone(w io.Writer, _ int, _ bool) (io.WriteCloser, error) { return nopWriter{w}, nil }

type nopWriter struct{ io.Writer }

func (nopWriter) Close() error { return nil }

func readBzip2(r io.Reader) (io.ReadCloser, error) { return bzip2.NewReader(r, nil) }

func writeBzip2(w io.Writer, level int, _ bool) (io.WriteCloser, error) {
	return bzip2.NewWriter(w, &bzip2.WriterConfig{Level: level})
}

// readBrotli has no window to limit: the largest of the format is 16 MiB.
func readBrotli(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(brotli.NewReader(r)), nil }

func writeBrotli(w io.Writer, level int, _ bool) (io.WriteCloser, error) {
	return brotli.NewWriterLevel(w, level), nil
}

func readGzip(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }

func writeGzip(w io.Writer, level int, _ bool) (io.WriteCloser, error) {
	return gzip.NewWriterLevel(w, level)
}

// A zstdReader closes as other readers do.
type zstdReader struct{ *zstd.Decoder }

func (r zstdReader) Close() error {
	r.Decoder.Close()
	return nil
}

func (r zstdReader) Read(p []byte) (int, error) {
	n, err := r.Decoder.Read(p)
	if errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		err = errWindow
	}
	return n, err
}

// readZstd works in the reader's goroutine: whoever reads a file has others
// that hash and write it.
func readZstd(r io.Reader) (io.ReadCloser, error) {
	d, err := newZstd(r)
	if err != nil {
		return nil, err
	}
	return zstdReader{d}, nil
}

func newZstd(r io.Reader) (*zstd.Decoder, error) {
	return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
}

// writeZstd has fewer levels than the scale, which is that of the C library:
// some share one.
func writeZstd(w io.Writer, level int, parallel bool) (io.WriteCloser, error) {
	workers := 1
	if parallel {
		workers = runtime.GOMAXPROCS(0)
	}
	return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)), zstd.WithEncoderConcurrency(workers))
}
