package protocol

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"gobuild/internal/store/storepath"
)

// bufferSize serves many small values with one call of the system; larger
// pieces go around the buffer.
const bufferSize = 32 << 10

// A FormatError means that the peer does not keep to the protocol, as opposed
// to trouble with the connection.
type FormatError struct{ msg string }

func (e *FormatError) Error() string { return e.msg }

func malformed(format string, args ...any) error {
	return &FormatError{"bad message: " + fmt.Sprintf(format, args...)}
}

// A Reader takes values off a stream. It is not safe for concurrent use.
type Reader struct {
	in  *bufio.Reader
	err error
	buf [8]byte
}

// NewReader makes a buffered reader.
func NewReader(r io.Reader) *Reader { return &Reader{in: bufio.NewReaderSize(r, bufferSize)} }

// Err is the first error: of the connection, io.EOF for its end between two
// values, io.ErrUnexpectedEOF for its end within one, or a *FormatError.
func (r *Reader) Err() error { return r.err }

// Fail makes err the Reader's error, unless there is one: for callers who find
// that a value makes no sense.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// Read gives what follows raw, for data that has an end of its own such as an
// archive. It counts as a part of the message: the end of the stream is an
// error for good.
func (r *Reader) Read(b []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.in.Read(b)
	if err != nil {
		r.err = err
	}
	return n, err
}

// fill reads all of b. After an error b is zero.
func (r *Reader) fill(b []byte) {
	if r.err == nil {
		_, r.err = io.ReadFull(r.in, b)
	}
	if r.err != nil {
		clear(b)
	}
}

// Uint64 reads a number. It is 0 after an error, as all values are.
func (r *Reader) Uint64() uint64 {
	r.fill(r.buf[:])
	return binary.LittleEndian.Uint64(r.buf[:])
}

// Int reads a number that has to fit into 31 bits.
func (r *Reader) Int() int {
	n := r.Uint64()
	if n > 1<<31-1 {
		r.Fail(malformed("the number %d is out of range", n))
		return 0
	}
	return int(n)
}

// Bool reads a truth value: any number but 0 is true.
func (r *Reader) Bool() bool { return r.Uint64() != 0 }

// Time reads a time in seconds; 0 gives the zero Time.
func (r *Reader) Time() time.Time {
	n := r.Uint64()
	switch {
	case n == 0:
		return time.Time{}
	case n > 1<<40:
		r.Fail(malformed("the time %d is out of range", n))
		return time.Time{}
	}
	return time.Unix(int64(n), 0)
}

// Seconds reads a duration.
func (r *Reader) Seconds() time.Duration {
	const most = uint64(1<<63-1) / uint64(time.Second)
	return time.Duration(min(r.Uint64(), most)) * time.Second
}

// Text reads a string of at most limit bytes.
func (r *Reader) Text(limit int) string {
	size := r.Uint64()
	if size > uint64(limit) {
		r.Fail(malformed("a string of %d bytes is too long", size))
	}
	if r.err != nil || size == 0 {
		return ""
	}
	text := r.bytes(int(size))
	pad := r.buf[:-size&7]
	r.fill(pad)
	for _, c := range pad {
		if c != 0 {
			r.Fail(malformed("non-zero padding"))
		}
	}
	if r.err != nil {
		r.endsInside()
		return ""
	}
	return text
}

// bytes reads a text of that length. Memory is taken as the text arrives.
func (r *Reader) bytes(size int) string {
	b := make([]byte, min(size, 4<<10))
	r.fill(b)
	for r.err == nil && len(b) < size {
		done := len(b)
		b = append(b, make([]byte, min(size-done, done))...)
		r.fill(b[done:])
	}
	return string(b)
}

// endsInside notes that the stream did not end between two values.
func (r *Reader) endsInside() {
	if errors.Is(r.err, io.EOF) {
		r.err = io.ErrUnexpectedEOF
	}
}

// Name reads a short string.
func (r *Reader) Name() string { return r.Text(maxName) }

// listItem is what an element of a list counts against the limit, beside its
// text: what it takes in memory and on the wire.
const listItem = 32

// Each reads a count and calls item so many times, unless there is an error.
// item returns how many bytes of text it has read; all together must not be
// more than MaxList.
func (r *Reader) Each(item func() int) {
	n := r.Uint64()
	if n > MaxList/listItem {
		r.Fail(malformed("a list of %d elements is too long", n))
	}
	left := MaxList
	for i := uint64(0); i < n && r.err == nil; i++ {
		left -= item() + listItem
		r.endsInside()
		if left < 0 {
			r.Fail(malformed("a list of more than %d bytes", MaxList))
		}
	}
}

// Texts reads a list of strings of at most limit bytes each.
func (r *Reader) Texts(limit int) []string {
	var texts []string
	r.Each(func() int {
		text := r.Text(limit)
		texts = append(texts, text)
		return len(text)
	})
	if r.err != nil {
		return nil
	}
	return texts
}

// Path reads a store path.
func (r *Reader) Path(dir storepath.Dir) storepath.Path {
	text := r.Name()
	if r.err != nil {
		return ""
	}
	return r.path(dir, text)
}

// OptionalPath reads a store path, or "" for none.
func (r *Reader) OptionalPath(dir storepath.Dir) storepath.Path {
	text := r.Name()
	if r.err != nil || text == "" {
		return ""
	}
	return r.path(dir, text)
}

func (r *Reader) path(dir storepath.Dir, text string) storepath.Path {
	p, err := dir.ParseExact(text)
	if err != nil {
		r.Fail(fmt.Errorf("%w: %w", malformed("not a store path"), err))
	}
	return p
}

// Paths reads a list of store paths, in its own order.
func (r *Reader) Paths(dir storepath.Dir) []storepath.Path {
	var paths []storepath.Path
	r.Each(func() int {
		p := r.Path(dir)
		paths = append(paths, p)
		return len(p)
	})
	if r.err != nil {
		return nil
	}
	return paths
}
