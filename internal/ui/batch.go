package ui

import "io"

// A batch collects writes while it is on: a builder that prints a hundred
// thousand lines should not cost as many system calls.
type batch struct {
	out io.Writer
	on  bool
	buf []byte
}

// batchSize is what is written at once at the latest.
const batchSize = 64 << 10

// Write never fails: errors are not the writer's to handle.
func (b *batch) Write(p []byte) (int, error) {
	if !b.on {
		return b.out.Write(p)
	}
	b.buf = append(b.buf, p...)
	if len(b.buf) >= batchSize {
		b.flush()
	}
	return len(p), nil
}

func (b *batch) flush() {
	if len(b.buf) > 0 {
		_, _ = b.out.Write(b.buf)
		b.buf = b.buf[:0]
	}
}
