package ui

import (
	"io"
	"strings"

	"gobuild/internal/activity"
)

// A writer puts text on the output, one Write per event.
type writer struct {
	out      io.Writer
	colours  palette
	colour   bool
	terminal bool
	systemd  bool
	buf      []byte // reused between events
}

// block appends text of one or more lines, made harmless.
func (w *writer) block(level activity.Level, text string) {
	for {
		line, rest, more := strings.Cut(text, "\n")
		w.line(level, "", line)
		if !more {
			return
		}
		text = rest
	}
}

// line appends a line: head as it is, text made harmless.
func (w *writer) line(level activity.Level, head, text string) {
	if w.systemd {
		w.buf = append(w.buf, '<', priority(level), '>')
	}
	w.buf = append(w.buf, head...)
	w.buf = appendClean(w.buf, text, w.colour, w.terminal)
	w.buf = append(w.buf, '\n')
}

// priority is the journal's number for a level.
func priority(level activity.Level) byte {
	switch {
	case level <= activity.Error:
		return '3'
	case level == activity.Warn:
		return '4'
	case level <= activity.Info:
		return '5'
	case level <= activity.Chatty:
		return '6'
	}
	return '7'
}

func (w *writer) send() {
	_, _ = w.out.Write(w.buf)
	w.buf = w.buf[:0]
}

// plain prints line after line: the raw formats, and what the bar formats
// come to where there is no terminal.
type plain struct {
	writer
	board     *board
	verbosity activity.Level
	logs      bool // show builders' output
	named     bool // with the name of what is built
}

func (p *plain) message(level activity.Level, text string) {
	p.block(level, text)
	p.send()
}

func (p *plain) failure(text string) {
	p.block(activity.Error, failureText(p.colours, text))
	p.send()
}

func (p *plain) start(_ activity.ID, level activity.Level, t activity.Type, text string, _ activity.ID, _ []any) {
	if level > p.verbosity || text == "" || p.named && t == activity.BuildWaiting {
		return
	}
	p.block(level, text+"...")
	p.send()
}

func (p *plain) stop(activity.ID) {}

func (p *plain) result(id activity.ID, t activity.ResultType, fields []any) {
	if text, ok := logLine(t, fields); ok && p.logs {
		p.log(id, t, text)
		p.send()
	}
}

// log appends a line of a builder or of a post-build hook.
func (p *plain) log(id activity.ID, t activity.ResultType, text string) {
	head := ""
	switch {
	case p.named:
		head = p.colours.faint + p.board.name(id)
		if t == activity.PostBuildLogLine {
			head += " (post)"
		}
		head += "> " + p.colours.reset
	case t == activity.PostBuildLogLine:
		head = "post-build-hook: "
	}
	p.line(activity.Error, head, text)
}

func (p *plain) refresh() {}
func (p *plain) rest()    {}

// logLine is the line that a result carries, if it is of that kind.
func logLine(t activity.ResultType, fields []any) (string, bool) {
	if t != activity.BuildLogLine && t != activity.PostBuildLogLine || len(fields) == 0 {
		return "", false
	}
	text, ok := fields[0].(string)
	return text, ok
}
