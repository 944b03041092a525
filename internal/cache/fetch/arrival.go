package fetch

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"sync"
	"sync/atomic"

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

// A block is a piece of an archive.
type block struct {
	buf   [nar.BlockSize]byte
	n     int          // bytes of it in use
	users atomic.Int32 // that have not finished with it
}

const (
	// ringSize is how many blocks of an archive there are at most, so that its
	// stages do not wait for each other at once.
	ringSize = 4
	// largeNar is the length from which an archive counts as long: its decoder
	// may remember up to a few times this much of it.
	largeNar = 8 << 20
)

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

// A ring takes an archive through its stages: one goroutine decompresses it,
// one for each hash hashes, and the caller makes the tree, all from the same
// blocks.
type ring struct {
	pool  *sync.Pool
	free  chan *block
	made  int
	quit  chan struct{}
	users []chan *block // have room for all blocks
	err   error         // why no more blocks come; set before the channels are closed
}

// inBlocks takes an archive of any length. cancel must end a read of a.in that
// waits.
func (a *arrival) inBlocks(cancel func()) error {
	r := &ring{pool: &a.blocks, free: make(chan *block, ringSize), quit: make(chan struct{})}
	hashers := []io.Writer{a.hash}
	if a.address.hashes() {
		hashers = append(hashers, a.address.hash)
	}
	var stages sync.WaitGroup
	for range len(hashers) + 1 {
		r.users = append(r.users, make(chan *block, ringSize))
	}
	for i, h := range hashers {
		stages.Go(func() {
			for b := range r.users[i] {
				h.Write(b.buf[:b.n])
				r.release(b)
			}
		})
	}
	stages.Go(func() { r.fill(a) })
	err := a.restoreFrom(r)
	if err != nil {
		cancel()
	}
	close(r.quit)
	for b := range r.users[len(hashers)] {
		r.release(b)
	}
	stages.Wait()
	r.empty()
	if err != nil {
		return err
	}
	return a.checkHash()
}

func (a *arrival) restoreFrom(r *ring) error {
	in := r.users[len(r.users)-1]
	var last *block
	l := &lender{more: func() ([]byte, error) {
		if last != nil {
			r.release(last)
		}
		b, ok := <-in
		if last = b; !ok {
			return nil, r.err
		}
		return b.buf[:b.n], nil
	}}
	err := a.restore(l)
	if last != nil {
		r.release(last)
	}
	return err
}

// fill hands out blocks until the archive ends, or nobody wants more.
func (r *ring) fill(a *arrival) {
	defer func() {
		for _, u := range r.users {
			close(u)
		}
	}()
	var got uint64
	for {
		b := r.take()
		if b == nil {
			r.err = errCancelled
			return
		}
		want := len(b.buf)
		if left := a.info.NarSize - got; uint64(want) > left {
			want = int(left) + 1 // a byte too many is enough to know
		}
		n, err := readFull(a.in, b.buf[:want])
		got += uint64(n)
		if r.err = a.judge(got, a.info.NarSize, err); r.err == nil && err != nil {
			r.err = io.EOF
		}
		if r.err != nil && r.err != io.EOF {
			r.pool.Put(b)
			return
		}
		a.meter.unpacked.Store(got)
		b.n = n
		b.users.Store(int32(len(r.users)))
		for _, u := range r.users {
			u <- b
		}
		if r.err != nil {
			return
		}
	}
}

// take is a block that nobody uses, nil if no more are wanted.
func (r *ring) take() *block {
	select {
	case <-r.quit:
		return nil
	default:
	}
	select {
	case b := <-r.free:
		return b
	default:
	}
	if r.made < ringSize {
		r.made++
		return r.pool.Get().(*block)
	}
	select {
	case b := <-r.free:
		return b
	case <-r.quit:
		return nil
	}
}

func (r *ring) release(b *block) {
	if b.users.Add(-1) == 0 {
		r.free <- b
	}
}

// empty gives the blocks back when no stage runs any more.
func (r *ring) empty() {
	for {
		select {
		case b := <-r.free:
			r.pool.Put(b)
		default:
			return
		}
	}
}
