// Package compress reads and writes the compressed files of binary caches, by
// the names that narinfo files give to methods.
package compress

import (
	"errors"
	"fmt"
	"io"
)

// A codec is one method. What its functions return need not be careful about
// errors and closing: NewReader and NewWriter are.
type codec struct {
	extension string
	read      func(r io.Reader) (io.ReadCloser, error)
	write     func(w io.Writer, level int, parallel bool) (io.WriteCloser, error) // nil: only read
	min, max  int                                                                 // levels
	standard  int                                                                 // the level if none is asked for
}

// codecs are the methods (binary-cache spec, section 4).
var codecs = map[string]codec{
	"bzip2": {extension: ".bz2", read: readBzip2, write: writeBzip2, min: 1, max: 9, standard: 9},
	"br":    {extension: ".br", read: readBrotli, write: writeBrotli, min: 0, max: 11, standard: 6},
	"gzip":  {read: readGzip, write: writeGzip, min: 1, max: 9, standard: 6},
	"lzip":  {extension: ".lzip", read: readLzip},
	"lzma":  {read: readLzma},
	"none":  {read: readNone, write: writeNone, min: 0, max: 0},
	"xz":    {extension: ".xz", read: readXz, write: writeXz, min: 0, max: 9, standard: 6},
	"zstd":  {extension: ".zst", read: readZstd, write: writeZstd, min: 1, max: 22, standard: 3},
}

// find looks a method up. None is bzip2, which was the only one once.
func find(method string) (codec, string, error) {
	if method == "" {
		method = "bzip2"
	}
	c, ok := codecs[method]
	if !ok {
		return codec{}, "", fmt.Errorf("unknown compression method '%s'", method)
	}
	return c, method, nil
}

// Extension is what the name of a file compressed with a method ends in after
// ".nar"; "" for methods that have none, or are not known.
func Extension(method string) string {
	c, _, _ := find(method)
	return c.extension
}

// maxWindow bounds, in bytes, how far back a file may refer while it is
// unpacked, and so the memory of a reader, whatever the file asks for. The
// standard programs write larger windows only when they are told to, and those
// for zstd refuse them in reading, too.
const maxWindow = 128 << 20

// NewReader decompresses r. Files of several members are read as one where the
// method allows them; a file that is cut short, is empty, or goes on after its
// end is an error, as is one that wants more than a bounded amount of memory to
// be unpacked. How much a file unpacks to is for the caller to watch. Errors of
// r are wrapped. Close frees memory; it does not close r, and may be called
// twice. A reader is not safe for concurrent use.
func NewReader(method string, r io.Reader) (io.ReadCloser, error) {
	c, method, err := find(method)
	if err != nil {
		return nil, err
	}
	return newReader(method, c.read, r)
}

// newReader makes a method's decoder behave as all do.
func newReader(method string, read func(io.Reader) (io.ReadCloser, error), r io.Reader) (io.ReadCloser, error) {
	in := &source{r: r}
	dec, err := read(in)
	if err != nil {
		return nil, decompressError(method, in, err)
	}
	return &reader{method: method, in: in, dec: dec}, nil
}

// NewWriter compresses to w, at a level of the method's own scale, or at its
// usual one for -1. With parallel set it may use several processors, at a small
// cost in size. Close completes the file; it does not close w. A writer must be
// closed even after an error, for its memory.
func NewWriter(method string, w io.Writer, level int, parallel bool) (io.WriteCloser, error) {
	c, method, err := find(method)
	switch {
	case err != nil:
		return nil, err
	case c.write == nil:
		return nil, fmt.Errorf("compression method '%s' is for reading only", method)
	case level == -1:
		level = c.standard
	case level < c.min || level > c.max:
		return nil, fmt.Errorf("compression level %d is not one of method '%s', which has %d to %d", level, method, c.min, c.max)
	}
	enc, err := c.write(w, level, parallel)
	if err != nil {
		return nil, fmt.Errorf("compressing with '%s': %w", method, err)
	}
	return &writer{method: method, enc: enc}, nil
}

var errClosed = errors.New("it has been closed")

// A source remembers what became of the file that is decompressed: libraries
// tend to hide it.
type source struct {
	r   io.Reader
	any bool // there was something
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.any = s.any || n > 0
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// decompressError says what went wrong: if the file could not be read, that.
func decompressError(method string, in *source, err error) error {
	switch {
	case in.err != nil:
		err = in.err
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("decompressing with '%s': %w", method, err)
}

// A reader gives all methods one behaviour.
type reader struct {
	method string
	in     *source
	dec    io.ReadCloser
	err    error // the end, or an error
	closed bool
}

func (r *reader) Read(p []byte) (int, error) {
	if r.closed {
		return 0, fmt.Errorf("decompressing with '%s': %w", r.method, errClosed)
	}
	if r.err != nil || len(p) == 0 {
		return 0, r.err
	}
	n, err := r.dec.Read(p)
	if err == io.EOF && r.in.err == nil && (r.in.any || r.method == "none") {
		r.err = io.EOF
	} else if err != nil {
		r.err = decompressError(r.method, r.in, err)
	}
	return n, r.err
}

func (r *reader) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	return r.dec.Close()
}

// A writer stays failed after an error.
type writer struct {
	method string
	enc    io.WriteCloser
	err    error
	closed bool
}

func (w *writer) Write(p []byte) (int, error) {
	if w.closed {
		return 0, fmt.Errorf("compressing with '%s': %w", w.method, errClosed)
	}
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.enc.Write(p)
	if err != nil {
		w.err = fmt.Errorf("compressing with '%s': %w", w.method, err)
	}
	return n, w.err
}

func (w *writer) Close() error {
	if w.closed {
		return w.err
	}
	w.closed = true
	if err := w.enc.Close(); err != nil && w.err == nil {
		w.err = fmt.Errorf("compressing with '%s': %w", w.method, err)
	}
	return w.err
}
