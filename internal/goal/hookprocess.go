package goal

import (
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"gobuild/internal/activity"
	"gobuild/internal/hook"
	"gobuild/internal/logline"
	"gobuild/internal/worker"
	"gobuild/internal/worker/proc"
)

// A hookProcess is a build hook that runs. Until it accepts a build it is
// watched for the asker, then for the goal.
type hookProcess struct {
	asker   *asker
	goal    *Derivation // whose turn it is, or whose build it does; nil: nobody's
	handle  *worker.Handle
	input   *hook.Process
	replies hook.Replies
	reply   *hook.Reply // to the goal's question; nil: not yet
	relay   hookRelay
}

// start starts a hook.
func (a *asker) start() (*hookProcess, error) {
	e := a.eng
	started, err := hook.Start(a.program)
	if err != nil {
		return nil, err
	}
	p := &hookProcess{asker: a, input: started, relay: hookRelay{eng: e, parent: e.realise}}
	p.replies = hook.Replies{Protocol: a.program.Protocol, Line: p.line, Reply: p.replied}
	// What the builder's pipe carries is not for us before the hook accepts.
	p.handle, err = e.w.WatchFor(p, worker.Child{
		Proc: started, FDs: []int{started.Replies}, Input: started.Input, Service: true,
	})
	if err != nil {
		proc.Close(started.Builder)
		return nil, err
	}
	e.w.Send(p.handle, a.program.Protocol.AppendSettings(nil, a.program.Settings))
	return p, nil
}

// Output hears what the hook says on its standard error.
func (p *hookProcess) Output(_ *worker.Handle, _ int, data []byte) { p.replies.Feed(data) }

// TimedOut is never called: hooks have no time limits.
func (p *hookProcess) TimedOut(*worker.Handle, worker.Limit) {}

// Ended answers the open question of a hook that has died.
func (p *hookProcess) Ended(*worker.Handle) {
	a := p.asker
	p.replies.End()
	p.closed()
	a.idle = slices.DeleteFunc(a.idle, func(have *hookProcess) bool { return have == p })
	if p.goal != nil && p.reply == nil {
		a.died(p.handle.Status().String())
		p.reply = &hook.Reply{Verdict: hook.Decline}
		a.eng.w.Wake(p.goal)
	}
}

// closed ends what the process has begun to report.
func (p *hookProcess) closed() {
	proc.Close(p.input.Builder)
	p.input.Builder = -1
	p.relay.close()
}

// retire tells the hook to end, and has its end noted.
func (p *hookProcess) retire(after func(proc.Status)) {
	p.input.Signal(unix.SIGTERM)
	p.relay.builder = nil
	p.closed()
	p.asker.eng.w.Retire(p.handle, after)
}

func (p *hookProcess) replied(r hook.Reply) {
	p.reply = &r
	if r.Verdict != hook.Bad {
		p.asker.deaths = 0
	}
	p.asker.eng.w.Wake(p.goal)
}

// line takes what is no reply: for programs, or else for people, who get to see
// it whatever they want to know.
func (p *hookProcess) line(text string) {
	event, is, err := logline.ParseEvent(text)
	switch {
	case is && err == nil:
		p.relay.event(event)
	case strings.TrimSpace(text) != "":
		p.asker.eng.message(activity.Error, "%s", text)
	}
}

// A hookRelay passes on what a hook reports. Unlike a builder it is believed:
// the user has chosen it.
type hookRelay struct {
	eng    *Engine
	parent activity.ID
	open   map[uint64]activity.ID
	// builder gets what a remote machine reports of the builder as results
	// instead of output, as bytes of its log; nil before a build was accepted.
	builder func(log []byte)
}

// maxHookActivities bounds what a hook may have open at once.
const maxHookActivities = 1 << 16

func (r *hookRelay) event(e logline.Event) {
	sink := r.eng.sink
	switch e.Action {
	case logline.Message:
		sink.Message(e.Level, e.Text)
	case logline.Start:
		r.start(e)
	case logline.Stop:
		if id, ok := r.open[e.ID]; ok {
			delete(r.open, e.ID)
			sink.Stop(id)
		}
	case logline.Result:
		if id, ok := r.open[e.ID]; ok {
			sink.Result(id, e.ResultType, e.Fields...)
			r.keep(e)
		}
	case logline.SetPhase:
		sink.Result(r.parent, activity.SetPhase, e.Text)
	}
}

func (r *hookRelay) start(e logline.Event) {
	if _, used := r.open[e.ID]; used || len(r.open) >= maxHookActivities || countedTwice(e) {
		return
	}
	if r.open == nil {
		r.open = map[uint64]activity.ID{}
	}
	id := r.eng.nextID()
	r.open[e.ID] = id
	r.eng.sink.Start(id, e.Level, e.Type, e.Text, r.parent, e.Fields...)
}

// countedTwice tells whether an activity only serves to count what another
// engine does for us, which is counted here as well.
func countedTwice(e logline.Event) bool {
	return e.Type == activity.Realise || e.Type == activity.Builds || e.Type == activity.CopyPaths && e.Text == ""
}

// keep has the builder's lines and phases, which a machine may report as
// results, kept as they would be in a log that was written here.
func (r *hookRelay) keep(e logline.Event) {
	if r.builder == nil || len(e.Fields) == 0 {
		return
	}
	text, ok := e.Fields[0].(string)
	switch {
	case !ok:
	case e.ResultType == activity.BuildLogLine:
		r.builder([]byte(text + "\n"))
	case e.ResultType == activity.SetPhase:
		r.builder(logline.PhaseLine(text))
	}
}

// close stops what the hook left open.
func (r *hookRelay) close() {
	for _, id := range slices.Sorted(maps.Values(r.open)) {
		r.eng.sink.Stop(id)
	}
	clear(r.open)
}
