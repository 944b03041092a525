package protocol

import (
	"bufio"
	"encoding/binary"
	"io"
	"slices"
	"time"

	"gobuild/internal/store/storepath"
)

// A Writer puts values on a stream. It is not safe for concurrent use.
type Writer struct {
	out *bufio.Writer
	err error
}

// NewWriter makes a buffered writer: nothing is sent for sure before Flush.
func NewWriter(w io.Writer) *Writer { return &Writer{out: bufio.NewWriterSize(w, bufferSize)} }

// Err is the first error of the connection.
func (w *Writer) Err() error { return w.err }

// Flush sends what was written, and returns Err.
func (w *Writer) Flush() error {
	if w.err == nil {
		w.err = w.out.Flush()
	}
	return w.err
}

// Write puts raw data on the stream.
func (w *Writer) Write(b []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.out.Write(b)
	w.err = err
	return n, err
}

// Uint64 writes a number.
func (w *Writer) Uint64(n uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], n)
	_, _ = w.Write(b[:]) // the error is kept
}

// Bool writes a truth value.
func (w *Writer) Bool(b bool) {
	n := uint64(0)
	if b {
		n = 1
	}
	w.Uint64(n)
}

// Time writes a time in seconds; the zero Time is 0.
func (w *Writer) Time(t time.Time) {
	n := uint64(0)
	if !t.IsZero() && t.Unix() > 0 {
		n = uint64(t.Unix())
	}
	w.Uint64(n)
}

// Seconds writes a duration, rounded up: a limit of half a second is one.
func (w *Writer) Seconds(d time.Duration) {
	w.Uint64(uint64(max(d+time.Second-1, 0) / time.Second))
}

// Text writes a string.
func (w *Writer) Text(s string) {
	w.Uint64(uint64(len(s)))
	if w.err != nil {
		return
	}
	if _, w.err = w.out.WriteString(s); w.err == nil {
		_, w.err = w.out.WriteString("\x00\x00\x00\x00\x00\x00\x00"[:-len(s)&7])
	}
}

// Texts writes a list of strings in the order given.
func (w *Writer) Texts(texts []string) {
	w.Uint64(uint64(len(texts)))
	for _, s := range texts {
		w.Text(s)
	}
}

// Path writes a store path; "" is none.
func (w *Writer) Path(p storepath.Path) { w.Text(string(p)) }

// Paths writes a set of store paths, sorted.
func (w *Writer) Paths(paths []storepath.Path) {
	if !slices.IsSorted(paths) {
		paths = slices.Sorted(slices.Values(paths))
	}
	w.Uint64(uint64(len(paths)))
	for _, p := range paths {
		w.Path(p)
	}
}
