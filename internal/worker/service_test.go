package worker

import (
	"bytes"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/worker/proc"
)

// A clerk listens to a service and keeps what it said.
type clerk struct {
	heard bytes.Buffer
	then  func()
	ended int
}

func (c *clerk) Output(_ *Handle, _ int, data []byte) {
	c.heard.Write(data)
	if c.then != nil {
		c.then()
	}
}
func (c *clerk) TimedOut(*Handle, Limit) {}
func (c *clerk) Ended(*Handle)           { c.ended++ }

// service starts a shell script as a service on a real system.
func service(t *testing.T, w *Worker, l Listener, script string) *Handle {
	t.Helper()
	in, err := proc.NewPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := proc.NewPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(in.R, false); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(in.W, true); err != nil {
		t.Fatal(err)
	}
	p, err := proc.Start(proc.Command{
		Path: "/bin/sh", Argv: []string{"sh", "-c", script}, Files: []int{in.R, out.W, 2}, Attr: syscall.SysProcAttr{Setpgid: true}})
	if err != nil {
		t.Fatal(err)
	}
	proc.Close(in.R, out.W)
	h, err := w.WatchFor(l, Child{Proc: p, FDs: []int{out.R}, Input: in.W, Service: true})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func realWorker(t *testing.T) *Worker {
	t.Helper()
	w, err := New(Options{PollInterval: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// More than any pipe holds goes to a child and comes back from it, without a
// moment in which the loop waits for one direction only.
func TestSendMuch(t *testing.T) {
	w := realWorker(t)
	c := &clerk{}
	h := service(t, w, c, "exec cat")
	want := strings.Repeat("0123456789abcde\n", 1<<19)
	for i := 0; i < len(want); i += 1 << 20 {
		w.Send(h, []byte(want[i:i+1<<20]))
	}
	if err := w.Pump(func() bool { return c.heard.Len() >= len(want) }); err != nil {
		t.Fatal(err)
	}
	if c.heard.String() != want {
		t.Error("what came back is not what was sent")
	}
	w.CloseInput(h)
	if err := w.Pump(func() bool { return c.ended > 0 }); err != nil {
		t.Fatal(err)
	}
	if !h.Exited() || c.ended != 1 {
		t.Errorf("exited %v, told %d times", h.Exited(), c.ended)
	}
	w.Send(h, []byte("too late")) // does nothing
}

// The loop does not remember children that have ended, nor their listeners.
func TestEndedAreForgotten(t *testing.T) {
	w := realWorker(t)
	c := &clerk{}
	service(t, w, c, "echo; exit") // two events at once, more or less
	service(t, w, c, "echo; exit")
	if err := w.Pump(func() bool { return c.ended > 1 }); err != nil {
		t.Fatal(err)
	}
	for _, e := range w.events[:cap(w.events)] {
		if e.of != nil {
			t.Error("a child is kept")
		}
	}
	if len(w.byFD)+len(w.handles) > 0 {
		t.Errorf("%d descriptors and %d children are kept", len(w.byFD), len(w.handles))
	}
}

// A service that ends before its input was read is no reason to fail.
func TestSendToTheDead(t *testing.T) {
	w := realWorker(t)
	c := &clerk{}
	h := service(t, w, c, "exit 3")
	w.Send(h, bytes.Repeat([]byte("x"), 1<<20))
	if err := w.Pump(func() bool { return c.ended > 0 }); err != nil {
		t.Fatal(err)
	}
	if got := h.Status().String(); !strings.Contains(got, "3") {
		t.Errorf("status is %q", got)
	}
	if err := w.Pump(func() bool { return false }); err == nil {
		t.Error("pumping without children did not fail")
	}
}

// At the end of a run services are told to end, and killed if they do not.
func TestDismiss(t *testing.T) {
	w := realWorker(t)
	polite := service(t, w, &clerk{}, "cat >/dev/null; exit 7")
	deaf := service(t, w, &clerk{}, "exec <&-; exec sleep 1000")
	begin := time.Now()
	if err := w.Dismiss(); err != nil {
		t.Fatal(err)
	}
	if got := polite.Status().String(); !strings.Contains(got, "7") {
		t.Errorf("the service that heard of the end of its input ended with %q", got)
	}
	if !deaf.Exited() || time.Since(begin) > 30*time.Second {
		t.Error("the service that does not listen was waited for")
	}
}

// A successor of a service that is started when that ends is told to end, too.
func TestDismissSuccessor(t *testing.T) {
	w := realWorker(t)
	second := &clerk{}
	service(t, w, &restarter{w: w, t: t, next: second}, "exec cat")
	if err := w.Dismiss(); err != nil {
		t.Fatal(err)
	}
	if second.ended != 1 {
		t.Errorf("the second service has ended %d times", second.ended)
	}
}

// A restarter starts another service when its own has ended.
type restarter struct {
	clerk
	w    *Worker
	t    *testing.T
	next Listener
}

func (s *restarter) Ended(*Handle) { service(s.t, s.w, s.next, "exec cat") }

// Who cannot watch a child learns that once.
func TestEndedOnlyIfWatched(t *testing.T) {
	sys := newFakeSystem()
	w, err := New(Options{System: sys, Now: func() time.Time { return sys.now }})
	if err != nil {
		t.Fatal(err)
	}
	p := sys.start(time.Hour, []string{})
	sys.refuses = p.out
	c := &clerk{}
	if _, err := w.WatchFor(c, Child{Proc: p, FDs: p.fds(), Slot: BuildSlot}); !errors.Is(err, errFull) {
		t.Errorf("watching gave %v", err)
	}
	if c.ended != 0 || w.SlotsUsed(BuildSlot) != 0 {
		t.Errorf("told of %d ends, %d slots in use", c.ended, w.SlotsUsed(BuildSlot))
	}
}

// asker waits for the answer of a service.
type asker struct {
	fakeGoal
	ask func()
}

func (a *asker) Step() (Wait, error) {
	a.state++
	if a.state == 1 {
		a.ask()
		return Signal, nil
	}
	return a.End(Success), nil
}

func TestGoalWaitsForAnswer(t *testing.T) {
	w := realWorker(t)
	c := &clerk{}
	h := service(t, w, c, "exec cat")
	a := &asker{}
	a.name = "asker"
	a.ask = func() { w.Send(h, []byte("question")) }
	c.then = func() { w.Wake(a) }
	w.Adopt(a, BuildSlot)
	w.Add(&Request{}, a)
	if err := w.Run(); err != nil {
		t.Fatal(err)
	}
	if a.Result() != Success || c.heard.String() != "question" {
		t.Errorf("the goal ended with %v after %q", a.Result(), c.heard.String())
	}
}

// A goal that waits for a slot which will never be free is not kept waiting by
// a service that nobody has asked anything.
func TestIdleServiceIsNoHope(t *testing.T) {
	w := realWorker(t)
	service(t, w, &clerk{}, "exec cat")
	sys := newFakeSystem()
	g := &fakeGoal{w: w, sys: sys, name: "hopeless", slot: BuildSlot, ends: Success}
	w.Adopt(g, BuildSlot)
	w.Add(&Request{}, g)
	if err := w.Run(); !errors.Is(err, ErrNoJobs) {
		t.Errorf("the run ended with %v", err)
	}
}
