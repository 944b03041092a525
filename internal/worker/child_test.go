package worker

import (
	"errors"
	"testing"
	"time"

	"gobuild/internal/worker/proc"
)

// An ear is a listener that does something when its child speaks.
type ear func()

func (e ear) Output(*Handle, int, []byte) { e() }
func (e ear) TimedOut(*Handle, Limit)     {}

// TestDescriptorNumberUsedAgain has what one child says start another, whose
// descriptor gets the number of one that was ready in the same moment and has
// been closed since.
func TestDescriptorNumberUsedAgain(t *testing.T) {
	sys := &bothAtOnce{fakeSystem: newFakeSystem()}
	w, err := New(Options{System: sys, Now: func() time.Time { return sys.now }, PollInterval: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	watch := func(l Listener, p Process, fds []int) *Handle {
		h, err := w.WatchFor(l, Child{Proc: p, FDs: fds})
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	first := sys.start(0, []string{"the next is my heir"})
	follows := &struct{ *fakeProcess }{first}
	watch(&turncoat{next: sys.start(time.Minute, nil), proc: follows}, follows, first.fds())

	var young *fakeProcess
	talker := sys.start(time.Minute, []string{"let there be another"})
	watch(ear(func() {
		young = sys.start(time.Minute, nil)
		young.pidfd = first.pidfd
		watch(ear(func() {}), young, nil)
	}), talker, talker.fds())

	sys.first = []int{first.out, talker.out, first.pidfd}
	if err := w.poll(); err != nil {
		t.Fatal(err)
	}
	if young == nil || young.killed {
		t.Fatalf("the new child was taken for the one whose descriptor it has: %+v", young)
	}
}

// TestWatchThatFails wants a child that cannot be polled to be dead and
// forgotten.
func TestWatchThatFails(t *testing.T) {
	s := newStage(t, Options{MaxJobs: 1})
	for _, refused := range []string{"process", "output"} {
		p := s.sys.start(time.Hour, []string{"hello"})
		s.sys.refuses = p.out
		if refused == "process" {
			s.sys.refuses = p.pidfd
		}
		h, err := s.w.WatchFor(ear(func() {}), Child{Proc: p, FDs: p.fds(), Slot: BuildSlot})
		if h != nil || !errors.Is(err, errFull) {
			t.Errorf("watching a child whose %s cannot be polled: %v, %v", refused, h, err)
		}
		if !p.killed || s.w.SlotsUsed(BuildSlot) != 0 || len(s.w.handles) != 0 || len(s.w.byFD) != 0 {
			t.Errorf("a child whose %s cannot be polled is still there: killed %v, %d slots used", refused, p.killed, s.w.SlotsUsed(BuildSlot))
		}
	}
}

// A patient goal waits for other goals to end until something is so.
type patient struct {
	*fakeGoal
	until func() bool
}

func (g *patient) Step() (Wait, error) {
	if !g.until() {
		return AnyGoal, nil
	}
	return g.End(Success), nil
}

// TestLocksOfTheBuriedAreWaitedFor has a goal wait for what an abandoned one
// gives back only when its child is gone.
func TestLocksOfTheBuriedAreWaitedFor(t *testing.T) {
	s := newStage(t, Options{MaxJobs: 3})
	slow, bad := s.child("slow", time.Hour), s.child("bad", time.Second)
	bad.ends = Failed
	other := &patient{fakeGoal: &fakeGoal{w: s.w, sys: s.sys, name: "other"}, until: func() bool { return slow.released }}
	s.w.Adopt(other, BuildSlot)
	s.w.Add(&Request{}, slow, bad)
	s.w.Add(&Request{}, other)
	if err := s.w.Run(); err != nil {
		t.Fatal(err)
	}
	expectResult(t, slow, Abandoned)
	if other.Result() != Success {
		t.Errorf("the goal that waited ended with %s", other.Result())
	}
}

// TestLeave lets a child of an abandoned goal end by itself.
func TestLeave(t *testing.T) {
	s := newStage(t, Options{MaxJobs: 1})
	p := s.sys.start(3*time.Second, nil)
	h, err := s.w.WatchFor(ear(func() {}), Child{Proc: p})
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	s.w.Leave(h, func(proc.Status) { calls++ })
	if calls != 0 {
		t.Error("the child was taken for dead at once")
	}
	if err := s.w.Run(); err != nil {
		t.Fatal(err)
	}
	if calls != 1 || p.killed || s.sys.now.Sub(time.Unix(1000, 0)) != 3*time.Second {
		t.Errorf("called %d times, killed %v, after %v", calls, p.killed, s.sys.now.Sub(time.Unix(1000, 0)))
	}
	s.w.Leave(h, func(proc.Status) { calls++ })
	if calls != 2 {
		t.Error("nothing was said of a child that has ended")
	}
}
