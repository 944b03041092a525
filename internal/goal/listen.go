package goal

import (
	"fmt"

	"gobuild/internal/sandbox"
	"gobuild/internal/worker"
	"gobuild/internal/worker/proc"
)

// A builder is a process that may still have to name its successor.
type builder struct {
	*proc.Process
	report *sandbox.Report
}

// Kill finds the successor first, which would otherwise live on unknown.
func (b *builder) Kill() {
	// Without an answer there is no successor, and the process itself remains.
	_ = b.report.Settle(b.Process)
	b.Process.Kill()
}

// Output hears from the builder and from the set-up of its sandbox.
func (d *Derivation) Output(h *worker.Handle, fd int, data []byte) {
	a := d.attempt
	switch {
	case a == nil:
	case a.finaliser != nil && h == a.finaliser.handle:
		a.finaliser.output(data)
	case a.diffs != nil && h == a.diffs.hook:
		_, _ = a.diffs.lines.Write(data)
	case a.aside != nil && h == a.aside.handle:
		a.aside.said(fd, data)
	case h != a.handle:
	case a.hook != nil:
		d.hookSaid(fd, data)
	case fd == a.report.FD():
		if pid := a.report.Feed(data); pid > 0 {
			if err := a.process.Adopt(pid); err != nil {
				a.setup = err
			}
		}
	default:
		d.logged(data)
	}
}

// logged takes output of the builder.
func (d *Derivation) logged(data []byte) {
	_, _ = d.attempt.lines.Write(data)
	d.keepLog(data)
}

// keepLog has output in the log file, within its limit.
func (d *Derivation) keepLog(data []byte) {
	a, e := d.attempt, d.eng
	a.log.write(data)
	a.size += int64(len(data))
	if limit := e.opt.MaxLogSize; limit > 0 && a.size > limit && a.killed == nil {
		d.kill(LogLimitExceeded, fmt.Errorf("%s killed after writing more than %d bytes of log output", d.Name(), limit))
	}
}

// TimedOut kills a builder that broke a time limit.
func (d *Derivation) TimedOut(_ *worker.Handle, l worker.Limit) {
	what := ""
	if l.Silent {
		what = " of silence"
	}
	d.kill(TimedOut, fmt.Errorf("%s timed out after %d seconds%s", d.Name(), int(l.After.Seconds()), what))
}

func (d *Derivation) kill(s Status, err error) {
	a := d.attempt
	if a == nil || a.killed != nil {
		return
	}
	a.killed = &BuildError{Drv: d.path, Status: s, Err: err}
	d.eng.w.Kill(a.handle)
}
