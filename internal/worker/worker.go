package worker

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ErrNoJobs is wrapped by Run's error when goals wait for a slot and there
// will never be one.
var ErrNoJobs = errors.New("unable to start any build; either increase '--max-jobs' or enable remote builds")

// ErrInterrupted is for Options.Interrupted to return.
var ErrInterrupted = errors.New("interrupted by the user")

// Options are what a worker needs from outside.
type Options struct {
	MaxJobs          int           // build slots; 0 starts no local build
	MaxSubstitutions int           // substitution slots; at least 1 is used
	PollInterval     time.Duration // how long AWhile waits
	System           System        // the operating system; nil is the real one
	Now              func() time.Time
	Interrupted      func() error               // asked often; an error ends Run
	Finished         func(Goal)                 // called once for each goal that ended or was abandoned
	Idle             func() error               // called when no goal is awake, before the loop sleeps and at its end; may wake goals
	Stuck            func() bool                // called when no goal can ever go on; true after a Release, which changes that
	Waiting          func()                     // called when a spell of polling for locks begins
	Trace            func(g Goal, event string) // nil is silent
}

// A Worker is the loop. Make it with New; Close it.
type Worker struct {
	opt    Options
	sys    System
	awake  []*Node
	batch  []*Node
	slots  [slotKinds][]*Node // parked for a slot, first come first served
	used   [slotKinds]int
	any    []*Node
	while  []*Node
	wakeAt time.Time // when those in while are woken; zero when there is none
	idleBy time.Time // when Idle must be called; zero when it need not be

	handles  []*Handle
	byFD     map[int]*Handle
	ready    []int
	events   []event
	buf      []byte
	requests []*Request
	busy     int   // goals that have not ended, for reports
	signals  int   // goals parked for a signal
	lost     error // a child can no longer be followed
}

// A Request is a set of top goals with its own policy on failure.
type Request struct {
	KeepGoing bool
	tops      []*Node
	left      int
}

