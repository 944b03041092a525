package worker

import (
	"testing"
	"time"
)

// A turncoat is a listener whose child hands over to a successor as soon as it
// says something.
type turncoat struct {
	next *fakeProcess
	proc *struct{ *fakeProcess }
}

func (l *turncoat) Output(*Handle, int, []byte) { l.proc.fakeProcess = l.next }
func (l *turncoat) TimedOut(*Handle, Limit)     {}

// bothAtOnce is a system that reports a process's end before its output.
type bothAtOnce struct {
	*fakeSystem
	first []int
}

func (s *bothAtOnce) Wait(d time.Duration, ready []int) ([]int, error) {
	if s.first != nil {
		ready = append(ready, s.first...)
		s.first = nil
		return ready, nil
	}
	return s.fakeSystem.Wait(d, ready)
}

// TestSuccessorOutlivesItsPredecessorsEnd has a process end in the same moment
// as its last words name a successor: only the first has ended.
func TestSuccessorOutlivesItsPredecessorsEnd(t *testing.T) {
	sys := &bothAtOnce{fakeSystem: newFakeSystem()}
	w, err := New(Options{System: sys, Now: func() time.Time { return sys.now }, PollInterval: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	first := sys.start(0, []string{"the next is my heir"})
	heir := sys.start(time.Minute, nil)
	p := &struct{ *fakeProcess }{first}
	h, err := w.WatchFor(&turncoat{next: heir, proc: p}, Child{Proc: p, FDs: first.fds()})
	if err != nil {
		t.Fatal(err)
	}
	sys.first = []int{first.pidfd, first.out}
	if err := w.poll(); err != nil {
		t.Fatal(err)
	}
	if heir.killed || h.Exited() {
		t.Fatalf("the successor was taken for the one that ended: killed %v, exited %v", heir.killed, h.Exited())
	}
	for !h.Exited() {
		if err := w.poll(); err != nil {
			t.Fatal(err)
		}
	}
	if heir.killed {
		t.Error("the successor was killed")
	}
}
