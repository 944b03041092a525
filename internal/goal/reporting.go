package goal

import (
	"fmt"
	"strings"

	"gobuild/internal/activity"
	"gobuild/internal/worker"
)

// A counter is what a progress report says about one kind of goal.
type counter struct {
	id                              activity.ID
	outstanding, done, running, bad int
}

// restart is the counter of a run that begins: goals have been made for it.
func (c counter) restart() counter { return counter{outstanding: c.outstanding} }

func (e *Engine) nextID() activity.ID {
	e.lastID++
	return e.lastID
}

func (e *Engine) start(level activity.Level, t activity.Type, text string, fields ...any) activity.ID {
	return e.startIn(0, level, t, text, fields...)
}

// startIn starts an activity within another.
func (e *Engine) startIn(parent activity.ID, level activity.Level, t activity.Type, text string, fields ...any) activity.ID {
	id := e.nextID()
	e.sink.Start(id, level, t, text, parent, fields...)
	return id
}

// report sends the counters when they have changed.
func (e *Engine) report() {
	now := [2]counter{e.builds, e.copies}
	bytes := [2]uint64{e.expectedBytes[0] + e.doneBytes[0], e.expectedBytes[1] + e.doneBytes[1]}
	if now == e.progress && bytes == e.toldBytes {
		return
	}
	e.progress, e.toldBytes = now, bytes
	for _, c := range now {
		e.sink.Result(c.id, activity.Progress, c.done, c.outstanding+c.done, c.running, c.bad)
	}
	for i, t := range []activity.Type{activity.FileTransfer, activity.CopyPath} {
		e.sink.Result(e.realise, activity.SetExpected, int(t), bytes[i])
	}
}

func (e *Engine) message(level activity.Level, format string, args ...any) {
	e.sink.Message(level, fmt.Sprintf(format, args...))
}

// complain says what has gone wrong where something else may still go right.
func (e *Engine) complain(err error) {
	e.message(activity.Error, "error: %s", strings.ReplaceAll(err.Error(), "\n", "\n       "))
}

// tracer reports the life of goals at debug level; nil when nobody listens,
// for there are many goals.
func (e *Engine) tracer() func(worker.Goal, string) {
	if v, ok := e.sink.(interface{ Verbosity() activity.Level }); !ok || v.Verbosity() < activity.Debug {
		return nil
	}
	return func(g worker.Goal, event string) { e.message(activity.Debug, "%s: %s", g.Name(), event) }
}