// New makes a worker.
func New(opt Options) (*Worker, error) {
	w := &Worker{opt: opt, sys: opt.System, byFD: map[int]*Handle{}}
	if opt.MaxSubstitutions < 1 {
		w.opt.MaxSubstitutions = 1
	}
	if opt.Now == nil {
		w.opt.Now = time.Now
	}
	if w.sys == nil {
		var err error
		if w.sys, err = newEpoll(); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// Close releases the poller. No child may be left.
func (w *Worker) Close() error { return w.sys.Close() }

// Adopt makes g a goal of this worker and wakes it. kind says which pool it
// means when it waits for a slot.
func (w *Worker) Adopt(g Goal, kind SlotKind) {
	n := g.node()
	n.self, n.kind = g, kind
	w.busy++
	w.trace(n, "created")
	w.wake(n)
}

// Add puts goals at the top of a request. A goal may be in several.
func (w *Worker) Add(r *Request, goals ...Goal) {
	if !slices.Contains(w.requests, r) {
		w.requests = append(w.requests, r)
	}
	for _, g := range goals {
		n := g.node()
		if slices.Contains(n.tops, r) {
			continue
		}
		n.tops = append(n.tops, r)
		n.keep = n.keep || r.KeepGoing
		r.tops = append(r.tops, n)
		r.left++
	}
}

// Await makes parent wait for child, which must be busy.
func (w *Worker) Await(parent, child Goal) {
	p, c := parent.node(), child.node()
	if c.result != Busy {
		panic("worker: Await on the finished goal " + child.Name())
	}
	c.waiters = append(c.waiters, edge{p, p.epoch})
	c.live++
	c.keep = c.keep || p.keep
	p.awaits = append(p.awaits, c)
	p.left++
}

// Wake ends a goal's wait for a signal; it does nothing to goals that wait for
// something else.
func (w *Worker) Wake(g Goal) {
	if n := g.node(); n.parked == Signal {
		w.wake(n)
	}
}

// Release ends a goal's wait for other goals, which it then does not await any
// more, and tells whether it waited for any. It is for goals that wait for each
// other.
func (w *Worker) Release(g Goal) bool {
	n := g.node()
	if n.parked != Goals || n.result != Busy {
		return false
	}
	w.letGo(n)
	w.wake(n)
	return true
}

// SlotFree tells whether a child of that kind may start now.
func (w *Worker) SlotFree(kind SlotKind) bool { return w.used[kind] < w.limit(kind) }

// SlotsUsed is the number of children that hold a slot of that kind.
func (w *Worker) SlotsUsed(kind SlotKind) int { return w.used[kind] }

func (w *Worker) limit(kind SlotKind) int {
	if kind == SubstitutionSlot {
		return w.opt.MaxSubstitutions
	}
	return w.opt.MaxJobs
}

// Run works until every top goal of every request has ended, then until the
// children that were abandoned are gone. On an error it abandons everything
// first.
func (w *Worker) Run() error {
	err := w.loop()
	if err != nil {
		w.abandonAll()
	}
	return errors.Join(err, w.drain())
}

func (w *Worker) loop() error {
	for w.unfinished() {
		if err := w.interrupted(); err != nil {
			return err
		}
		if err := w.turn(); err != nil {
			return err
		}
		if !w.unfinished() {
			break
		}
		if w.refill(); len(w.awake) > 0 {
			continue
		}
		if err := w.idle(); err != nil {
			return err
		}
		if len(w.awake) > 0 {
			continue
		}
		if len(w.while) == 0 && !w.somethingRuns() {
			if w.opt.Stuck != nil && w.opt.Stuck() {
				continue
			}
			return w.stuck()
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

// somethingRuns tells whether the end or the answer of a child can still change
// anything: services count only while somebody waits for an answer.
func (w *Worker) somethingRuns() bool {
	if !w.idleBy.IsZero() {
		return true
	}
	for _, h := range w.handles {
		if !h.child.Service || w.signals > 0 {
			return true
		}
	}
	return false
}

// idle does what can wait until everything that can run is running.
func (w *Worker) idle() error {
	w.idleBy = time.Time{}
	if w.opt.Idle == nil {
		return nil
	}
	return w.opt.Idle()
}

func (w *Worker) unfinished() bool { return len(w.requests) > 0 }

func (w *Worker) interrupted() error {
	if w.opt.Interrupted == nil {
		return nil
	}
	return w.opt.Interrupted()
}

// turn runs everyone who is awake, batch by batch, until nobody is.
func (w *Worker) turn() error {
	for len(w.awake) > 0 && w.unfinished() {
		w.batch, w.awake = w.awake, w.batch[:0]
		slices.SortFunc(w.batch, func(a, b *Node) int { return a.self.Key().Compare(b.self.Key()) })
		for i, n := range w.batch {
			if i%64 == 63 {
				if err := w.interrupted(); err != nil {
					return err
				}
			}
			if err := w.step(n); err != nil {
				return err
			}
			if !w.unfinished() {
				break
			}
		}
		clear(w.batch)
	}
	return nil
}

func (w *Worker) step(n *Node) error {
	n.awake = false
	for n.result == Busy {
		wait, err := n.self.Step()
		if err != nil {
			return err
		}
		if wait == Goals && n.left == 0 {
			wait = Now
		}
		if wait != Now {
			w.park(n, wait)
			break
		}
	}
	return nil
}

// park is the only place where a goal starts to wait.
func (w *Worker) park(n *Node, wait Wait) {
	n.parked = wait
	switch wait {
	case Signal:
		w.signals++
	case Yield:
		w.wake(n)
	case Slot:
		w.slots[n.kind] = append(w.slots[n.kind], n)
	case AnyGoal:
		w.any = append(w.any, n)
	case AWhile:
		if len(w.while) == 0 && w.opt.Waiting != nil && w.wakeAt.IsZero() {
			w.opt.Waiting()
		}
		if w.wakeAt.IsZero() {
			w.wakeAt = w.opt.Now().Add(w.opt.PollInterval)
		}
		w.while = append(w.while, n)
	case Done:
		w.finish(n)
	}
}

func (w *Worker) wake(n *Node) {
	if n.awake || n.result != Busy {
		return
	}
	if n.parked == Signal {
		w.signals--
	}
	n.awake, n.parked = true, Now
	w.trace(n, "woken up")
	w.awake = append(w.awake, n)
}

// wakeParked wakes those of a queue that still wait for what the queue is for.
func (w *Worker) wakeParked(queue []*Node, wait Wait) {
	for _, n := range queue {
		if n.parked == wait && n.result == Busy {
			w.wake(n)
		}
	}
}

// refill wakes as many slot waiters as there are free slots. A woken goal that
// does not need its slot after all costs nothing: the next call wakes another.
func (w *Worker) refill() {
	for kind := range w.slots {
		free := w.limit(SlotKind(kind)) - w.used[kind]
		queue := w.slots[kind]
		i := 0
		for ; i < len(queue) && free > 0; i++ {
			if n := queue[i]; n.parked == Slot && n.result == Busy {
				w.wake(n)
				free--
			}
			queue[i] = nil // the array outlives the goals
		}
		w.slots[kind] = queue[i:]
	}
}

func (w *Worker) trace(n *Node, event string) {
	if w.opt.Trace != nil {
		w.opt.Trace(n.self, event)
	}
}

// stuck says why nothing can ever happen again.
func (w *Worker) stuck() error {
	if w.opt.MaxJobs == 0 {
		for _, n := range w.slots[BuildSlot] {
			if n.result == Busy {
				return ErrNoJobs
			}
		}
	}
	var b strings.Builder
	for _, r := range w.requests {
		for _, n := range r.tops {
			if n.result == Busy {
				fmt.Fprintf(&b, "; %s waits for %s", n.self.Name(), n.parked)
			}
		}
	}
	return fmt.Errorf("no goal can go on%s", b.String())
}
