package worker

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gobuild/internal/worker/proc"
)

// A fakeGoal follows a script: what it awaits, whether it needs a slot and a
// child, and how it ends.
type fakeGoal struct {
	Node
	w        *Worker
	sys      *fakeSystem
	name     string
	needs    []*fakeGoal
	slot     SlotKind
	runs     time.Duration // of the child; 0: none
	says     []string      // output of the child
	limits   Limits
	ends     Result
	first    Wait // a wait before everything else
	state    int
	handle   *Handle
	heard    []string
	broke    []Limit
	released bool
}

func (g *fakeGoal) Name() string { return g.name }
func (g *fakeGoal) Key() Key     { return Key{Class: 'f', Name: g.name} }

func (g *fakeGoal) Step() (Wait, error) {
	for {
		g.state++
		switch g.state {
		case 1:
			if g.first != Now {
				return g.first, nil
			}
		case 2:
			for _, n := range g.needs {
				if n.Result() == Busy {
					g.w.Await(g, n)
				}
			}
			if len(g.needs) > 0 {
				return Goals, nil
			}
		case 3:
			if g.Failed() > 0 {
				return g.End(Failed), nil
			}
			if g.slot != NoSlot && !g.w.SlotFree(g.slot) {
				g.state--
				return Slot, nil
			}
			if g.runs > 0 {
				return Exit, g.start()
			}
		default:
			return g.End(g.ends), nil
		}
	}
}

func (g *fakeGoal) start() (err error) {
	p := g.sys.start(g.runs, g.says)
	g.handle, err = g.w.Watch(g, Child{Proc: p, FDs: p.fds(), Slot: g.slot, Limits: g.limits})
	return err
}

func (g *fakeGoal) Output(_ *Handle, _ int, data []byte) { g.heard = append(g.heard, string(data)) }

func (g *fakeGoal) TimedOut(h *Handle, l Limit) {
	g.broke = append(g.broke, l)
	h.child.Proc.Kill()
}

func (g *fakeGoal) Abandon() {
	if g.handle != nil && !g.handle.Exited() {
		g.w.Bury(g.handle, func(proc.Status) { g.released = true })
		return
	}
	g.released = true
}

// A fakeSystem has a clock that jumps to whatever happens next.
type fakeSystem struct {
	now    time.Time
	nextFD int
	procs  []*fakeProcess
	reads  map[int]*[]string
	polls  int

	refuses int // a descriptor that cannot be polled; 0: none
}

var errFull = errors.New("no room for another descriptor")

func newFakeSystem() *fakeSystem {
	// Descriptors far above real ones: the worker closes what it is given.
	return &fakeSystem{now: time.Unix(1000, 0), nextFD: 1 << 20, reads: map[int]*[]string{}}
}

type fakeProcess struct {
	sys    *fakeSystem
	pidfd  int
	out    int // -1: none
	ends   time.Time
	killed bool
}

func (s *fakeSystem) start(d time.Duration, says []string) *fakeProcess {
	p := &fakeProcess{sys: s, pidfd: s.nextFD, out: -1, ends: s.now.Add(d)}
	s.nextFD++
	if says != nil {
		p.out = s.nextFD
		lines := slices.Clone(says)
		s.reads[p.out] = &lines
		s.nextFD++
	}
	s.procs = append(s.procs, p)
	return p
}

func (p *fakeProcess) fds() []int {
	if p.out < 0 {
		return nil
	}
	return []int{p.out}
}

func (p *fakeProcess) PidFD() int { return p.pidfd }
func (p *fakeProcess) Pid() int   { return p.pidfd }

func (p *fakeProcess) Kill() {
	if p.ends.After(p.sys.now) {
		p.ends, p.killed = p.sys.now, true
	}
}

func (p *fakeProcess) Reap() (proc.Status, bool, error) { return proc.Status{}, true, nil }

func (p *fakeProcess) Wait() (proc.Status, error) {
	p.sys.Remove(p.pidfd)
	return proc.Status{}, nil
}

func (s *fakeSystem) Add(fd int) error {
	if fd == s.refuses {
		return errFull
	}
	return nil
}

func (s *fakeSystem) AddWriter(int) error                   { return nil }
func (s *fakeSystem) Write(_ int, data []byte) (int, error) { return len(data), nil }

func (s *fakeSystem) Remove(fd int) {
	s.procs = slices.DeleteFunc(s.procs, func(p *fakeProcess) bool { return p.pidfd == fd })
}
func (s *fakeSystem) Close() error { return nil }

func (s *fakeSystem) Wait(d time.Duration, ready []int) ([]int, error) {
	s.polls++
	until := s.now.Add(d)
	for _, p := range s.procs {
		if p.out >= 0 && len(*s.reads[p.out]) > 0 {
			ready = append(ready, p.out)
		}
		if p.ends.Before(until) {
			until = p.ends
		}
	}
	if len(ready) > 0 {
		return ready, nil
	}
	if until.After(s.now) {
		s.now = until
	}
	for _, p := range s.procs {
		if !p.ends.After(s.now) {
			ready = append(ready, p.pidfd)
		}
	}
	return ready, nil
}

func (s *fakeSystem) Read(fd int, buf []byte) (int, error) {
	lines := s.reads[fd]
	if len(*lines) == 0 {
		return -1, nil
	}
	n := copy(buf, (*lines)[0])
	*lines = (*lines)[1:]
	return n, nil
}

// A stage is a worker on a fake system that keeps a trace.
type stage struct {
	*testing.T
	w     *Worker
	sys   *fakeSystem
	trace strings.Builder
	quiet bool
}

func newStage(t *testing.T, opt Options) *stage {
	s := &stage{T: t, sys: newFakeSystem()}
	opt.System, opt.Now = s.sys, func() time.Time { return s.sys.now }
	if opt.PollInterval == 0 {
		opt.PollInterval = 5 * time.Second
	}
	opt.Trace = func(g Goal, event string) {
		if !s.quiet {
			fmt.Fprintf(&s.trace, "%v %s: %s\n", s.sys.now.Sub(time.Unix(1000, 0)), g.Name(), event)
		}
	}
	w, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	s.w = w
	return s
}

func (s *stage) goal(name string, needs ...*fakeGoal) *fakeGoal {
	g := &fakeGoal{w: s.w, sys: s.sys, name: name, needs: needs, ends: Success}
	s.w.Adopt(g, BuildSlot)
	return g
}

func (s *stage) run(keepGoing bool, tops ...*fakeGoal) error {
	r := &Request{KeepGoing: keepGoing}
	for _, g := range tops {
		s.w.Add(r, g)
	}
	return s.w.Run()
}
