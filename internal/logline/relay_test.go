package logline

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"gobuild/internal/activity"
)

// sink notes the calls it gets.
type sink struct{ calls []string }

func (s *sink) note(format string, args ...any) {
	s.calls = append(s.calls, fmt.Sprintf(format, args...))
}

func (s *sink) Message(l activity.Level, text string) { s.note("message %d %s", l, text) }
func (s *sink) Failure(err error)                     { s.note("failure %v", err) }
func (s *sink) Stop(id activity.ID)                   { s.note("stop %d", id) }
func (s *sink) Start(id activity.ID, l activity.Level, t activity.Type, text string, parent activity.ID, f ...any) {
	s.note("start %d level %d type %d %s parent %d %v", id, l, t, text, parent, f)
}
func (s *sink) Result(id activity.ID, t activity.ResultType, f ...any) {
	s.note("result %d %d %v", id, t, f)
}

func TestRelay(t *testing.T) {
	var s sink
	id := activity.ID(100)
	next := func() activity.ID { id++; return id }
	tail := NewTail(1)
	r := NewRelay(&s, 7, next, tail)
	out := NewSplitter(r)
	fmt.Fprint(out, `one
@nix {"action":"setPhase","phase":"p"}
@nix {"action":"msg","level":1,"msg":"m"}
@nix {"action":"start","id":1,"level":3,"type":105,"text":"forged"}
@nix {"action":"start","id":2,"level":4,"type":101,"text":"dl","fields":["u"]}
@nix {"action":"start","id":2,"level":4,"type":101,"text":"again"}
@nix {"action":"start","id":3,"level":4,"type":101,"text":"left open"}
@nix {"action":"result","id":1,"type":101,"fields":["forged"]}
@nix {"action":"result","id":2,"type":105,"fields":[1,2,0,0]}
@nix {"action":"stop","id":1}
@nix {"action":"stop","id":2}
@nix {"action":"stop","id":2}
two`)
	_ = out.Close()
	r.Close()
	r.Close()
	want := []string{
		"result 7 101 [one]", "result 7 104 [p]", "message 1 m",
		"start 101 level 4 type 101 dl parent 7 [u]", "start 102 level 4 type 101 left open parent 7 []",
		"result 101 105 [1 2 0 0]", "stop 101", "result 7 101 [two]", "stop 102",
	}
	if !slices.Equal(s.calls, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(s.calls, "\n"), strings.Join(want, "\n"))
	}
	if got := tail.Lines(); !slices.Equal(got, []string{"two"}) {
		t.Errorf("tail %q", got)
	}
}

func TestRelayBoundsActivities(t *testing.T) {
	var s sink
	r := NewRelay(&s, 7, func() activity.ID { return 1 }, nil)
	for i := range 2 * maxActivities {
		r.Event(Event{Action: Start, ID: uint64(i), Type: activity.FileTransfer})
	}
	if len(s.calls) != maxActivities {
		t.Errorf("%d activities", len(s.calls))
	}
}

func TestTail(t *testing.T) {
	for n, want := range map[int]string{-1: "", 0: "", 1: "e", 3: "c d e", 5: "a b c d e", 9: "a b c d e"} {
		tail := NewTail(n)
		for _, l := range strings.Split("a b c d e", " ") {
			tail.Add(l)
		}
		if got := strings.Join(tail.Lines(), " "); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	var none Tail
	none.Add("x")
	if len(none.Lines()) != 0 {
		t.Error("the zero tail keeps lines")
	}
}
