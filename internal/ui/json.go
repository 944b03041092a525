package ui

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"gobuild/internal/activity"
)

// jsonPrinter writes the internal-json format: lines of "@nix " and an object
// whose keys are sorted, byte for byte as Nix writes them.
type jsonPrinter struct {
	out io.Writer
	buf []byte
}

func (p *jsonPrinter) send() {
	p.buf = append(p.buf, "}\n"...)
	_, _ = p.out.Write(p.buf)
	p.buf = p.buf[:0]
}

// begin starts an object; action is always the first key.
func (p *jsonPrinter) begin(action string) {
	p.buf = append(p.buf, `@nix {"action":"`...)
	p.buf = append(p.buf, action...)
	p.buf = append(p.buf, '"')
}

func (p *jsonPrinter) number(key string, n uint64) {
	p.key(key)
	p.buf = strconv.AppendUint(p.buf, n, 10)
}

func (p *jsonPrinter) text(key, s string) {
	p.key(key)
	p.buf = appendJSON(p.buf, s)
}

func (p *jsonPrinter) key(key string) {
	p.buf = append(p.buf, ',', '"')
	p.buf = append(p.buf, key...)
	p.buf = append(p.buf, '"', ':')
}

func (p *jsonPrinter) fields(fields []any) {
	if len(fields) == 0 {
		return
	}
	p.key("fields")
	for i, f := range fields {
		sep := byte(',')
		if i == 0 {
			sep = '['
		}
		p.buf = append(p.buf, sep)
		switch f := f.(type) {
		case string:
			p.buf = appendJSON(p.buf, f)
		case int:
			p.buf = strconv.AppendInt(p.buf, int64(f), 10)
		case uint64:
			p.buf = strconv.AppendUint(p.buf, f, 10)
		default:
			p.buf = appendJSON(p.buf, fmt.Sprint(f))
		}
	}
	p.buf = append(p.buf, ']')
}

// message sends a plan or another list line by line, as Nix does; warnings
// are one message each.
func (p *jsonPrinter) message(level activity.Level, text string) {
	if level <= activity.Warn {
		p.one(level, text)
		return
	}
	for line := range strings.SplitSeq(text, "\n") {
		p.one(level, line)
	}
}

func (p *jsonPrinter) one(level activity.Level, text string) {
	p.begin("msg")
	p.number("level", uint64(level))
	p.text("msg", text)
	p.send()
}

func (p *jsonPrinter) failure(text string) {
	p.begin("msg")
	p.buf = append(p.buf, `,"column":null,"file":null,"level":0,"line":null`...)
	p.text("msg", failureText(ansi, text))
	p.text("raw_msg", text)
	p.send()
}

func (p *jsonPrinter) start(id activity.ID, level activity.Level, t activity.Type, text string, parent activity.ID, fields []any) {
	p.begin("start")
	p.fields(fields)
	p.number("id", uint64(id))
	p.number("level", uint64(level))
	p.number("parent", uint64(parent))
	p.text("text", text)
	p.number("type", uint64(t))
	p.send()
}

func (p *jsonPrinter) stop(id activity.ID) {
	p.begin("stop")
	p.number("id", uint64(id))
	p.send()
}

func (p *jsonPrinter) result(id activity.ID, t activity.ResultType, fields []any) {
	p.begin("result")
	p.fields(fields)
	p.number("id", uint64(id))
	p.number("type", uint64(t))
	p.send()
}

func (p *jsonPrinter) refresh() {}
func (p *jsonPrinter) rest()    {}

// appendJSON appends a string in quotes. Unlike the standard library's, the
// result has only the escapes that JSON demands.
func appendJSON(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for len(s) > 0 {
		n := 0
		for n < len(s) && s[n] >= ' ' && s[n] < utf8.RuneSelf && s[n] != '"' && s[n] != '\\' {
			n++
		}
		dst = append(dst, s[:n]...)
		if s = s[n:]; s == "" {
			break
		}
		if s[0] < utf8.RuneSelf {
			dst = appendEscape(dst, s[0])
			s = s[1:]
			continue
		}
		r, size := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && size == 1 {
			size = badLen(s)
		}
		dst = utf8.AppendRune(dst, r)
		s = s[size:]
	}
	return append(dst, '"')
}

func appendEscape(dst []byte, c byte) []byte {
	const short = "\"\"\\\\\bb\ff\nn\rr\tt" // pairs of a character and its letter
	for i := 0; i < len(short); i += 2 {
		if short[i] == c {
			return append(dst, '\\', short[i+1])
		}
	}
	return fmt.Appendf(dst, `\u%04x`, c)
}

// badLen is the length of the bytes at the start of s that stand for one
// replacement character: the longest start of a valid sequence, or one byte
// (Unicode, "substitution of maximal subparts").
func badLen(s string) int {
	n := 1
	for n < len(s) && n < utf8.UTFMax && !utf8.FullRuneInString(s[:n]) {
		n++
	}
	if n > 1 && utf8.FullRuneInString(s[:n]) {
		n-- // the last byte is what does not fit
	}
	return n
}
