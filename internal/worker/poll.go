package worker

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// maxSleep caps one poll, because a signal may arrive just before it.
const maxSleep = time.Second

// poll sleeps until a child does something or a time comes, and handles it.
func (w *Worker) poll() error {
	ready, err := w.sys.Wait(w.sleep(), w.ready[:0])
	w.ready = ready
	if err != nil {
		return err
	}
	w.events = w.events[:0]
	for _, fd := range ready {
		w.events = append(w.events, event{w.byFD[fd], fd})
	}
	// Output first, so that what a child said before its end is heard before.
	for _, e := range w.events {
		if e.current(w) && e.fd == e.of.input.fd {
			w.flush(e.of)
		} else if e.current(w) && e.fd != e.of.pidfd {
			if err := w.deliver(e.of, e.fd); err != nil {
				return err
			}
		}
	}
	for _, e := range w.events {
		if e.current(w) && e.fd == e.of.pidfd {
			if err := w.ended(e.of); err != nil {
				return err
			}
		}
	}
	clear(w.events) // the array outlives the children, whose goals have memory
	w.expire()
	return nil
}

// An event is a descriptor that was ready, and whose it was then.
type event struct {
	of *Handle
	fd int
}

// current tells whether the event still means what it did: what was heard
// meanwhile may have closed the descriptor, named a process's successor, or
// started a child whose descriptor has the same number.
func (e event) current(w *Worker) bool { return e.of != nil && w.byFD[e.fd] == e.of }

// sleep is the time until the next deadline.
func (w *Worker) sleep() time.Duration {
	now := w.opt.Now()
	d := maxSleep
	if len(w.while) > 0 {
		d = min(d, w.wakeAt.Sub(now))
	}
	if !w.idleBy.IsZero() {
		d = min(d, w.idleBy.Sub(now))
	}
	for _, h := range w.handles {
		if !h.deadline.IsZero() {
			d = min(d, h.deadline.Sub(now))
		} else if l := h.child.Limits; !h.warned {
			if l.Silence > 0 {
				d = min(d, h.last.Add(l.Silence).Sub(now))
			}
			if l.Total > 0 {
				d = min(d, h.started.Add(l.Total).Sub(now))
			}
		}
	}
	return max(d, 0)
}

// expire applies the time limits and wakes those who poll.
func (w *Worker) expire() {
	now := w.opt.Now()
	for _, h := range w.handles {
		if !h.deadline.IsZero() && !now.Before(h.deadline) {
			h.deadline = time.Time{}
			w.Kill(h)
			continue
		}
		if limit, broken := h.broken(now); broken && h.listener != nil {
			h.warned = true
			h.listener.TimedOut(h, limit)
		}
	}
	if len(w.while) > 0 && !now.Before(w.wakeAt) {
		queue := w.while
		w.while = nil
		w.wakeAt = now.Add(w.opt.PollInterval)
		w.wakeParked(queue, AWhile)
	} else if len(w.while) == 0 {
		w.wakeAt = time.Time{}
	}
}

func (h *Handle) broken(now time.Time) (Limit, bool) {
	l := h.child.Limits
	switch {
	case h.warned:
		return Limit{}, false
	case l.Silence > 0 && now.Sub(h.last) >= l.Silence:
		return Limit{Silent: true, After: l.Silence}, true
	case l.Total > 0 && now.Sub(h.started) >= l.Total:
		return Limit{After: l.Total}, true
	}
	return Limit{}, false
}

// drain waits for the children that linger and for those that were killed.
func (w *Worker) drain() error {
	w.endAll()
	err := w.idle() // may start children that linger
	for len(w.handles) > 0 {
		w.endAll() // the last words of one child may have started another
		if e := w.poll(); e != nil {
			return errors.Join(err, e)
		}
		err = errors.Join(err, w.idle())
	}
	return err
}

// endAll has all children end that are not ending yet, but for those that
// linger.
func (w *Worker) endAll() {
	for _, h := range w.handles {
		switch {
		case h.listener == nil || h.child.Linger || h.dismissed:
		case h.child.Service:
			w.dismiss(h)
		default:
			w.Bury(h, nil)
		}
	}
}

// A System is what the loop needs of the operating system.
type System interface {
	Add(fd int) error
	// AddWriter watches a descriptor that has room to write.
	AddWriter(fd int) error
	Remove(fd int)
	// Wait appends the descriptors that are ready or at their end, in a stable
	// order; a signal ends it early with none.
	Wait(d time.Duration, ready []int) ([]int, error)
	// Read returns 0 at the end of file and a negative count when nothing is
	// there yet.
	Read(fd int, buf []byte) (int, error)
	// Write returns how much could be written without waiting.
	Write(fd int, data []byte) (int, error)
	Close() error
}

type epoll struct {
	fd     int
	events []unix.EpollEvent
}

func newEpoll() (*epoll, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return &epoll{fd: fd, events: make([]unix.EpollEvent, 64)}, nil
}

func (e *epoll) Add(fd int) error {
	return unix.EpollCtl(e.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

func (e *epoll) Remove(fd int) { _ = unix.EpollCtl(e.fd, unix.EPOLL_CTL_DEL, fd, nil) }

func (e *epoll) Wait(d time.Duration, ready []int) ([]int, error) {
	// Rounded up: waking a little before a deadline would spin.
	ms := int((d + time.Millisecond - 1) / time.Millisecond)
	n, err := unix.EpollWait(e.fd, e.events, ms)
	if err == unix.EINTR {
		return ready, nil
	}
	if err != nil {
		return ready, err
	}
	for _, ev := range e.events[:n] {
		ready = append(ready, int(ev.Fd))
	}
	return ready, nil
}

func (e *epoll) Read(fd int, buf []byte) (int, error) {
	for {
		n, err := unix.Read(fd, buf)
		switch err {
		case nil:
			return n, nil
		case unix.EINTR:
		case unix.EAGAIN:
			return -1, nil
		default:
			return 0, err
		}
	}
}

func (e *epoll) Close() error { return unix.Close(e.fd) }
