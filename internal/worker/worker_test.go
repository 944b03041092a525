package worker

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// child makes a goal that needs a slot and a child that runs for d.
func (s *stage) child(name string, d time.Duration, needs ...*fakeGoal) *fakeGoal {
	g := s.goal(name, needs...)
	g.slot, g.runs = BuildSlot, d
	return g
}

func expectResult(t *testing.T, g *fakeGoal, want Result) {
	t.Helper()
	if g.Result() != want {
		t.Errorf("%s ended with %s, want %s", g.name, g.Result(), want)
	}
}

func TestTraceIsStable(t *testing.T) {
	scene := func() string {
		s := newStage(t, Options{MaxJobs: 2})
		leaf := s.child("leaf", 3*time.Second)
		b, c := s.child("b", time.Second, leaf), s.child("c", time.Second, leaf)
		a := s.child("a", 2*time.Second)
		top := s.goal("top", c, b, a)
		if err := s.run(false, top); err != nil {
			t.Fatal(err)
		}
		return s.trace.String()
	}
	want := `0s leaf: created
0s leaf: woken up
0s b: created
0s b: woken up
0s c: created
0s c: woken up
0s a: created
0s a: woken up
0s top: created
0s top: woken up
2s a: woken up
2s a: done: success
3s leaf: woken up
3s leaf: done: success
3s b: woken up
3s c: woken up
4s b: woken up
4s c: woken up
4s b: done: success
4s c: done: success
4s top: woken up
4s top: done: success
`
	for range 3 {
		if got := scene(); got != want {
			t.Fatalf("trace:\n%s\nwant:\n%s", got, want)
		}
	}
}

func TestSlotsAreNeverExceededAndAlwaysFilled(t *testing.T) {
	s := newStage(t, Options{MaxJobs: 3})
	var all []*fakeGoal
	for i := range 50 {
		all = append(all, s.child(fmt.Sprintf("g%02d", i), time.Second))
	}
	most := 0
	s.w.opt.Idle = func() error {
		most = max(most, s.w.SlotsUsed(BuildSlot))
		return nil
	}
	if err := s.run(false, s.goal("top", all...)); err != nil {
		t.Fatal(err)
	}
	if most != 3 {
		t.Errorf("up to %d children ran at once, want 3", most)
	}
	if took := s.sys.now.Sub(time.Unix(1000, 0)); took != 17*time.Second {
		t.Errorf("50 jobs of a second on 3 slots took %v, want 17s", took)
	}
}

func TestFailureEndsTheRun(t *testing.T) {
	s := newStage(t, Options{MaxJobs: 2})
	bad, slow := s.child("bad", time.Second), s.child("slow", time.Hour)
	bad.ends = Failed
	other := s.child("other", time.Hour)
	top := s.goal("top", bad, slow)
	if err := s.run(false, top, other); err != nil {
		t.Fatal(err)
	}
	expectResult(t, top, Failed)
	expectResult(t, slow, Abandoned)
	expectResult(t, other, Abandoned)
	if !slow.released || !other.released {
		t.Error("an abandoned goal did not give back what it held")
	}
	if s.sys.now.Sub(time.Unix(1000, 0)) != time.Second {
		t.Error("the run went on after the failure")
	}
}

func TestKeepGoing(t *testing.T) {
	s := newStage(t, Options{MaxJobs: 1})
	bad, good := s.child("bad", time.Second), s.child("good", time.Second)
	bad.ends = Failed
	top, other := s.goal("top", bad, good), s.child("other", time.Second)
	if err := s.run(true, top, other); err != nil {
		t.Fatal(err)
	}
	expectResult(t, top, Failed)
	expectResult(t, good, Success)
	expectResult(t, other, Success)
	if top.Failed() != 1 {
		t.Errorf("top counts %d failures, want 1", top.Failed())
	}
}

