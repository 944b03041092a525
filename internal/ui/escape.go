package ui

import (
	"unicode/utf8"
)

// appendClean appends text that an untrusted program may have written, without
// what could move the cursor, change the terminal's state or speak to it. SGR
// sequences ("colours") stay if asked for, and a reset ends them. For a
// terminal, bytes that are no UTF-8 become U+FFFD; elsewhere they stay.
func appendClean(dst []byte, text string, colours, terminal bool) []byte {
	coloured := false
	for len(text) > 0 {
		n := harmless(text)
		dst = append(dst, text[:n]...)
		if text = text[n:]; text == "" {
			break
		}
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == esc:
			size = escapeLen(text)
			if colours && isSGR(text[:size]) {
				dst = append(dst, text[:size]...)
				coloured = text[:size] != ansi.reset
			}
		case r == utf8.RuneError && size == 1 && terminal:
			dst = utf8.AppendRune(dst, utf8.RuneError)
		case r == '\t' || r >= 0xa0:
			dst = append(dst, text[:size]...)
		}
		text = text[size:]
	}
	if coloured {
		dst = append(dst, ansi.reset...)
	}
	return dst
}

const esc = 0x1b

// harmless is the length of the printable ASCII at the start.
func harmless(s string) int {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return i
		}
	}
	return len(s)
}

// escapeLen is the length of the escape sequence at the start of s, or of what
// there is of it (ECMA-48). A string sequence, such as one that sets the
// window's title, reaches to its terminator or to the end.
func escapeLen(s string) int {
	if len(s) == 1 {
		return 1
	}
	switch s[1] {
	case '[':
		return 2 + controlLen(s[2:])
	case ']', 'P', 'X', '^', '_':
		return 2 + stringLen(s[2:])
	}
	i := 1
	for i < len(s) && s[i] >= 0x20 && s[i] <= 0x2f {
		i++
	}
	if i < len(s) && s[i] >= 0x30 && s[i] <= 0x7e {
		i++
	}
	return i
}

// controlLen skips parameter bytes, intermediate bytes and the final byte.
func controlLen(s string) int {
	i := 0
	for i < len(s) && s[i] >= 0x30 && s[i] <= 0x3f {
		i++
	}
	for i < len(s) && s[i] >= 0x20 && s[i] <= 0x2f {
		i++
	}
	if i < len(s) && s[i] >= 0x40 && s[i] <= 0x7e {
		i++
	}
	return i
}

func stringLen(s string) int {
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\a':
			return i + 1
		case s[i] == esc:
			if i+1 < len(s) && s[i+1] == '\\' {
				return i + 2
			}
			return i
		}
	}
	return len(s)
}

// isSGR tells whether a sequence only chooses how text looks. Parameters that
// start with "<", "=", ">" or "?" make it something else.
func isSGR(seq string) bool {
	if len(seq) < 3 || seq[1] != '[' || seq[len(seq)-1] != 'm' {
		return false
	}
	for _, c := range []byte(seq[2 : len(seq)-1]) {
		if c < '0' || c > ';' {
			return false
		}
	}
	return true
}
