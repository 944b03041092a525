package buildhook

import (
	"errors"
	"sync"
	"time"

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

// moment is how long a signal may take to get here.
const moment = 100 * time.Millisecond

// soonOver is over for when a connection has broken: whoever ends us signals
// all our processes, of which the one that leads to the machine may be quicker.
// The machine is not to blame then.
func (e *Ender) soonOver() bool {
	for end := time.Now().Add(moment); time.Now().Before(end) && !e.over(); {
		time.Sleep(moment / 10)
	}
	return e.over()
}
