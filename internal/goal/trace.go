package goal

import (
	"fmt"

	"gobuild/internal/activity"
	"gobuild/internal/store/storepath"
)

// trace prints a line of the build trace, for programs that follow builds
// (goals spec, section A9).
func (e *Engine) trace(format string, args ...any) {
	if e.opt.BuildTrace {
		e.sink.Message(activity.Error, "@ "+fmt.Sprintf(format, args...))
	}
}

// traceOutput is the output that trace lines name: "out" or, without one, the
// first.
func (d *Derivation) traceOutput() storepath.Path {
	if o, ok := d.outline.Output("out"); ok {
		return o.Path
	}
	return d.outline.Outputs[0].Path
}
