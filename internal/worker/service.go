package worker

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/worker/proc"
)

// Some children are asked things while they run: their input is written here,
// as far as it can be without waiting.

// An Ender is a Listener that wants to hear of a child's end. Goals need not:
// they wait for Exit.
type Ender interface {
	// Ended is called once, when the child has been reaped; starting another
	// in its place is allowed.
	Ended(h *Handle)
}

// A feed is the input of a child: a descriptor, -1 when it is closed, and what
// could not be written yet.
type feed struct {
	fd      int
	pending []byte
	polled  bool // the descriptor is watched for room
	closing bool // close it when nothing is pending
}

// Send gives a child input. It never waits: what the child does not take now
// is kept until it does. To a child that has closed its input, or ended, it
// does nothing; the end of the child is news enough.
func (w *Worker) Send(h *Handle, data []byte) {
	f := &h.input
	if f.fd < 0 || f.closing || h.exited {
		return
	}
	if len(f.pending) == 0 {
		n, err := w.sys.Write(f.fd, data)
		if err != nil {
			w.closeInput(h)
			return
		}
		data = data[n:]
	}
	f.pending = append(f.pending, data...)
	w.pollInput(h)
}

// CloseInput ends a child's input after all that was sent.
func (w *Worker) CloseInput(h *Handle) {
	h.input.closing = true
	if len(h.input.pending) == 0 {
		w.closeInput(h)
	}
}

// pollInput watches for room while something is pending.
func (w *Worker) pollInput(h *Handle) {
	f := &h.input
	if f.polled || len(f.pending) == 0 {
		return
	}
	if err := w.sys.AddWriter(f.fd); err != nil {
		w.closeInput(h)
		return
	}
	f.polled = true
	w.byFD[f.fd] = h
}

// flush writes more of what is pending.
func (w *Worker) flush(h *Handle) {
	f := &h.input
	n, err := w.sys.Write(f.fd, f.pending)
	if err != nil {
		w.closeInput(h)
		return
	}
	if f.pending = f.pending[n:]; len(f.pending) > 0 {
		return
	}
	f.pending = nil
	if f.closing {
		w.closeInput(h)
		return
	}
	w.sys.Remove(f.fd)
	delete(w.byFD, f.fd)
	f.polled = false
}

func (w *Worker) closeInput(h *Handle) {
	f := &h.input
	if f.fd < 0 {
		return
	}
	if f.polled {
		w.sys.Remove(f.fd)
		delete(w.byFD, f.fd)
	}
	proc.Close(f.fd)
	*f = feed{fd: -1, closing: true}
}

// dismissal is how long a service may take to end once its input is closed.
const dismissal = 2 * time.Second

// dismiss lets a service end by itself, soon.
func (w *Worker) dismiss(h *Handle) {
	w.CloseInput(h)
	h.dismissed, h.deadline = true, w.opt.Now().Add(dismissal)
}

// Pump lets children go on without any goal until done says so. It is for
// asking services before a run.
func (w *Worker) Pump(done func() bool) error {
	for !done() {
		if err := w.interrupted(); err != nil {
			return err
		}
		if len(w.handles) == 0 {
			return errors.New("no child is left that could answer")
		}
		if err := w.poll(); err != nil {
			return err
		}
		if w.lost != nil {
			return w.lost
		}
	}
	return nil
}

// Dismiss ends all children, as the end of Run does. It is for those that
// Pump has used, when there is no Run.
func (w *Worker) Dismiss() error { return w.drain() }

// Occupy takes a slot for work that a goal has done by a service; the goal
// gives it back with Vacate.
func (w *Worker) Occupy(kind SlotKind) { w.used[kind]++ }

// Vacate gives back a slot taken by Occupy.
func (w *Worker) Vacate(kind SlotKind) { w.used[kind]-- }

func (e *epoll) AddWriter(fd int) error {
	return unix.EpollCtl(e.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLOUT, Fd: int32(fd)})
}

func (e *epoll) Write(fd int, data []byte) (int, error) {
	written := 0
	for written < len(data) {
		n, err := unix.Write(fd, data[written:])
		switch err {
		case nil:
			written += n
		case unix.EINTR:
		case unix.EAGAIN:
			return written, nil
		default:
			return written, err
		}
	}
	return written, nil
}
