package fetch

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"

	"gobuild/internal/store/nar"
)

// An arrival is an archive that comes in, is hashed and becomes a tree.
type arrival struct {
	*transfer
	in      io.Reader // decompressed
	hash    hash.Hash
	address *address
	exact   bool // the tree is canonical; see nar.RestoreCanonical
}

// whole takes an archive that fits into one block. It is verified before
// anything is made of it, and needs no other goroutines, which would cost more
// than they gain.
func (a *arrival) whole() error {
	b := a.blocks.Get().(*block)
	defer a.blocks.Put(b)
	want := int(a.info.NarSize)
	n, err := readFull(a.in, b.buf[:min(want+1, len(b.buf))])
	if err == nil && n == want { // the block is full
		var more [1]byte
		n, err = readFull(a.in, more[:])
		n += want
	}
	if err := a.judge(uint64(n), uint64(want), err); err != nil {
		return err
	}
	a.meter.unpacked.Store(uint64(n))
	data := b.buf[:n]
	a.hash.Write(data)
	a.address.write(data)
	if err := a.checkHash(); err != nil {
		return err
	}
	return a.restore(&lender{rest: data, more: func() ([]byte, error) { return nil, io.EOF }})
}

// judge is about the end of an archive: how long it is, how long it should be,
// and what ended it, if it has been read to its end.
func (a *arrival) judge(got, want uint64, err error) error {
	switch {
	case got > want:
		return &mismatchError{"size", a.path, strconv.FormatUint(want, 10), "more"}
	case err == nil:
		return nil
	case err != io.EOF:
		return a.meter.explain(err)
	case got < want:
		return &mismatchError{"size", a.path, strconv.FormatUint(want, 10), strconv.FormatUint(got, 10)}
	}
	return nil
}

// restore makes the tree, and insists that nothing follows it.
func (a *arrival) restore(l *lender) error {
	exact, err := nar.RestoreCanonical(l, a.dest, a.cfg.KeepXattrs)
	a.exact = exact
	if err == nil {
		var rest []byte
		if rest, err = l.Lend(1); len(rest) > 0 {
			err = errors.New("bad archive: something follows its end")
		}
	}
	switch {
	case l.err != nil && l.err != io.EOF:
		return l.err // says more than that the archive is incomplete
	case err == io.EOF:
		return nil
	}
	return err
}

// A lender gives the archive reader what it asks for, without copying blocks.
type lender struct {
	rest []byte
	more func() ([]byte, error) // the next block; what it gave before is not needed any more
	err  error                  // from more
}

func (l *lender) Lend(limit int) ([]byte, error) {
	for len(l.rest) == 0 {
		if l.err == nil {
			l.rest, l.err = l.more()
		}
		if l.err != nil {
			return nil, l.err
		}
	}
	b := l.rest[:min(limit, len(l.rest))]
	l.rest = l.rest[len(b):]
	return b, nil
}

func (l *lender) Read(b []byte) (int, error) {
	part, err := l.Lend(len(b))
	return copy(b, part), err
}

// readFull fills b unless the reader ends before. Decoders are the work of
// others: what hostile bytes make of them must not end all other transfers.
func readFull(r io.Reader, b []byte) (n int, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the decoder broke down: %v", v)
		}
	}()
	idle := 0
	for n < len(b) && err == nil {
		var got int
		got, err = r.Read(b[n:])
		n += got
		if idle++; got > 0 {
			idle = 0
		}
		if idle > 100 {
			err = io.ErrNoProgress
		}
	}
	return n, err
}
