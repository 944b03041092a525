package fetch

import (
	"context"
	"errors"
	"fmt"

	"gobuild/internal/cache/wire"
)

// A job is a request that has not been answered.
type job struct {
	wire.Request
	// stop is nil until somebody works on it; guarded by server.mu.
	stop    context.CancelFunc
	dropped bool // answered while it waited; guarded by server.mu
}

// A pool does jobs of one kind, some at a time and in the order in which they
// came. server.mu guards it.
type pool struct {
	do      func(context.Context, *job) *wire.Reply
	most    int // goroutines
	busy    int
	waiting []*job
}

func (s *server) add(p *pool, j *job) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[j.ID] != nil {
		return fmt.Errorf("there are two open requests with the number %d", j.ID)
	}
	s.open[j.ID] = j
	if p.busy == p.most {
		p.waiting = append(p.waiting, j)
		return nil
	}
	p.busy++
	ctx := s.begin(j)
	s.running.Go(func() { s.work(ctx, p, j) })
	return nil
}

// begin needs the lock.
func (s *server) begin(j *job) context.Context {
	ctx, stop := context.WithCancel(s.root)
	j.stop = stop
	return ctx
}

// work does a job, and others that wait.
func (s *server) work(ctx context.Context, p *pool, j *job) {
	for j != nil {
		reply := p.do(ctx, j)
		j.stop()
		s.mu.Lock()
		delete(s.open, j.ID)
		s.mu.Unlock()
		reply.ID = j.ID
		s.out.send(reply)
		ctx, j = s.next(p)
	}
}

func (s *server) next(p *pool) (context.Context, *job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(p.waiting) > 0 {
		j := p.waiting[0]
		p.waiting[0] = nil
		p.waiting = p.waiting[1:]
		if !j.dropped {
			return s.begin(j), j
		}
	}
	p.waiting = nil
	p.busy--
	return nil, nil
}

var errCancelled = errors.New("cancelled")

// cancel gives a request up. One that is being worked on is answered when
// nothing is left of it; one that is unknown has been answered just now.
func (s *server) cancel(id uint64) {
	s.mu.Lock()
	j := s.open[id]
	waits := j != nil && j.stop == nil
	if waits {
		j.dropped = true
		delete(s.open, id)
	}
	s.mu.Unlock()
	switch {
	case waits && j.Op == wire.Info:
		s.out.send(&wire.Reply{ID: id, Kind: wire.Absent, Error: errCancelled.Error()})
	case waits:
		s.out.send(&wire.Reply{ID: id, Kind: wire.Failed, Error: errCancelled.Error()})
	case j != nil:
		j.stop()
	}
}

// giveUp ends all work and forgets what waits.
func (s *server) giveUp() {
	s.mu.Lock()
	s.asks.waiting, s.loads.waiting = nil, nil
	s.mu.Unlock()
	s.stop()
}
