package ui

import (
	"unicode"
	"unicode/utf8"
)

// appendFitting appends clean text up to a number of columns, its colours
// whole.
func appendFitting(dst []byte, text string, columns int) []byte {
	for len(text) > 0 {
		if text[0] == esc {
			n := escapeLen(text)
			dst = append(dst, text[:n]...)
			text = text[n:]
			continue
		}
		r, size := utf8.DecodeRuneInString(text)
		if r == '\t' {
			r = ' '
		}
		w := runeColumns(r)
		if w > columns {
			columns = 0 // only sequences may follow
			text = text[size:]
			continue
		}
		columns -= w
		dst = utf8.AppendRune(dst, r)
		text = text[size:]
	}
	return dst
}

// runeColumns is the number of columns a character takes on a terminal.
func runeColumns(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case isWide(r):
		return 2
	}
	return 1
}

// isWide covers the blocks whose characters take two columns: East Asian
// scripts, full-width forms and pictures.
func isWide(r rune) bool {
	switch {
	case r < 0x1100:
		return false
	case r <= 0x115f,
		r >= 0x2e80 && r <= 0xa4cf && r != 0x303f,
		r >= 0xac00 && r <= 0xd7a3,
		r >= 0xf900 && r <= 0xfaff,
		r >= 0xfe30 && r <= 0xfe6f,
		r >= 0xff00 && r <= 0xff60,
		r >= 0xffe0 && r <= 0xffe6,
		r >= 0x1f300 && r <= 0x1f64f,
		r >= 0x1f680 && r <= 0x1f6ff,
		r >= 0x1f900 && r <= 0x1f9ff,
		r >= 0x20000 && r <= 0x3fffd:
		return true
	}
	return false
}
