package fetch

import (
	"io"
	"sync"
	"sync/atomic"

	"gobuild/internal/store/nar"
)

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
	// largeNar is the length in bytes from which few archives are taken at a
	// time: it is that of what decoders commonly remember.
	largeNar = 8 << 20
)

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
