package logline

import (
	"maps"
	"slices"

	"gobuild/internal/activity"
)

// maxActivities bounds the downloads a builder may have open at once.
const maxActivities = 256

// A Relay reports a builder's lines and events on the activity of its build,
// and keeps the last lines. It is a Receiver.
type Relay struct {
	sink  activity.Sink
	build activity.ID
	next  func() activity.ID
	tail  *Tail
	open  map[uint64]activity.ID // the builder's downloads
}

// NewRelay makes a relay to the given activity. next makes IDs for activities
// of the builder's own; tail, which may be nil, gets the plain lines.
func NewRelay(sink activity.Sink, build activity.ID, next func() activity.ID, tail *Tail) *Relay {
	return &Relay{sink: sink, build: build, next: next, tail: tail}
}

// Line implements Receiver.
func (r *Relay) Line(text string) {
	if r.tail != nil {
		r.tail.Add(text)
	}
	r.sink.Result(r.build, activity.BuildLogLine, text)
}

// Event implements Receiver. Of activities only downloads are believed: the
// rest would let a builder forge the engine's reports.
func (r *Relay) Event(e Event) {
	switch e.Action {
	case SetPhase:
		r.sink.Result(r.build, activity.SetPhase, e.Text)
	case Message:
		r.sink.Message(e.Level, e.Text)
	case Start:
		r.start(e)
	case Stop:
		if id, ok := r.open[e.ID]; ok {
			delete(r.open, e.ID)
			r.sink.Stop(id)
		}
	case Result:
		if id, ok := r.open[e.ID]; ok {
			r.sink.Result(id, e.ResultType, e.Fields...)
		}
	}
}

func (r *Relay) start(e Event) {
	if _, used := r.open[e.ID]; used || e.Type != activity.FileTransfer || len(r.open) >= maxActivities {
		return
	}
	if r.open == nil {
		r.open = map[uint64]activity.ID{}
	}
	id := r.next()
	r.open[e.ID] = id
	r.sink.Start(id, e.Level, e.Type, e.Text, r.build, e.Fields...)
}

// Close stops what the builder left open.
func (r *Relay) Close() {
	for _, id := range slices.Sorted(maps.Values(r.open)) {
		r.sink.Stop(id)
	}
	clear(r.open)
}
