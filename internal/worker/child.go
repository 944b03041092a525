package worker

import (
	"slices"
	"time"

	"gobuild/internal/worker/proc"
)

// A Process is a child as the worker sees it; proc.Process is one.
type Process interface {
	// PidFD is readable when the process has ended. It may change while output
	// is delivered and in Kill, when the process turns out to have a successor.
	PidFD() int
	Pid() int
	Kill()
	// Reap collects the status without blocking and tells whether there was one.
	Reap() (proc.Status, bool, error)
	// Wait is Reap for a process that has been killed: it blocks for a moment.
	Wait() (proc.Status, error)
}

// Limits are a child's time limits; zero means none.
type Limits struct {
	Silence time.Duration // without output
	Total   time.Duration // since the start
}

// A Limit names a time limit that was broken.
type Limit struct {
	Silent bool
	After  time.Duration
}

// A Child is what to watch. The descriptors are the worker's from now on: it
// closes each at its end of file or when the process has ended.
type Child struct {
	Proc   Process
	FDs    []int // read ends that do not block
	Slot   SlotKind
	Limits Limits
	Linger bool // Run waits for it at its end instead of killing it
	// Input is the write end of a pipe that does not block, for Send; 0 is
	// none. It is the worker's from now on.
	Input int
	// Service children answer goals that wait for a Signal and live until the
	// end of Run, which closes their input and gives them a moment to end.
	Service bool
}

// A Handle is a watched child.
type Handle struct {
	listener Listener
	goal     *Node // nil for a listener that is no goal
	child    Child
	fds      []int // still open
	pidfd    int   // as registered with the poller
	started  time.Time
	last     time.Time // of the last output
	warned   bool      // TimedOut has been called
	input    feed
	exited   bool
	status   proc.Status
	buried   func(proc.Status)

	dismissed bool      // a service that was told to end
	deadline  time.Time // not zero: it is killed then
}

// Status is how the process ended; it is known once the goal's wait for Exit
// is over.
func (h *Handle) Status() proc.Status { return h.status }

// Exited tells whether the process has been reaped.
func (h *Handle) Exited() bool { return h.exited }

// Started is when the child was given to Watch.
func (h *Handle) Started() time.Time { return h.started }

// Watched tells whether a process is a child that is watched.
func (w *Worker) Watched(pid int) bool {
	return slices.ContainsFunc(w.handles, func(h *Handle) bool { return h.child.Proc.Pid() == pid })
}

// readSize is how much is read of a child's output at once.
const readSize = 256 << 10

// Watch takes over a started child for a goal. Its output goes to the goal,
// its end wakes the goal from Exit. After an error the child is dead.
func (w *Worker) Watch(g Goal, c Child) (*Handle, error) {
	return w.watch(g, g.node(), c)
}

// WatchFor is Watch for a listener that is not a goal.
func (w *Worker) WatchFor(l Listener, c Child) (*Handle, error) {
	return w.watch(l, nil, c)
}

func (w *Worker) watch(l Listener, n *Node, c Child) (*Handle, error) {
	if w.buf == nil {
		w.buf = make([]byte, readSize)
	}
	now := w.opt.Now()
	h := &Handle{listener: l, goal: n, child: c, fds: append([]int(nil), c.FDs...), pidfd: -1, started: now, last: now}
	h.input.fd = -1
	if c.Input > 0 {
		h.input.fd = c.Input
	}
	w.handles = append(w.handles, h)
	w.used[c.Slot]++
	for _, fd := range append([]int{c.Proc.PidFD()}, c.FDs...) {
		if err := w.sys.Add(fd); err != nil {
			w.end(h)
			return nil, err
		}
		w.byFD[fd] = h
	}
	h.pidfd = c.Proc.PidFD()
	return h, nil
}

// end kills a child that cannot be followed, and forgets it. Whoever wanted to
// watch it hears of that by an error, and of nothing else.
func (w *Worker) end(h *Handle) {
	for fd, of := range w.byFD {
		if of == h {
			w.sys.Remove(fd)
			delete(w.byFD, fd)
		}
	}
	proc.Close(h.fds...)
	w.closeInput(h)
	h.child.Proc.Kill()
	_, _ = h.child.Proc.Wait()
	h.exited, h.goal, h.listener = true, nil, nil
	w.forget(h)
}

// Bury kills a watched child for a goal that has been abandoned. after runs
// when the process is gone, for what must not be released earlier; it may be
// nil. The child's slot stays in use until then.
func (w *Worker) Bury(h *Handle, after func(proc.Status)) {
	w.Leave(h, after)
	w.Kill(h)
}

