// Package logline turns the bytes a builder prints into lines, phases and
// messages, and keeps the last lines for a report of its failure (logging
// spec, section 4).
package logline

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"gobuild/internal/activity"
)

// MaxLine is the longest line in bytes. A longer one is handed out in pieces,
// so that a builder that never ends its line cannot eat memory.
const MaxLine = 64 << 10

// A Receiver takes what a builder says, in order.
type Receiver interface {
	// Line is a line of output without its line feed; any bytes but that.
	Line(text string)
	// Event is a line that speaks to the engine instead of a reader.
	Event(e Event)
}

// A Splitter cuts a builder's output into lines. It is not safe for concurrent
// use. The bytes it is given are not kept.
//
// A carriage return moves to the start of the line, where what follows
// overwrites what is there, byte by byte; so progress displays end up as one
// line.
type Splitter struct {
	to      Receiver
	line    []byte // the unfinished line
	column  int    // where the next byte goes; at most len(line)
	partial bool   // the line began in an earlier piece
}

// NewSplitter makes a splitter that reports to r.
func NewSplitter(r Receiver) *Splitter { return &Splitter{to: r} }

// Write takes the next bytes of output. It never fails.
func (s *Splitter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			s.put(p)
			break
		}
		if len(s.line) == 0 && end <= MaxLine && bytes.IndexByte(p[:end], '\r') < 0 {
			s.emit(p[:end]) // the usual case: a whole line, in place
		} else {
			s.put(p[:end])
			s.flush()
		}
		p = p[end+1:]
	}
	return n, nil
}

// Close hands out the last line if it lacks a line feed.
func (s *Splitter) Close() error {
	if len(s.line) > 0 {
		s.flush()
	}
	return nil
}

// put adds bytes without a line feed to the unfinished line.
func (s *Splitter) put(p []byte) {
	for len(p) > 0 {
		part := p
		if i := bytes.IndexByte(p, '\r'); i >= 0 {
			part = p[:i]
		}
		s.overwrite(part)
		if len(part) == len(p) {
			return
		}
		p = p[len(part)+1:]
		s.column = 0
	}
}

func (s *Splitter) overwrite(p []byte) {
	n := copy(s.line[s.column:], p)
	s.column += n
	p = p[n:]
	for len(p) > 0 {
		n := min(len(p), MaxLine-len(s.line))
		s.line = append(s.line, p[:n]...)
		p = p[n:]
		s.column = len(s.line)
		if len(p) > 0 {
			s.breakLine()
		}
	}
}

// breakLine hands out a piece of a line that is too long, and keeps the bytes
// of a character that the cut would split.
func (s *Splitter) breakLine() {
	cut := len(s.line) - splitRune(s.line)
	s.to.Line(string(s.line[:cut]))
	s.line = append(s.line[:0], s.line[cut:]...)
	s.column = len(s.line)
	s.partial = true
}

// splitRune is the length of the unfinished UTF-8 sequence at the end of b.
func splitRune(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if tail := b[len(b)-n:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}

func (s *Splitter) flush() {
	if s.partial {
		s.to.Line(string(s.line))
	} else {
		s.emit(s.line)
	}
	s.line, s.column, s.partial = s.line[:0], 0, false
}

// emit hands out a whole line.
func (s *Splitter) emit(line []byte) {
	text := string(line)
	if !strings.HasPrefix(text, prefix) {
		s.to.Line(text)
		return
	}
	e, err := parseEvent(text[len(prefix):])
	if err != nil {
		s.to.Event(Event{Action: Message, Level: activity.Error,
			Text: "bad JSON log message from the derivation builder: " + err.Error()})
		s.to.Line(text)
	} else if e.Action != "" {
		s.to.Event(e)
	}
}