// TestSharedGoalSurvives: a goal that somebody else still wants goes on when
// one of its waiters gives up.
func TestSharedGoalSurvives(t *testing.T) {
	s := newStage(t, Options{MaxJobs: 3})
	shared, bad := s.child("shared", 5*time.Second), s.child("bad", time.Second)
	bad.ends = Failed
	one, two := s.goal("one", bad, shared), s.goal("two", shared)
	s.w.Add(&Request{}, one)
	s.w.Add(&Request{}, two)
	if err := s.w.Run(); err != nil {
		t.Fatal(err)
	}
	expectResult(t, one, Failed)
	expectResult(t, shared, Success)
	expectResult(t, two, Success)
}

func TestResultsThatDoNotShortCircuit(t *testing.T) {
	s := newStage(t, Options{MaxJobs: 2})
	none, part, slow := s.goal("none"), s.goal("part"), s.child("slow", time.Second)
	none.ends, part.ends = NoSubstituters, IncompleteClosure
	none.first, part.first = Yield, Yield // top must be waiting when they end
	top := s.goal("top", none, part, slow)
	if err := s.run(false, top); err != nil {
		t.Fatal(err)
	}
	expectResult(t, slow, Success)
	if top.Failed() != 2 || top.WithoutSubstituters() != 1 || top.Incomplete() != 1 {
		t.Errorf("counts: %d failed, %d without substituters, %d incomplete", top.Failed(), top.WithoutSubstituters(), top.Incomplete())
	}
}

func TestTimeLimits(t *testing.T) {
	s := newStage(t, Options{MaxJobs: 3})
	silent, long, fine := s.child("silent", time.Hour), s.child("long", time.Hour), s.child("fine", 6*time.Second)
	silent.limits.Silence = 2 * time.Second
	silent.says = []string{"hello"}
	long.limits.Total = 7 * time.Second
	fine.limits = Limits{Silence: 7 * time.Second, Total: 7 * time.Second}
	if err := s.run(true, silent, long, fine); err != nil {
		t.Fatal(err)
	}
	if len(silent.broke) != 1 || !silent.broke[0].Silent || silent.broke[0].After != 2*time.Second {
		t.Errorf("silent child: %v", silent.broke)
	}
	if len(long.broke) != 1 || long.broke[0].Silent || long.broke[0].After != 7*time.Second {
		t.Errorf("long child: %v", long.broke)
	}
	if len(fine.broke) != 0 {
		t.Errorf("fine child: %v", fine.broke)
	}
	if got := strings.Join(silent.heard, ""); got != "hello" {
		t.Errorf("heard %q", got)
	}
	if took := s.sys.now.Sub(time.Unix(1000, 0)); took != 7*time.Second {
		t.Errorf("the run took %v, want 7s", took)
	}
}

func TestAWhileAndAnyGoal(t *testing.T) {
	s := newStage(t, Options{MaxJobs: 1, PollInterval: 5 * time.Second})
	spells := 0
	s.w.opt.Waiting = func() { spells++ }
	locked, sleeper := s.goal("locked"), s.goal("sleeper")
	locked.first, sleeper.first = AWhile, AnyGoal
	quick := s.child("quick", time.Second)
	if err := s.run(false, locked, sleeper, quick); err != nil {
		t.Fatal(err)
	}
	want := []string{"1s sleeper: woken up", "5s locked: woken up"}
	for _, line := range want {
		if !strings.Contains(s.trace.String(), line+"\n") {
			t.Errorf("trace lacks %q:\n%s", line, s.trace.String())
		}
	}
	if spells != 1 {
		t.Errorf("%d spells of waiting were reported, want 1", spells)
	}
}

func TestStuck(t *testing.T) {
	s := newStage(t, Options{MaxJobs: 0})
	err := s.run(false, s.child("build", time.Second))
	if !errors.Is(err, ErrNoJobs) {
		t.Errorf("with no slots: %v", err)
	}
	s = newStage(t, Options{MaxJobs: 1})
	g := s.goal("lost")
	g.first = Signal
	if err := s.run(false, g); err == nil || !strings.Contains(err.Error(), "lost waits for signal") {
		t.Errorf("a goal that waits for nothing: %v", err)
	}
	if !g.released {
		t.Error("the goal was not abandoned")
	}
}