// Leave is Bury for a child that must finish its work: it is not killed, and
// Run waits for it.
func (w *Worker) Leave(h *Handle, after func(proc.Status)) {
	h.goal, h.listener = nil, nil
	if !h.exited {
		h.buried = after
	} else if after != nil {
		after(h.status)
	}
}

// deliver reads what there is on one descriptor, within a bound that keeps one
// loud child from starving the others.
func (w *Worker) deliver(h *Handle, fd int) error {
	for range 8 {
		n, err := w.sys.Read(fd, w.buf)
		switch {
		case err != nil:
			return err
		case n == 0: // end of file
			w.closeFD(h, fd)
			return nil
		case n < 0: // nothing more for now
			return nil
		}
		h.last = w.opt.Now()
		if err := w.hand(h, fd, n); err != nil || n < len(w.buf) {
			return err
		}
	}
	return nil
}

// hand gives n bytes of output to the listener, which may make the process
// another one: its pidfd is exchanged before the old number can be used anew.
func (w *Worker) hand(h *Handle, fd, n int) error {
	if h.listener == nil {
		return nil
	}
	h.listener.Output(h, fd, w.buf[:n])
	return w.follow(h)
}

// follow goes on to a process's successor.
func (w *Worker) follow(h *Handle) error {
	now := h.child.Proc.PidFD()
	if now == h.pidfd || h.pidfd < 0 {
		return nil
	}
	w.sys.Remove(h.pidfd)
	delete(w.byFD, h.pidfd)
	h.pidfd = now
	w.byFD[now] = h
	return w.sys.Add(now)
}

// Kill kills a watched child, whose end is then reported as any other.
func (w *Worker) Kill(h *Handle) {
	if h.exited {
		return
	}
	h.child.Proc.Kill()
	if err := w.follow(h); err != nil && w.lost == nil {
		w.lost = err
	}
}

func (w *Worker) closeFD(h *Handle, fd int) {
	for i, have := range h.fds {
		if have == fd {
			h.fds = append(h.fds[:i], h.fds[i+1:]...)
			w.sys.Remove(fd)
			delete(w.byFD, fd)
			proc.Close(fd)
			return
		}
	}
}

// ended handles a readable pidfd: what the child left in its pipes is read,
// then the status. Whoever still holds the other end of a pipe is not waited
// for: the child is what was started, and its group is killed with it.
func (w *Worker) ended(h *Handle) error {
	was := h.pidfd
	for _, fd := range append([]int(nil), h.fds...) {
		if err := w.drainFD(h, fd); err != nil {
			return err
		}
	}
	if h.pidfd != was {
		return nil // what ended has told us of its successor
	}
	h.child.Proc.Kill() // the rest of its group, while the number is still ours
	w.sys.Remove(h.pidfd)
	delete(w.byFD, h.pidfd)
	st, done, err := h.child.Proc.Reap()
	if err != nil {
		return err
	}
	if !done {
		w.byFD[h.pidfd] = h
		return w.sys.Add(h.pidfd)
	}
	for _, fd := range append([]int(nil), h.fds...) {
		if err := w.drainFD(h, fd); err != nil {
			return err
		}
		w.closeFD(h, fd)
	}
	h.exited, h.status = true, st
	w.closeInput(h)
	w.forget(h)
	return nil
}

// drainFD reads until nothing is there, within a generous bound: a process
// that outlived the child could write for ever.
func (w *Worker) drainFD(h *Handle, fd int) error {
	for range 64 {
		if w.byFD[fd] != h {
			return nil
		}
		n, err := w.sys.Read(fd, w.buf)
		switch {
		case err != nil:
			return err
		case n == 0:
			w.closeFD(h, fd)
			return nil
		case n < 0:
			return nil
		}
		if err := w.hand(h, fd, n); err != nil {
			return err
		}
	}
	return nil
}

// forget drops an ended child and tells whoever waited for its end.
func (w *Worker) forget(h *Handle) {
	w.used[h.child.Slot]--
	for i, have := range w.handles {
		if have == h {
			w.handles = slices.Delete(w.handles, i, i+1)
			break
		}
	}
	if h.buried != nil {
		h.buried(h.status)
		w.wakeAny() // a lock may be free now
	}
	if h.goal != nil && h.goal.parked == Exit {
		w.wake(h.goal)
	}
	if l, ok := h.listener.(Ender); ok {
		l.Ended(h)
	}
}
