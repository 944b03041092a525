package goal

import (
	"errors"
	"slices"
	"time"

	"gobuild/internal/activity"
	"gobuild/internal/hook"
	"gobuild/internal/worker"
)

// An asker asks the build hook whether it takes builds. Goals that may be built
// elsewhere queue up here, without locks and without a slot, and get their turn
// when an answer may be of use: when a slot is free, so that the answer decides
// where to build, and otherwise now and then, for the hook may have room while
// we have none. What is asked never depends on how many wait.
type asker struct {
	eng      *Engine
	program  *hook.Program // nil: there is none, or it never accepts
	protocol hook.Protocol // of the hooks that there were
	classes  []*class      // whoever had a turn goes to the end
	idle     []*hookProcess
	thinking int  // processes that are in some goal's turn
	willing  int  // turns that promise the hook a free slot
	builds   int  // accepted ones that go on
	accepted bool // ever
	deaths   int  // of hooks that said nothing useful, in a row
}

// A class is a kind of build between which a hook makes no difference: when it
// has no machine for one, it has none for the others. They are asked about in
// rounds. A round ends when a build elsewhere does, for a machine may be free
// then, or after a while.
type class struct {
	platform string
	features []string
	queues   [3][]*Derivation // by what has been answered in this round; those that have left are skipped
	tries    [2]int           // answers in vain that are left in this round, without a slot and with one
	end      time.Time        // of this round; zero before the first answer in vain
}

// The queues of a class. Whoever has asked without a slot may ask once more
// with one.
const (
	fresh = iota
	askedWithout
	askedWith
)

const (
	// maxThinking is how many hooks think at once: a hook may need seconds to
	// reach a machine. Until one has accepted, a second would only say the same.
	maxThinking = 4
	// maxTries keeps thousands who wait from asking in each round. It is more
	// than one because a hook may care for more than platforms and features.
	maxTries = 8
	// maxHookDeaths is how often a hook may die before it is given up.
	maxHookDeaths = 3
)

// A turn is a goal's right to ask a process. It begins with the goal's wake-up
// and ends with the process's answer.
type turn struct {
	process *hookProcess
	willing bool // a slot is free for the build
	asked   bool
}

func newAsker(e *Engine) *asker {
	a := &asker{eng: e, program: e.opt.BuildHook}
	if a.program != nil {
		a.protocol = a.program.Protocol
	}
	return a
}

// class finds a goal's class.
func (a *asker) class(d *Derivation) *class {
	o := d.outline
	i := slices.IndexFunc(a.classes, func(c *class) bool {
		return c.platform == o.Platform && slices.Equal(c.features, o.RequiredSystemFeatures)
	})
	if i < 0 {
		i = len(a.classes)
		c := &class{platform: o.Platform, features: o.RequiredSystemFeatures}
		c.newRound()
		a.classes = append(a.classes, c)
	}
	return a.classes[i]
}

// join queues a goal up; it is to wait for a Signal.
func (a *asker) join(d *Derivation) { a.class(d).add(d, fresh) }

func (c *class) add(d *Derivation, queue int) {
	d.queued = c
	c.queues[queue] = append(c.queues[queue], d)
}

// first is who is to ask next; nil: nobody.
func (c *class) first(willing bool) *Derivation {
	if willing {
		if d := c.head(askedWithout); d != nil {
			return d
		}
	}
	return c.head(fresh)
}

func (c *class) head(queue int) *Derivation {
	q := &c.queues[queue]
	for len(*q) > 0 {
		if d := (*q)[0]; d.queued == c {
			return d
		}
		c.pop((*q)[0])
	}
	return nil
}

// pop takes out the head of whichever queue has it there.
func (c *class) pop(d *Derivation) {
	for i, q := range c.queues {
		if len(q) > 0 && q[0] == d {
			c.queues[i] = q[1:]
			q[0] = nil // the array outlives the goals
		}
	}
}

// waits tells whether anybody does.
func (c *class) waits() bool {
	return c.head(fresh) != nil || c.head(askedWithout) != nil || c.head(askedWith) != nil
}

func (c *class) newRound() {
	c.queues = [3][]*Derivation{fresh: slices.Concat(c.queues[fresh], c.queues[askedWithout], c.queues[askedWith])}
	c.tries, c.end = [2]int{maxTries, maxTries}, time.Time{}
}

// rejoin queues a goal up again after an answer that was of no use.
func (a *asker) rejoin(d *Derivation, willing bool) {
	c := a.class(d)
	c.add(d, askedWithout+index(willing))
	c.tries[index(willing)]--
	if c.end.IsZero() {
		c.end = a.eng.opt.Now().Add(a.eng.opt.PollInterval)
	}
}