func TestInterrupt(t *testing.T) {
	s := newStage(t, Options{MaxJobs: 1})
	g := s.child("build", time.Hour)
	s.w.opt.Interrupted = func() error {
		if s.sys.polls > 1 {
			return ErrInterrupted
		}
		return nil
	}
	if err := s.run(false, g); !errors.Is(err, ErrInterrupted) {
		t.Errorf("got %v", err)
	}
	expectResult(t, g, Abandoned)
	if !g.released || len(s.w.handles) != 0 {
		t.Error("the child was not killed and waited for")
	}
}

func TestLingeringChildIsWaitedFor(t *testing.T) {
	s := newStage(t, Options{MaxJobs: 1})
	g := s.goal("top")
	p := s.sys.start(3*time.Second, nil)
	if _, err := s.w.WatchFor(g, Child{Proc: p, Linger: true}); err != nil {
		t.Fatal(err)
	}
	if err := s.run(false, g); err != nil {
		t.Fatal(err)
	}
	if p.killed || s.sys.now.Sub(time.Unix(1000, 0)) != 3*time.Second {
		t.Errorf("killed: %v, after %v", p.killed, s.sys.now.Sub(time.Unix(1000, 0)))
	}
}

// big runs a graph of n goals without children and returns the time it took.
func big(t *testing.T, graph func(s *stage, n int) *fakeGoal, n int) time.Duration {
	s := newStage(t, Options{MaxJobs: 8})
	s.quiet = true
	begin := time.Now()
	top := graph(s, n)
	if err := s.run(false, top); err != nil {
		t.Fatal(err)
	}
	expectResult(t, top, Success)
	return time.Since(begin)
}

func chain(s *stage, n int) *fakeGoal {
	g := s.goal("leaf")
	for i := range n {
		g = s.goal(fmt.Sprintf("g%06d", i), g)
	}
	return g
}

func fan(s *stage, n int) *fakeGoal {
	all := make([]*fakeGoal, n)
	for i := range all {
		all[i] = s.goal(fmt.Sprintf("g%06d", i))
	}
	return s.goal("top", all...)
}

// busyFan has a child for every goal.
func busyFan(s *stage, n int) *fakeGoal {
	all := make([]*fakeGoal, n)
	for i := range all {
		all[i] = s.child(fmt.Sprintf("g%06d", i), time.Second)
	}
	return s.goal("top", all...)
}

// TestLargeGraphs checks that large graphs end; how fast they do is for
// BenchmarkSchedule to say.
func TestLargeGraphs(t *testing.T) {
	for name, graph := range map[string]func(*stage, int) *fakeGoal{"chain": chain, "fan": fan, "fan of children": busyFan} {
		t.Logf("100,000 goals in a %s: %v", name, big(t, graph, 100_000))
	}
}

func BenchmarkSchedule(b *testing.B) {
	for _, g := range []struct {
		name  string
		graph func(*stage, int) *fakeGoal
	}{{"chain", chain}, {"fan", fan}, {"children", busyFan}} {
		b.Run(g.name, func(b *testing.B) {
			for range b.N {
				big(&testing.T{}, g.graph, 100_000)
			}
		})
	}
}

// TestLateFailureInABigFan: letting go of many goals costs no more than
// starting them.
func TestLateFailureInABigFan(t *testing.T) {
	s := newStage(t, Options{MaxJobs: 4})
	s.quiet = true
	var all []*fakeGoal
	for i := range 50_000 {
		all = append(all, s.child(fmt.Sprintf("g%06d", i), time.Second))
	}
	all[2].ends = Failed
	top := s.goal("top", all...)
	if err := s.run(false, top); err != nil {
		t.Fatal(err)
	}
	expectResult(t, top, Failed)
	if s.w.busy != 0 || len(s.w.handles) != 0 {
		t.Errorf("%d goals and %d children are left", s.w.busy, len(s.w.handles))
	}
}
