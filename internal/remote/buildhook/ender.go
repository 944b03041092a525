package buildhook

import (
	"errors"
	"sync"

	"gobuild/internal/remote"
)

// An Ender ends a build from another goroutine, so that what has been received
// of its outputs is removed. The zero value is ready.
type Ender struct {
	mu    sync.Mutex // guards what follows
	conn  *remote.Conn
	ended bool
}

var errEnded = errors.New("interrupted")

// End interrupts the build, and keeps another from beginning. It returns false
// if none is being done: then there is nothing to be removed.
func (e *Ender) End() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended = true
	if e.conn != nil {
		e.conn.Interrupt()
	}
	return e.conn != nil
}

// watch says which connection is in use, nil for none.
func (e *Ender) watch(c *remote.Conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.conn = c; c != nil && e.ended {
		c.Interrupt()
	}
}

func (e *Ender) over() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ended
}
