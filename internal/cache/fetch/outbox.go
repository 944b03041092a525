package fetch

import (
	"io"
	"sync"

	"gobuild/internal/cache/wire"
)

// An outbox is the one way out: it writes whole replies, and those that come
// up while it writes with one call. It is safe for concurrent use.
type outbox struct {
	wake chan struct{}
	done chan struct{}

	mu    sync.Mutex
	drain sync.Cond // of mu: there is room again
	next  []byte    // not given to the writer yet
	err   error     // of the writer; replies are lost from then on
}

// maxOut is how many bytes may wait before those who send them do.
const maxOut = 1 << 20

func newOutbox(w io.Writer) *outbox {
	o := &outbox{wake: make(chan struct{}, 1), done: make(chan struct{})}
	o.drain.L = &o.mu
	go o.run(w)
	return o
}

func (o *outbox) run(w io.Writer) {
	defer close(o.done)
	var batch []byte
	for range o.wake {
		o.mu.Lock()
		batch, o.next = o.next, batch[:0]
		o.drain.Broadcast()
		err := o.err
		o.mu.Unlock()
		if err != nil || len(batch) == 0 {
			continue
		}
		if _, err := w.Write(batch); err != nil {
			o.fail(err)
		}
	}
}

func (o *outbox) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = err
	o.next = nil
	o.drain.Broadcast()
}

// send queues a reply. It waits only while too much is queued.
func (o *outbox) send(r *wire.Reply) {
	line, err := wire.Encode(r)
	if err != nil {
		o.fail(err)
		return
	}
	o.mu.Lock()
	for len(o.next) > maxOut && o.err == nil {
		o.drain.Wait()
	}
	if o.err == nil {
		o.next = append(o.next, line...)
	}
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default: // it will see this reply, too
	}
}

// broken tells whether nobody takes replies any more.
func (o *outbox) broken() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err != nil
}

// close writes what is queued. Nothing may be sent afterwards.
func (o *outbox) close() error {
	close(o.wake)
	<-o.done
	return o.err
}
