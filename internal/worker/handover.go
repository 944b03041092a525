package worker

import (
	"time"

	"gobuild/internal/worker/proc"
)

// HandOver gives a child that is watched for a listener to a goal: its output
// goes there from now on, and its end ends the goal's wait for Exit. The child
// is no service any more.
func (w *Worker) HandOver(h *Handle, g Goal) {
	h.listener, h.goal, h.child.Service = g, g.node(), false
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
