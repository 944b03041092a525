package worker

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/worker/proc"
)

// heir is a goal that takes over a service and waits for its end.
type heir struct {
	Node
	w      *Worker
	handle *Handle
	more   []int
	heard  strings.Builder
	steps  int
}

func (g *heir) Name() string                         { return "heir" }
func (g *heir) Key() Key                             { return Key{Name: "heir"} }
func (g *heir) Abandon()                             {}
func (g *heir) TimedOut(*Handle, Limit)              {}
func (g *heir) Output(_ *Handle, _ int, data []byte) { g.heard.Write(data) }

func (g *heir) Step() (Wait, error) {
	if g.steps++; g.steps == 1 {
		if err := g.w.HandOver(g.handle, g, g.more...); err != nil {
			return Done, err
		}
		if g.handle.Exited() {
			return g.End(Success), nil
		}
		g.w.Send(g.handle, []byte("work\n"))
		g.w.CloseInput(g.handle)
		return Exit, nil
	}
	return g.End(Success), nil
}

// TestHandOver has a goal take over a child that was asked before.
func TestHandOver(t *testing.T) {
	w := realWorker(t)
	c := &clerk{}
	h := service(t, w, c, "while read line; do echo $line; done; exit 4")
	w.Send(h, []byte("question\n"))
	if err := w.Pump(func() bool { return c.heard.Len() > 0 }); err != nil {
		t.Fatal(err)
	}
	g := &heir{w: w, handle: h}
	w.Adopt(g, NoSlot)
	w.Add(&Request{}, g)
	if err := w.Run(); err != nil {
		t.Fatal(err)
	}
	if c.heard.String() != "question\n" || g.heard.String() != "work\n" || c.ended != 0 {
		t.Errorf("the listener heard %q and %d ends, the goal %q", &c.heard, c.ended, &g.heard)
	}
	if got := h.Status().Wait.ExitStatus(); got != 4 || g.Result() != Success {
		t.Errorf("exit status %d, result %s", got, g.Result())
	}
}

// TestHandOverMore has the goal hear of a pipe that the listener did not, from
// a child that lives and from one that does not.
func TestHandOverMore(t *testing.T) {
	for _, lives := range []bool{true, false} {
		w := realWorker(t)
		pipe, err := proc.NewPipe()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Write(pipe.W, []byte("kept in the pipe\n")); err != nil {
			t.Fatal(err)
		}
		proc.Close(pipe.W)
		c := &clerk{}
		script, want := "cat", "kept in the pipe\nwork\n"
		if !lives {
			script, want = "exit 0", "kept in the pipe\n"
		}
		h := service(t, w, c, script)
		if err := w.Pump(func() bool { return lives || c.ended > 0 }); err != nil {
			t.Fatal(err)
		}
		g := &heir{w: w, handle: h, more: []int{pipe.R}}
		w.Adopt(g, NoSlot)
		w.Add(&Request{}, g)
		if err := w.Run(); err != nil {
			t.Fatal(err)
		}
		if got := g.heard.String(); got != want && got != "work\nkept in the pipe\n" {
			t.Errorf("lives %v: heard %q", lives, got)
		}
	}
}

// TestRetire wants a child that ends when told to, and the death of one that
// does not.
func TestRetire(t *testing.T) {
	for script, want := range map[string]int{"cat; exit 5": 5, "trap '' HUP; cat; sleep 1000": -1} {
		w := realWorker(t)
		var status *proc.Status
		h := service(t, w, &clerk{}, script)
		begin := time.Now()
		w.Retire(h, func(st proc.Status) { status = &st })
		if err := w.Pump(func() bool { return status != nil }); err != nil {
			t.Fatal(err)
		}
		if got := status.Wait.ExitStatus(); got != want {
			t.Errorf("%s: exit status %d, want %d", script, got, want)
		}
		if d := time.Since(begin); d > 30*time.Second { // and not what it sleeps
			t.Errorf("%s: it took %v", script, d)
		}
	}
}

// TestIdleBy wants the loop to go on for a time that was set, with nothing else
// to wait for, and to end as stuck without one.
func TestIdleBy(t *testing.T) {
	sys := newFakeSystem()
	var w *Worker
	var g *fakeGoal
	calls := 0
	w, err := New(Options{System: sys, Now: func() time.Time { return sys.now }, PollInterval: time.Hour, Idle: func() error {
		if calls++; calls < 3 {
			w.IdleBy(sys.now.Add(200 * time.Millisecond))
		} else {
			w.Wake(g)
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	g = &fakeGoal{w: w, sys: sys, name: "g", first: Signal, ends: Success}
	w.Adopt(g, BuildSlot)
	w.Add(&Request{}, g)
	begin := sys.now
	if err := w.Run(); err != nil {
		t.Fatal(err)
	}
	if d := sys.now.Sub(begin); d != 400*time.Millisecond {
		t.Errorf("the loop slept %v", d)
	}
}
