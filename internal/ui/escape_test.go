package ui

import (
	"testing"
	"unicode/utf8"
)

func TestAppendClean(t *testing.T) {
	for _, c := range []struct{ in, colour, mono string }{
		{"plain text", "plain text", "plain text"},
		{"\x1b[31;1mred\x1b[0m", "\x1b[31;1mred\x1b[0m", "red"},
		{"\x1b[38:2:1:2:3mx", "\x1b[38:2:1:2:3mx\x1b[0m", "x"},
		{"\x1b[mx", "\x1b[mx\x1b[0m", "x"},
		{"\x1b[>4;1mx", "x", "x"},
		{"\x1b[?1049hx\x1b[2J\x1b[1;1H", "x", "x"},
		{"\x1b[ qx", "x", "x"},
		{"\x1b[12", "", ""},
		{"\x1b", "", ""},
		{"\x1b]0;title\ax", "x", "x"},
		{"\x1b]8;;http://h\x1b\\link\x1b]8;;\x1b\\x", "linkx", "linkx"},
		{"\x1b]52;c;c3RlYWw=", "", ""},
		{"\x1bPq#0\x1b\\x", "x", "x"},
		{"\x1b]0;a\x1b[31mb", "\x1b[31mb\x1b[0m", "b"},
		{"\x1bcx\x1b7\x1b(0y", "xy", "xy"},
		{"a\r\a\b\x00\x0e\x7fb\tc", "ab\tc", "ab\tc"},
		{"\u009b31mx\u0085", "31mx", "31mx"},
		{"\x9b31m\xff", "\ufffd31m\ufffd", "\ufffd31m\ufffd"},
		{"é€😀\u00a0", "é€😀\u00a0", "é€😀\u00a0"},
		{"\x1b[3\x1b[1mx", "\x1b[1mx\x1b[0m", "x"},
	} {
		if got := string(appendClean(nil, c.in, true, true)); got != c.colour {
			t.Errorf("%q with colours: %q, want %q", c.in, got, c.colour)
		}
		if got := string(appendClean(nil, c.in, false, true)); got != c.mono {
			t.Errorf("%q: %q, want %q", c.in, got, c.mono)
		}
	}
	if got := string(appendClean(nil, "a\xffb", false, false)); got != "a\xffb" {
		t.Errorf("a file got %q", got)
	}
}

// FuzzAppendClean checks that nothing but text and SGR sequences is left, and
// that cleaning twice changes nothing.
func FuzzAppendClean(f *testing.F) {
	f.Add("\x1b[31mx\x1b]0;t\a\x1bP\x1b\\\xff\u009b", true)
	f.Add("\x1bXm\x1b00", true)
	f.Fuzz(func(t *testing.T, in string, colours bool) {
		out := string(appendClean(nil, in, colours, true))
		if !utf8.ValidString(out) {
			t.Fatalf("%q became %q", in, out)
		}
		for rest := out; rest != ""; {
			r, size := utf8.DecodeRuneInString(rest)
			if r == esc {
				if size = escapeLen(rest); !colours || !isSGR(rest[:size]) {
					t.Fatalf("%q became %q", in, out)
				}
			} else if r < ' ' && r != '\t' || r >= 0x7f && r < 0xa0 {
				t.Fatalf("%q became %q", in, out)
			}
			rest = rest[size:]
		}
		again := string(appendClean(nil, out, colours, true))
		if again != out {
			t.Fatalf("%q became %q, and that %q", in, out, again)
		}
		fit := string(appendFitting(nil, out, 5))
		if n := columnsIn(fit); n > 5 {
			t.Fatalf("%q takes %d columns", fit, n)
		}
	})
}

// columnsIn is the width of clean text.
func columnsIn(s string) int {
	n := 0
	for s != "" {
		if s[0] == esc {
			s = s[escapeLen(s):]
			continue
		}
		r, size := utf8.DecodeRuneInString(s)
		n += runeColumns(r)
		s = s[size:]
	}
	return n
}

func TestAppendFitting(t *testing.T) {
	for _, c := range []struct {
		in      string
		columns int
		want    string
	}{
		{"abcdef", 3, "abc"},
		{"abc", 3, "abc"},
		{"abc", 0, ""},
		{"\x1b[1mabc\x1b[0md", 2, "\x1b[1mab\x1b[0m"},
		{"日本語", 5, "日本"},
		{"日本語", 3, "日"},
		{"日x", 1, ""},
		{"e\u0301e\u0301x", 2, "e\u0301e\u0301"},
		{"a\tb", 9, "a b"},
		{"😀😀", 2, "😀"},
	} {
		if got := string(appendFitting(nil, c.in, c.columns)); got != c.want {
			t.Errorf("%q in %d: %q, want %q", c.in, c.columns, got, c.want)
		}
	}
}
