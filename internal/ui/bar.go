package ui

import (
	"time"

	"gobuild/internal/activity"
)

// redraw is the shortest time between two drawings of the status line, and
// tick that after which Refresh draws again although nothing happened.
const (
	redraw = 50 * time.Millisecond
	tick   = time.Second
)

const eraseLine = "\r\x1b[K"

// barPrinter keeps a status line below the lines of a plain printer. The
// cursor is always at the end of the status line, or at the start of an empty
// line.
type barPrinter struct {
	plain
	now     func() time.Time
	columns func() int

	shown  []byte // the status line as it was last drawn
	drawn  time.Time
	dirty  bool // something has changed since
	paused bool
}

func (p *barPrinter) message(level activity.Level, text string) {
	p.above(func() { p.block(level, text) })
}

func (p *barPrinter) failure(text string) {
	p.above(func() { p.block(activity.Error, failureText(p.colours, text)) })
}

// above puts lines in the place of the status line and the status line under
// them, in one piece, so that it does not flicker.
func (p *barPrinter) above(lines func()) {
	if len(p.shown) > 0 {
		p.buf = append(p.buf, eraseLine...)
	}
	lines()
	if p.now().Sub(p.drawn) >= redraw {
		p.render()
	}
	p.buf = append(p.buf, p.shown...)
	p.send()
}

// start leaves it to the status line to show what begins, unless the user has
// asked for more: what is printed once does not go away.
func (p *barPrinter) start(_ activity.ID, level activity.Level, t activity.Type, text string, _ activity.ID, _ []any) {
	p.paused = false
	if level < p.verbosity && text != "" && t != activity.BuildWaiting {
		p.above(func() { p.block(level, text+"...") })
		return
	}
	p.changed()
}

func (p *barPrinter) stop(activity.ID) { p.changed() }

func (p *barPrinter) result(id activity.ID, t activity.ResultType, fields []any) {
	if line, ok := logLine(t, fields); ok && p.logs {
		p.above(func() { p.log(id, t, line) })
		return
	}
	p.changed()
}

func (p *barPrinter) changed() {
	p.dirty = true
	p.refresh()
}

func (p *barPrinter) refresh() {
	age := p.now().Sub(p.drawn)
	if p.paused || age < redraw || !p.dirty && age < tick {
		return
	}
	had := len(p.shown) > 0
	p.render()
	if had || len(p.shown) > 0 {
		p.buf = append(p.buf, eraseLine...)
		p.buf = append(p.buf, p.shown...)
		p.send()
	}
}

// render makes the status line anew. One column stays free, because terminals
// differ in what they do after the last.
func (p *barPrinter) render() {
	p.drawn, p.dirty = p.now(), false
	p.shown = p.shown[:0]
	if p.paused {
		return
	}
	columns := p.columns()
	if columns <= 0 {
		columns = 80
	}
	clean := appendClean(nil, p.board.status(), p.colour, true)
	p.shown = appendFitting(p.shown, string(clean), columns-1)
}

func (p *barPrinter) rest() {
	p.paused = true
	if len(p.shown) > 0 {
		p.shown = p.shown[:0]
		p.buf = append(p.buf, eraseLine...)
		p.send()
	}
}
