package worker

import (
	"time"

	"gobuild/internal/worker/proc"
)

// HandOver gives a child that is watched for a listener to a goal. Its output
// goes there from now on, that of more descriptors too, and its end ends the
// goal's wait for Exit. The child is no service any more. If it has ended
// meanwhile, what is left of its output is delivered at once, and there is no
// end to wait for.
func (w *Worker) HandOver(h *Handle, g Goal, more ...int) error {
	h.listener, h.goal, h.child.Service = g, g.node(), false
	for i, fd := range more {
		if h.exited {
			w.lastWords(h, fd)
			continue
		}
		if err := w.sys.Add(fd); err != nil {
			proc.Close(more[i:]...)
			return err
		}
		h.fds = append(h.fds, fd)
		w.byFD[fd] = h
	}
	return nil
}

// lastWords reads what a child that has ended left in a pipe, within the bound
// of drainFD.
func (w *Worker) lastWords(h *Handle, fd int) {
	for range 64 {
		n, err := w.sys.Read(fd, w.buf)
		if err != nil || n <= 0 {
			break
		}
		h.listener.Output(h, fd, w.buf[:n])
	}
	proc.Close(fd)
}

// Retire is Bury for a child that has been told to end, and gets a moment to do
// so before it is killed.
func (w *Worker) Retire(h *Handle, after func(proc.Status)) {
	w.Leave(h, after)
	w.closeInput(h)
	if !h.exited {
		h.deadline = w.opt.Now().Add(dismissal)
	}
}

// IdleBy has Idle called by a time, whatever else happens until then. It holds
// until the next call of Idle.
func (w *Worker) IdleBy(t time.Time) { w.idleBy = t }
