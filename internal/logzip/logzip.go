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

// maxWorkers bounds the memory: each has a compressor of some twenty megabytes.
// More would be faster than any builder prints.
const maxWorkers = 4

// A worker has a part of the log on its way through a compressor. Its buffers
// and tables are used again, for they are large.
type worker struct {
	text []byte
	out  bytes.Buffer
	zip  *bzip2.Writer
	done chan error
}

// compress compresses a file that still grows, in blocks of size bytes. wait
// sleeps a little and tells whether the file is complete.
func compress(size int, raw io.ReaderAt, out io.Writer, wait func() (complete bool)) (err error) {
	r := &reader{raw: raw, wait: wait}
	idle := make([]*worker, min(max(runtime.NumCPU(), 1), maxWorkers))
	var busy []*worker // oldest first
	finish := func() error {
		w := busy[0]
		busy = busy[1:]
		err := <-w.done
		if err == nil {
			_, err = out.Write(w.out.Bytes())
		}
		idle = append(idle, w)
		return err
	}
	defer func() {
		for len(busy) > 0 { // every worker is joined, also after an error
			if e := finish(); err == nil {
				err = e
			}
		}
	}()
	for {
		if len(idle) == 0 {
			if err := finish(); err != nil {
				return err
			}
		}
		w := idle[len(idle)-1]
		if w == nil {
			w = &worker{text: make([]byte, size), done: make(chan error, 1)}
		}
		n, err := r.next(w.text)
		if err != nil || n == 0 {
			return err
		}
		idle, busy = idle[:len(idle)-1], append(busy, w)
		go func() { w.done <- w.compress(w.text[:n]) }()
	}
}

func (w *worker) compress(text []byte) (err error) {
	w.out.Reset()
	if w.zip == nil {
		w.zip, err = bzip2.NewWriter(&w.out, &bzip2.WriterConfig{Level: bzip2.BestCompression})
	} else {
		err = w.zip.Reset(&w.out)
	}
	if err == nil {
		if _, err = w.zip.Write(text); err == nil {
			err = w.zip.Close()
		}
	}
	return err
}

// A reader cuts the growing file into blocks.
type reader struct {
	raw      io.ReaderAt
	wait     func() bool
	off      int64
	complete bool
}

// next fills text, or puts the rest there when the file is complete, and
// returns how much that is; 0 is the end.
func (r *reader) next(text []byte) (int, error) {
	n := 0
	for n < len(text) {
		m, err := r.raw.ReadAt(text[n:], r.off)
		n, r.off = n+m, r.off+int64(m)
		switch {
		case err == nil, m > 0:
		case err != io.EOF:
			return n, err
		case r.complete:
			return n, nil
		default:
			r.complete = r.wait()
		}
	}
	return n, nil
}
