package compress

// #cgo LDFLAGS: -l:liblzma.a -lpthread
// #cgo noescape gobuild_code
// #cgo nocallback gobuild_code
// #include "liblzma.h"
import "C"

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"unsafe"
)

// chunk is how many bytes go between Go and C at once.
const chunk = 32 << 10

// maxLzmaMemory is what decoders of the xz family may use, in bytes: the window
// and what belongs to it. Several blocks are decoded at once as long as that
// takes no more.
const maxLzmaMemory = maxWindow + 16<<20

// maxThreads bounds the processors that one file may occupy.
const maxThreads = 4

func threads() C.uint32_t { return C.uint32_t(min(runtime.GOMAXPROCS(0), maxThreads)) }

var (
	errWindow  = errors.New("it was made to be unpacked with more than 128 MiB of memory")
	errFormat  = errors.New("it is not of this format, or goes on after its end")
	errCorrupt = errors.New("it is corrupt")
)

// lzmaError is nil unless a result means that something failed.
func lzmaError(result C.lzma_ret) error {
	switch result {
	case C.LZMA_OK, C.LZMA_STREAM_END, C.LZMA_NO_CHECK, C.LZMA_UNSUPPORTED_CHECK, C.LZMA_GET_CHECK:
		return nil
	case C.LZMA_MEM_ERROR:
		return errors.New("there is not enough memory")
	case C.LZMA_MEMLIMIT_ERROR:
		return errWindow
	case C.LZMA_FORMAT_ERROR:
		return errFormat
	case C.LZMA_DATA_ERROR:
		return errCorrupt
	case C.LZMA_BUF_ERROR:
		return io.ErrUnexpectedEOF
	case C.LZMA_OPTIONS_ERROR:
		return errors.New("it uses options that liblzma does not support")
	}
	return fmt.Errorf("liblzma returned %d", int(result))
}

// An lzmaStream is the C side of a reader or writer. C sees Go's memory during
// calls only.
type lzmaStream struct{ c *C.lzma_stream }

// newLzmaStream gives a stream to begin, which says what it is for.
func newLzmaStream(begin func(*C.lzma_stream) C.lzma_ret) (lzmaStream, error) {
	c := (*C.lzma_stream)(C.calloc(1, C.sizeof_lzma_stream))
	if c == nil {
		return lzmaStream{}, errors.New("there is not enough memory")
	}
	s := lzmaStream{c}
	if err := lzmaError(begin(c)); err != nil {
		s.free()
		return lzmaStream{}, err
	}
	return s, nil
}

func (s *lzmaStream) free() {
	if s.c != nil {
		C.lzma_end(s.c)
		C.free(unsafe.Pointer(s.c))
		s.c = nil
	}
}

// code takes bytes from in and puts bytes to out, as many as it can.
func (s *lzmaStream) code(in, out []byte, action C.lzma_action) (taken, put int, ended bool, err error) {
	p := C.gobuild_code(s.c, (*C.uint8_t)(unsafe.SliceData(in)), C.size_t(len(in)),
		(*C.uint8_t)(unsafe.SliceData(out)), C.size_t(len(out)), action)
	return int(p.taken), int(p.put), p.result == C.LZMA_STREAM_END, lzmaError(p.result)
}

// An lzmaReader decodes one of the formats of liblzma.
type lzmaReader struct {
	stream lzmaStream
	r      io.Reader
	buf    []byte
	rest   []byte // of buf, not yet decoded
	eof    bool   // of r
	ended  bool
}

func newLzmaReader(r io.Reader, begin func(*C.lzma_stream) C.lzma_ret) (io.ReadCloser, error) {
	s, err := newLzmaStream(begin)
	if err != nil {
		return nil, err
	}
	return &lzmaReader{stream: s, r: r, buf: make([]byte, chunk)}, nil
}

func readXz(r io.Reader) (io.ReadCloser, error) {
	return newLzmaReader(r, func(s *C.lzma_stream) C.lzma_ret { return C.gobuild_xz_decoder(s, threads(), maxLzmaMemory) })
}

func readLzip(r io.Reader) (io.ReadCloser, error) {
	return newLzmaReader(r, func(s *C.lzma_stream) C.lzma_ret { return C.gobuild_lzip_decoder(s, maxLzmaMemory) })
}

func readLzma(r io.Reader) (io.ReadCloser, error) {
	return newLzmaReader(r, func(s *C.lzma_stream) C.lzma_ret { return C.lzma_alone_decoder(s, maxLzmaMemory) })
}

func (r *lzmaReader) Read(p []byte) (int, error) {
	for !r.ended {
		if len(r.rest) == 0 && !r.eof {
			n, err := io.ReadAtLeast(r.r, r.buf, 1)
			if err != nil && err != io.EOF {
				return 0, err
			}
			r.rest, r.eof = r.buf[:n], err == io.EOF
		}
		action := C.lzma_action(C.LZMA_RUN)
		if r.eof {
			action = C.LZMA_FINISH
		}
		taken, put, ended, err := r.stream.code(r.rest, p, action)
		r.rest, r.ended = r.rest[taken:], ended
		if err != nil {
			return put, err
		}
		if put > 0 && !ended {
			return put, nil
		}
		if ended {
			return put, r.end()
		}
	}
	return 0, io.EOF
}

// end makes sure that nothing follows. Decoders of files with several members
// end at the end of the file.
func (r *lzmaReader) end() error {
	for len(r.rest) == 0 && !r.eof {
		n, err := io.ReadAtLeast(r.r, r.buf, 1)
		if err != nil && err != io.EOF {
			return err
		}
		r.rest, r.eof = r.buf[:n], err == io.EOF
	}
	if len(r.rest) > 0 {
		return errFormat
	}
	return io.EOF
}

func (r *lzmaReader) Close() error {
	r.stream.free()
	r.ended = true
	return nil
}

// An xzWriter encodes.
type xzWriter struct {
	stream lzmaStream
	w      io.Writer
	buf    []byte
}

func writeXz(w io.Writer, level int, parallel bool) (io.WriteCloser, error) {
	n := C.uint32_t(0)
	if parallel {
		n = threads()
	}
	s, err := newLzmaStream(func(s *C.lzma_stream) C.lzma_ret { return C.gobuild_xz_encoder(s, C.uint32_t(level), n) })
	if err != nil {
		return nil, err
	}
	return &xzWriter{stream: s, w: w, buf: make([]byte, chunk)}, nil
}

func (w *xzWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		taken, _, err := w.step(p, C.LZMA_RUN)
		if err != nil {
			return n - len(p), err
		}
		p = p[taken:]
	}
	return n, nil
}

// step encodes some bytes and writes what comes of it.
func (w *xzWriter) step(p []byte, action C.lzma_action) (taken int, ended bool, err error) {
	taken, put, ended, err := w.stream.code(p, w.buf, action)
	if err != nil {
		return taken, false, err
	}
	if put > 0 {
		if _, err := w.w.Write(w.buf[:put]); err != nil {
			return taken, false, err
		}
	}
	return taken, ended, nil
}

func (w *xzWriter) Close() error {
	defer w.stream.free()
	for {
		if _, ended, err := w.step(nil, C.LZMA_FINISH); ended || err != nil {
			return err
		}
	}
}
