// Package readahead reads derivations' files on other processors, in batches,
// while the caller parses those that it has: planning a large graph is mostly
// opening files.
package readahead

import (
	"fmt"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/storepath"
)

// BatchSize is how many files are worth the trip to another processor.
const BatchSize = 64

// maxFile is the largest file that is read; others are left to the caller.
const maxFile = 1 << 20

// A Batch is some derivations with what their files contain. It is the
// caller's until Done.
type Batch struct {
	Paths []storepath.Path
	ends  []int // of each text in buf; as its start where nothing was read
	buf   []byte
}

// Text is the contents of the file of Paths[i]. It is nil if the file could
// not be read, or is not one that should be: reading it again tells why.
func (b *Batch) Text(i int) []byte {
	start := 0
	if i > 0 {
		start = b.ends[i-1]
	}
	if start == b.ends[i] {
		return nil
	}
	return b.buf[start:b.ends[i]:b.ends[i]]
}

// A Reader has a bounded number of goroutines that read. It is used by one
// goroutine, which must close it.
type Reader struct {
	dir      int // the store directory
	ask      chan *Batch
	answers  chan *Batch
	idle     []*Batch
	inFlight int
	workers  int
	done     chan struct{}
}

// New starts reading from the store directory that is really at realDir.
func New(realDir string, workers int) (*Reader, error) {
	dir, err := unix.Open(realDir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the store directory '%s': %w", realDir, err)
	}
	r := &Reader{
		dir: dir, workers: workers, done: make(chan struct{}),
		ask: make(chan *Batch, 2*workers), answers: make(chan *Batch, 2*workers),
	}
	for range workers {
		go r.work()
	}
	return r, nil
}

// Full tells whether enough has been asked for to keep everybody busy.
func (r *Reader) Full() bool { return r.inFlight == 2*r.workers }

// InFlight is the number of batches that Next has not returned yet.
func (r *Reader) InFlight() int { return r.inFlight }

// Ask has up to BatchSize derivations read. It must not be called when Full.
func (r *Reader) Ask(paths []storepath.Path) {
	b := &Batch{}
	if n := len(r.idle); n > 0 {
		b, r.idle = r.idle[n-1], r.idle[:n-1]
	}
	b.Paths = append(b.Paths[:0], paths...)
	r.inFlight++
	r.ask <- b
}

// Next waits for a batch, of those that were asked for the first to be ready.
func (r *Reader) Next() *Batch {
	r.inFlight--
	return <-r.answers
}

// Done gives a batch back.
func (r *Reader) Done(b *Batch) { r.idle = append(r.idle, b) }

// Close ends the goroutines and waits for them.
func (r *Reader) Close() {
	close(r.ask)
	for range r.workers {
		<-r.done
	}
	_ = unix.Close(r.dir)
}

func (r *Reader) work() {
	for b := range r.ask {
		b.buf, b.ends = b.buf[:0], b.ends[:0]
		for _, p := range b.Paths {
			b.read(r.dir, p.Base())
			b.ends = append(b.ends, len(b.buf))
		}
		r.answers <- b
	}
	r.done <- struct{}{}
}

// read appends a file, or nothing.
func (b *Batch) read(dir int, name string) {
	// neither follow a link out of the store nor wait for a fifo's writer
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > maxFile {
		return
	}
	start, size := len(b.buf), int(st.Size)
	b.buf = append(b.buf, make([]byte, size)...)
	for done := 0; done < size; {
		n, err := unix.Read(fd, b.buf[start+done:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			b.buf = b.buf[:start]
			return
		}
		done += n
	}
}
