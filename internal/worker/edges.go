package worker

import "slices"

// finish tells the waiters of a goal how it ended.
func (w *Worker) finish(n *Node) {
	w.trace(n, "done: "+n.result.String())
	w.busy--
	for _, e := range n.waiters {
		if e.epoch == e.to.epoch && e.to.result == Busy {
			w.tell(e.to, n.result)
		}
	}
	n.waiters, n.live = nil, 0
	w.topEnded(n)
	if w.opt.Finished != nil {
		w.opt.Finished(n.self)
	}
	w.wakeAny()
}

func (w *Worker) wakeAny() {
	queue := w.any
	w.any = nil
	w.wakeParked(queue, AnyGoal)
}

// tell notes in a waiting goal that one of the goals it awaits has ended.
func (w *Worker) tell(n *Node, r Result) {
	n.left--
	switch r {
	case NoSubstituters:
		n.noSubstituters++
	case IncompleteClosure:
		n.incomplete++
	}
	if r != Success {
		n.failed++
	}
	if n.left > 0 && (r != Failed || n.keep) {
		return
	}
	w.letGo(n)
	if n.parked == Goals {
		w.wake(n)
	}
}

// letGo removes all edges from n to the goals that it awaits, and abandons
// those that nobody wants any more, with all that only they wanted. It works
// through a list and not by recursion, for chains are long.
func (w *Worker) letGo(n *Node) {
	todo := []*Node{n}
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		awaits := n.awaits
		n.awaits, n.left = nil, 0
		n.epoch++
		for _, c := range awaits {
			if c.result != Busy {
				continue
			}
			if c.live--; c.live == 0 && len(c.tops) == 0 {
				w.abandon(c)
				todo = append(todo, c)
			}
		}
	}
}

// abandon ends a goal that nobody wants; its own edges are the caller's.
func (w *Worker) abandon(n *Node) {
	n.result = Abandoned
	w.busy--
	if n.parked == Signal {
		w.signals--
	}
	w.trace(n, "abandoned")
	n.waiters = nil
	n.self.Abandon()
	if w.opt.Finished != nil {
		w.opt.Finished(n.self)
	}
	// A lock that it held is free now.
	w.wakeAny()
}

// topEnded takes an ended goal off the tops of its requests. A failure ends a
// request that does not keep going.
func (w *Worker) topEnded(n *Node) {
	for _, r := range slices.Clone(n.tops) {
		r.left--
		if r.left == 0 || (n.result == Failed && !r.KeepGoing) {
			w.Drop(r)
		}
	}
}

// Drop ends a request: its unfinished goals are abandoned unless somebody else
// wants them.
func (w *Worker) Drop(r *Request) {
	i := slices.Index(w.requests, r)
	if i < 0 {
		return
	}
	w.requests = slices.Delete(w.requests, i, i+1)
	for _, n := range r.tops {
		n.tops = slices.DeleteFunc(n.tops, func(have *Request) bool { return have == r })
		if n.result == Busy && len(n.tops) == 0 && n.live == 0 {
			w.abandon(n)
			w.letGo(n)
		}
	}
	r.tops = nil
}

func (w *Worker) abandonAll() {
	for len(w.requests) > 0 {
		w.Drop(w.requests[0])
	}
}
