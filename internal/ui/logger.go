// Package ui shows people and programs what an engine does: log lines, a
// status line, errors, plans and summaries, in Nix's log formats (logging
// spec, sections 1 to 8).
package ui

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"gobuild/internal/activity"
)

// Options says where and how to show things.
type Options struct {
	Out       io.Writer           // normally standard error
	Env       func(string) string // TERM, NO_COLOR and IN_SYSTEMD; nil is an empty environment
	Format    string              // a name that CheckFormat accepts; "" fits the output
	Verbosity activity.Level
	// HideBuildOutput turns a format with logs into the one without.
	HideBuildOutput bool

	Now func() time.Time // nil is time.Now
	// Columns, if set, makes Out count as a terminal of that width. If it is
	// nil, Out is asked.
	Columns func() int
}

// The names of the formats.
const (
	raw          = "raw"
	rawWithLogs  = "raw-with-logs"
	internalJSON = "internal-json"
	bar          = "bar"
	barWithLogs  = "bar-with-logs"
)

// CheckFormat tells whether there is a log format of that name.
func CheckFormat(name string) error {
	switch name {
	case "", raw, rawWithLogs, internalJSON, bar, barWithLogs:
		return nil
	}
	return fmt.Errorf("unknown log format '%s'", name)
}

// A printer is one format. Texts are as they came: colours, indentation and
// harmful characters are the printer's to add and remove.
type printer interface {
	message(level activity.Level, text string)
	failure(text string)
	start(id activity.ID, level activity.Level, t activity.Type, text string, parent activity.ID, fields []any)
	stop(id activity.ID)
	result(id activity.ID, t activity.ResultType, fields []any)
	// refresh is called now and then, so that clocks go on.
	refresh()
	// rest clears what is not meant to stay, until something starts.
	rest()
}

// A Logger is the Sink that shows things. It is not safe for concurrent use.
// Each event is written with one call of Write, or together with others between
// Batch and Flush; errors of writing are ignored, since there is nobody to tell.
type Logger struct {
	out       *batch
	printer   printer
	board     *board
	colours   palette
	verbosity activity.Level
	verbose   bool // build output has been shown when a failure is reported
	summaries bool // for people: the board is kept
}

// New makes a logger. An unknown format counts as none given.
func New(o Options) *Logger {
	if o.Env == nil {
		o.Env = func(string) string { return "" }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	t := findTerminal(&o)
	l := &Logger{out: &batch{out: o.Out}, verbosity: o.Verbosity}
	if t.colour {
		l.colours = ansi
	}
	format := pick(o, t)
	l.board = newBoard(o.Now, l.colours)
	l.board.lines = format == bar
	l.verbose = format != raw && format != bar
	l.summaries = format != internalJSON
	w := writer{out: l.out, colours: l.colours, colour: t.colour, terminal: t.is, systemd: o.Env("IN_SYSTEMD") == "1"}
	p := plain{writer: w, board: l.board, verbosity: o.Verbosity, logs: l.verbose}
	switch {
	case format == internalJSON:
		l.colours = ansi // the reader decides
		l.printer = &jsonPrinter{out: l.out}
	case format == raw || format == rawWithLogs:
		l.printer = &p
	case t.is:
		p.named = true
		l.printer = &barPrinter{plain: p, now: o.Now, columns: t.columns}
	default:
		p.named = true
		l.printer = &p
	}
	return l
}

// pick chooses the format.
func pick(o Options, t terminal) string {
	format := o.Format
	if format == "" || CheckFormat(format) != nil {
		format = rawWithLogs
		if t.is {
			format = barWithLogs
		}
	}
	if o.HideBuildOutput {
		format = strings.TrimSuffix(format, "-with-logs")
	}
	return format
}

// Verbosity is the highest level of messages that are shown.
func (l *Logger) Verbosity() activity.Level { return l.verbosity }

// Message implements activity.Sink. Texts of level Warn get "warning: " in
// front unless they have it.
func (l *Logger) Message(level activity.Level, text string) {
	if level > l.verbosity {
		return
	}
	if level == activity.Warn {
		text = strings.TrimPrefix(text, ansi.warning+"warning:"+ansi.reset+" ") // as other programs' JSON has it
		text = l.colours.warning + "warning:" + l.colours.reset + " " + strings.TrimPrefix(text, "warning: ")
	}
	l.printer.message(level, text)
}

// Failure implements activity.Sink. If the error is a report of a failed
// build, the builder's last output is shown with it, also if all output has
// been shown: that of other builds stands in between.
func (l *Logger) Failure(err error) {
	text := err.Error()
	if report := activity.Report(nil); errors.As(err, &report) {
		text = l.withTail(text, report)
	}
	l.printer.failure(text)
}

func (l *Logger) withTail(text string, report activity.Report) string {
	lines, logOf := report.LogTail()
	if !l.summaries {
		return text // programs have had all lines, and compare texts with Nix's
	}
	return failureReport(text, lines, logOf)
}

// Start implements activity.Sink.
func (l *Logger) Start(id activity.ID, level activity.Level, t activity.Type, text string, parent activity.ID, fields ...any) {
	if l.summaries {
		l.board.start(id, t, text, parent, fields)
	}
	l.printer.start(id, level, t, text, parent, fields)
}

// Stop implements activity.Sink.
func (l *Logger) Stop(id activity.ID) {
	l.printer.stop(id)
	l.board.stop(id)
}

// Result implements activity.Sink.
func (l *Logger) Result(id activity.ID, t activity.ResultType, fields ...any) {
	if l.summaries {
		l.board.result(id, t, fields)
	}
	l.printer.result(id, t, fields)
}

// Refresh lets the status line catch up with the time. A loop that has been
// idle for a while calls it; without a status line it does nothing.
func (l *Logger) Refresh() { l.printer.refresh() }

// Summary says in one line what was built, failed and fetched in the given
// time. Nothing is said of nothing, nor to programs, nor below level Info.
func (l *Logger) Summary(elapsed time.Duration) {
	l.printer.rest()
	if !l.summaries || l.verbosity < activity.Info {
		return
	}
	if text := l.board.summary(elapsed); text != "" {
		l.printer.message(activity.Info, text)
	}
}

// Batch makes the logger collect what it writes until Flush, or write at once.
func (l *Logger) Batch(on bool) {
	l.out.on = on
	l.out.flush()
}

// Flush writes what has been collected and lets the status line catch up.
func (l *Logger) Flush() {
	l.printer.refresh()
	l.out.flush()
}

// Close clears the status line and writes what has been collected.
func (l *Logger) Close() {
	l.printer.rest()
	l.out.flush()
}
