// Package logzip is the child job that compresses long build logs while they
// are being written.
package logzip

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/dsnet/compress/bzip2"
	"golang.org/x/sys/unix"
)

// Child is the job's name among the child jobs.
const Child = "__compress-log"

// blockSize is what bzip2 works on at once at its best level. Blocks do not
// depend on each other, so each becomes a stream of its own, made on any
// processor; readers of bzip2 files take streams one after the other for one.
const blockSize = 900_000

// Main is the job. Descriptor 3 is the raw log, which grows until the end of
// file on descriptor 0; the compressed log goes to 1. It returns the exit code.
func Main() int {
	raw, out := os.NewFile(3, "log spool"), os.NewFile(1, "log")
	if err := compress(blockSize, raw, out, waitForEnd); err != nil {
		fmt.Fprintf(os.Stderr, "error: compressing a build log: %v\n", err)
		return 1
	}
	return 0
}

// waitForEnd waits up to a tenth of a second for the end of file on
// descriptor 0.
func waitForEnd() bool {
	fds := []unix.PollFd{{Fd: 0, Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 100)
	return err == nil && n > 0
}

// A block is a part of the log on its way through a compressor.
type block struct {
	out bytes.Buffer
	err error
}

// compress compresses a file that still grows, in blocks of size bytes. wait
// sleeps a little and tells whether the file is complete.
func compress(size int, raw io.ReaderAt, out io.Writer, wait func() (complete bool)) (err error) {
	r := &reader{size: size, raw: raw, wait: wait}
	workers := max(runtime.NumCPU(), 1)
	var inFlight []chan *block // oldest first
	finish := func() error {
		b := <-inFlight[0]
		inFlight = inFlight[1:]
		if b.err == nil {
			_, b.err = out.Write(b.out.Bytes())
		}
		return b.err
	}
	defer func() {
		for len(inFlight) > 0 { // every worker is joined, also after an error
			if e := finish(); err == nil {
				err = e
			}
		}
	}()
	for {
		text, err := r.next()
		if err != nil || len(text) == 0 {
			return err
		}
		if len(inFlight) == workers {
			if err := finish(); err != nil {
				return err
			}
		}
		done := make(chan *block, 1)
		inFlight = append(inFlight, done)
		go func() { done <- compressBlock(text) }()
	}
}

func compressBlock(text []byte) *block {
	b := new(block)
	z, err := bzip2.NewWriter(&b.out, &bzip2.WriterConfig{Level: bzip2.BestCompression})
	if err == nil {
		if _, err = z.Write(text); err == nil {
			err = z.Close()
		}
	}
	b.err = err
	return b
}

// A reader cuts the growing file into blocks.
type reader struct {
	size     int
	raw      io.ReaderAt
	wait     func() bool
	off      int64
	complete bool
}

// next returns a full block, or the rest when the file is complete, or nothing
// at its end.
func (r *reader) next() ([]byte, error) {
	text := make([]byte, r.size)
	n := 0
	for n < len(text) {
		m, err := r.raw.ReadAt(text[n:], r.off)
		n, r.off = n+m, r.off+int64(m)
		switch {
		case err == nil, m > 0:
		case err != io.EOF:
			return nil, err
		case r.complete:
			return text[:n], nil
		default:
			r.complete = r.wait()
		}
	}
	return text, nil
}
