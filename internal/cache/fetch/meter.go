package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"gobuild/internal/cache/wire"
)

// A meter reads a file of a cache. It holds the file to its size, ends with
// the context, and tells the engine now and then how far it is.
type meter struct {
	from  io.Reader
	ctx   context.Context
	limit uint64 // bytes, as promised; 0 for none
	most  uint64 // bytes, whatever was promised; 0 for none
	out   *outbox
	id    uint64
	told  time.Time // of the latest report, or the beginning

	taken    atomic.Uint64 // bytes of the file
	unpacked atomic.Uint64 // bytes of the archive; not counted here
	failed   atomic.Pointer[error]
}

// longest is how long the file of an archive of some bytes can sensibly be.
// Some formats have room for things that decompress to nothing, without end.
func longest(archive uint64) uint64 {
	const overhead = 16 << 20
	if archive > 1<<60 {
		return 0
	}
	return 2*archive + overhead
}

// progressEvery is the least time between two reports on a request.
const progressEvery = 200 * time.Millisecond

func newMeter(ctx context.Context, out *outbox, id uint64) *meter {
	return &meter{ctx: ctx, out: out, id: id, told: time.Now()}
}

func (m *meter) Read(b []byte) (int, error) {
	if err := m.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := m.from.Read(b)
	taken := m.taken.Add(uint64(n))
	switch {
	case m.limit > 0 && taken > m.limit:
		err = fmt.Errorf("its file is longer than the %d bytes that were promised", m.limit)
	case m.most > 0 && taken > m.most:
		err = fmt.Errorf("its file is longer than %d bytes, far longer than its archive", m.most)
	}
	if err != nil {
		if err != io.EOF {
			m.failed.Store(&err)
		}
		return n, err
	}
	if now := time.Now(); now.Sub(m.told) >= progressEvery {
		m.told = now
		m.out.send(&wire.Reply{ID: m.id, Kind: wire.Progress, Downloaded: taken, Unpacked: m.unpacked.Load()})
	}
	return n, nil
}

// explain finds the cause of an error of whoever reads the meter: decoders
// have their own words for trouble that is not theirs.
func (m *meter) explain(err error) error {
	if cause := m.failed.Load(); cause != nil {
		return *cause
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("its file is truncated")
	}
	return fmt.Errorf("unpacking its file: %w", err)
}