func index(willing bool) int {
	if willing {
		return 1
	}
	return 0
}

// pump gives turns to goals. It is called whenever the loop is about to sleep.
func (a *asker) pump() {
	for len(a.classes) > 0 {
		if a.program == nil {
			a.dismissAll()
			return
		}
		if !a.giveTurn() {
			break
		}
	}
	a.rouse()
}

// giveTurn lets one goal ask, if there is one for which that makes sense.
func (a *asker) giveTurn() bool {
	limit := maxThinking
	if !a.accepted {
		limit = 1
	}
	if a.thinking >= limit {
		return false
	}
	e := a.eng
	willing := e.w.SlotsUsed(worker.BuildSlot)+a.willing < e.opt.MaxJobs
	for i, c := range a.classes {
		if !c.end.IsZero() && !e.opt.Now().Before(c.end) {
			c.newRound()
		}
		d := c.first(willing)
		if d == nil || c.tries[index(willing)] <= 0 {
			continue
		}
		process, err := a.process()
		if err != nil {
			e.message(activity.Error, "error: %v", err)
			a.program = nil
			return true
		}
		c.pop(d)
		a.classes = append(slices.Delete(a.classes, i, i+1), c)
		d.queued, d.turn = nil, &turn{process: process, willing: willing}
		process.goal = d
		a.thinking++
		if willing {
			a.willing++
		}
		e.w.Wake(d)
		return true
	}
	return false
}

// process is a hook that can be asked.
func (a *asker) process() (*hookProcess, error) {
	if n := len(a.idle); n > 0 {
		p := a.idle[n-1]
		a.idle = a.idle[:n-1]
		return p, nil
	}
	return a.start()
}

// rouse has the loop come back for the next round, whatever happens until then.
func (a *asker) rouse() {
	var next time.Time
	for _, c := range a.classes {
		if !c.end.IsZero() && c.waits() && (next.IsZero() || c.end.Before(next)) {
			next = c.end
		}
	}
	if !next.IsZero() {
		a.eng.w.IdleBy(next)
	}
}

// reopen makes asking sensible again for all: a machine may have become free.
func (a *asker) reopen() {
	for _, c := range a.classes {
		c.newRound()
	}
}

// dismissAll sends all who wait to where there is no hook.
func (a *asker) dismissAll() {
	for _, c := range a.classes {
		c.newRound()
		for d := c.head(fresh); d != nil; d = c.head(fresh) {
			d.queued = nil
			a.eng.w.Wake(d)
		}
	}
	a.classes = nil
	for _, p := range a.idle {
		a.eng.w.CloseInput(p.handle)
	}
	a.idle = nil
}

// over takes a goal's turn away.
func (a *asker) over(d *Derivation) *turn {
	t := d.turn
	d.turn = nil
	a.thinking--
	if t.willing {
		a.willing--
	}
	return t
}

// hired ends the turn of a goal for which the process works now.
func (a *asker) hired(d *Derivation) {
	a.over(d)
	a.builds++
	a.accepted = true
}

// endTurn ends a goal's turn, if it has one. The process can be asked again
// unless it thinks still, has died, or waits for the goal's word to begin.
func (a *asker) endTurn(d *Derivation) {
	if d.turn == nil {
		return
	}
	t := a.over(d)
	p := t.process
	switch {
	case p.handle.Exited():
	case t.asked && (p.reply == nil || p.reply.Verdict == hook.Accept):
		p.goal = nil
		p.retire(nil)
	default:
		p.goal, p.reply = nil, nil
		a.idle = append(a.idle, p)
	}
}

// leave takes a goal out of all this.
func (a *asker) leave(d *Derivation) {
	d.queued = nil
	a.endTurn(d)
}

// died counts the deaths of hooks.
func (a *asker) died(why string) {
	e := a.eng
	e.message(activity.Error, "error: build hook died unexpectedly: %s", why)
	if a.deaths++; a.deaths >= maxHookDeaths && a.program != nil {
		e.message(activity.Error, "error: not asking the build hook '%s' any more, as it has died %d times", a.program.Path, a.deaths)
		a.program = nil
	}
}

// unable makes the error of a run in which no build could be started name what
// is to blame.
func (a *asker) unable(err error) error {
	if errors.Is(err, worker.ErrNoJobs) && a.eng.opt.BuildHook != nil {
		return errors.New("unable to start any build; remote machines may not have all required system features")
	}
	return err
}
