package drv

import (
	"bytes"
	"errors"
	"fmt"
)

// A scanner steps through the text of a derivation. It works on offsets, so
// that skipping a string costs no more than finding its end.
type scanner struct {
	text []byte
	pos  int
}

// A span is the inside of a quoted string.
type span struct {
	from, to int
	escaped  bool // has a backslash, so the text is not the value
}

var errUnterminated = errors.New("unterminated string in derivation")

// expect consumes exactly that text.
func (s *scanner) expect(want string) error {
	end := s.pos + len(want)
	if end > len(s.text) || string(s.text[s.pos:end]) != want {
		return fmt.Errorf("expected string '%s'", want)
	}
	s.pos = end
	return nil
}

// more is asked inside a list, before each element, and consumes the end of
// the list. A comma is taken where there is one but never demanded: all
// releases read lists so.
func (s *scanner) more() bool {
	if s.pos < len(s.text) {
		switch s.text[s.pos] {
		case ',':
			s.pos++
		case ']':
			s.pos++
			return false
		}
	}
	return true
}

// quoted consumes a string, found by jumping from backslash to backslash.
func (s *scanner) quoted() (span, error) {
	if s.pos >= len(s.text) || s.text[s.pos] != '"' {
		return span{}, errors.New(`expected string '"'`)
	}
	sp := span{from: s.pos + 1}
	at, quote := sp.from, sp.from-1
	for {
		if at > quote {
			n := bytes.IndexByte(s.text[at:], '"')
			if n < 0 {
				return span{}, errUnterminated
			}
			quote = at + n
		}
		n := bytes.IndexByte(s.text[at:quote], '\\')
		if n < 0 {
			sp.to, s.pos = quote, quote+1
			return sp, nil
		}
		sp.escaped = true
		if at += n + 2; at > len(s.text) {
			return span{}, errUnterminated
		}
	}
}

// raw is the value of the string; it aliases the text where it can.
func (s *scanner) raw(sp span) []byte {
	b := s.text[sp.from:sp.to]
	if !sp.escaped {
		return b
	}
	out := make([]byte, 0, len(b))
	for {
		i := bytes.IndexByte(b, '\\')
		if i < 0 {
			return append(out, b...)
		}
		out = append(append(out, b[:i]...), unescape(b[i+1]))
		b = b[i+2:]
	}
}

// unescape gives the byte that a backslash and c stand for.
func unescape(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}
