package cache

import (
	"context"
	"slices"
	"sync"
	"time"
)

// slots bounds how much goes on at once, first come first served. One request
// goes alone until the cache has answered: what cannot be reached is then
// dialled once, and what speaks HTTP/2 needs one connection.
type slots struct {
	mu    sync.Mutex
	limit int // 0: none
	used  int
	queue []chan struct{} // closed when its owner may go
}

// acquire waits for a slot.
func (s *slots) acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	if s.limit == 0 || s.used < s.limit {
		s.used++
		s.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	s.queue = append(s.queue, turn)
	s.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.queue, turn); i >= 0 {
		s.queue = slices.Delete(s.queue, i, i+1)
	} else {
		s.used-- // it was given in this moment
		s.wake()
	}
	return ctx.Err()
}

func (s *slots) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used--
	s.wake()
}

// widen sets the limit; 0 is none.
func (s *slots) widen(limit int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = limit
	s.wake()
}

func (s *slots) wake() {
	for len(s.queue) > 0 && (s.limit == 0 || s.used < s.limit) {
		s.used++
		close(s.queue[0])
		s.queue = s.queue[1:]
	}
}

// A limiter holds all downloads together to a speed.
type limiter struct {
	rate int64 // bytes per second; 0: no limit
	mu   sync.Mutex
	free time.Time // when what was read so far is paid for
}

func newLimiter(kib int64) *limiter { return &limiter{rate: max(kib, 0) << 10} }

// portion is how much to read at once of n bytes: an eighth of a second's worth.
func (l *limiter) portion(n int) int {
	if l.rate == 0 {
		return n
	}
	return int(min(int64(n), max(l.rate/8, 512)))
}

// pay waits until n more bytes may be read.
func (l *limiter) pay(ctx context.Context, n int) error {
	if l.rate == 0 || n == 0 {
		return nil
	}
	l.mu.Lock()
	if now := time.Now(); l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(int64(n) * int64(time.Second) / l.rate))
	until := l.free
	l.mu.Unlock()
	return sleep(ctx, time.Until(until))
}

// sleep waits, or until the context ends.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
