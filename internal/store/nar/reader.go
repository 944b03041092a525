package nar

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"strings"
)

// A Receiver is told what an archive holds, in the order of the archive. Names
// are single components, good for any directory; the name of the top is "".
type Receiver interface {
	// Directory opens a directory; what follows lies in it until its End.
	Directory(name string) error
	End() error
	// File must read all it wants of contents, which end after size bytes.
	File(name string, executable bool, size int64, contents io.Reader) error
	Symlink(name, target string) error
}

// Read takes one archive from r and tells to of it. It reads not a byte beyond
// the archive, so r can go on with something else; as it reads piecemeal, r
// should be buffered. Errors are those of r, of to, or a *FormatError; the end
// of r inside the archive is one of these.
func Read(r io.Reader, to Receiver) error {
	p := &parser{in: r, to: to}
	if err := p.magic(); err != nil {
		return err
	}
	if err := p.node(""); err != nil {
		return err
	}
	for len(p.last) > 0 {
		if err := p.entry(); err != nil {
			return err
		}
	}
	return nil
}

// Skip reads past one archive, checking its form.
func Skip(r io.Reader) error { return Read(r, ignore{}) }

type ignore struct{}

func (ignore) Directory(string) error                    { return nil }
func (ignore) End() error                                { return nil }
func (ignore) File(string, bool, int64, io.Reader) error { return nil }
func (ignore) Symlink(string, string) error              { return nil }

type parser struct {
	in   io.Reader
	to   Receiver
	last []string // of each open directory, the name of its latest entry
	buf  [maxTarget + 1 + 8]byte
	skip []byte // made when contents are passed over
}

func (p *parser) magic() error {
	s := p.buf[:len(encMagic)]
	if err := p.fill(s); err != nil {
		return err
	}
	if string(s) != encMagic {
		return malformed("input doesn't look like a Nix archive")
	}
	return nil
}

// node reads a whole file or link, or the start of a directory.
func (p *parser) node(name string) error {
	if err := p.expect("(", "type"); err != nil {
		return err
	}
	kind, err := p.str(maxTag)
	if err != nil {
		return err
	}
	switch kind {
	case "regular":
		return p.file(name)
	case "symlink":
		return p.symlink(name)
	case "directory":
		if len(p.last) == MaxDepth {
			return malformed("archive exceeds maximum NAR directory depth of %d", MaxDepth)
		}
		p.last = append(p.last, "")
		return p.to.Directory(name)
	}
	return malformed("unknown file type '%s'", kind)
}

// close reads the end of a node and, inside a directory, that of its entry.
func (p *parser) close() error {
	if err := p.expect(")"); err != nil || len(p.last) == 0 {
		return err
	}
	return p.expect(")")
}

// entry reads the start of a directory's entry with all of it that is no
// directory, or the end of the directory.
func (p *parser) entry() error {
	tag, err := p.str(maxTag)
	if err != nil {
		return err
	}
	switch tag {
	case ")":
		return p.end()
	case "entry":
	default:
		return malformed("expected tag 'entry' or ')', got '%s'", tag)
	}
	if err := p.expect("(", "name"); err != nil {
		return err
	}
	name, err := p.str(maxTag)
	if err != nil {
		return err
	}
	if name == "" || name == "." || name == ".." || len(name) > maxName || strings.ContainsAny(name, "/\x00") {
		return malformed("NAR contains invalid file name '%s'", name)
	}
	last := &p.last[len(p.last)-1]
	if name <= *last {
		return malformed("NAR directory is not sorted")
	}
	*last = name
	if err := p.expect("node"); err != nil {
		return err
	}
	return p.node(name)
}

func (p *parser) end() error {
	p.last = p.last[:len(p.last)-1]
	if err := p.to.End(); err != nil || len(p.last) == 0 {
		return err
	}
	return p.expect(")")
}

func (p *parser) symlink(name string) error {
	if err := p.expect("target"); err != nil {
		return err
	}
	target, err := p.str(maxTarget)
	if err != nil {
		return err
	}
	if target == "" || strings.IndexByte(target, 0) >= 0 {
		return malformed("NAR contains invalid symlink target '%s'", target)
	}
	if err := p.to.Symlink(name, target); err != nil {
		return err
	}
	return p.close()
}

func (p *parser) file(name string) error {
	tag, err := p.str(maxTag)
	if err != nil {
		return err
	}
	executable := tag == "executable"
	if executable {
		marker, err := p.str(maxTag)
		if err != nil {
			return err
		}
		if marker != "" {
			return malformed("executable marker has non-empty value")
		}
		if tag, err = p.str(maxTag); err != nil {
			return err
		}
	}
	if tag != "contents" {
		return malformed("expected tag 'contents', got '%s'", tag)
	}
	if err := p.contents(name, executable); err != nil {
		return err
	}
	return p.close()
}

func (p *parser) contents(name string, executable bool) error {
	size, err := p.length()
	if err != nil {
		return err
	}
	if size > math.MaxInt64-8 {
		return &FormatError{"string is too long"}
	}
	c := &contents{in: p.in, left: int64(size)}
	var body io.Reader = c
	if l, ok := p.in.(Lender); ok {
		body = lent{c, l}
	}
	if err := p.to.File(name, executable, int64(size), body); err != nil {
		return err
	}
	if c.left > 0 {
		if p.skip == nil {
			p.skip = make([]byte, BlockSize)
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, c, p.skip); err != nil {
			return err
		}
	}
	return p.pad(int(size & 7))
}

// contents is a reader of exactly what is left of a file.
type contents struct {
	in   io.Reader
	left int64
}

func (c *contents) Read(b []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	if int64(len(b)) > c.left {
		b = b[:c.left]
	}
	n, err := c.in.Read(b)
	return n, c.took(n, len(b), err)
}

// took counts what the underlying reader gave of want bytes.
func (c *contents) took(n, want int, err error) error {
	c.left -= int64(n)
	if !errors.Is(err, io.EOF) {
		return err
	}
	if n == 0 && want > 0 {
		return errEOF()
	}
	return nil
}

// A Lender is a reader that can show what it holds instead of copying it.
type Lender interface {
	io.Reader
	// Lend reads between one and limit bytes, unless there is an error. They
	// lie in memory of the lender's that is good until its next method call.
	Lend(limit int) ([]byte, error)
}

// lent is the contents of a file that come from a lender.
type lent struct {
	*contents
	from Lender
}

func (l lent) Lend(limit int) ([]byte, error) {
	limit = int(min(int64(limit), l.left))
	if limit == 0 {
		return nil, io.EOF
	}
	b, err := l.from.Lend(limit)
	return b, l.took(len(b), limit, err)
}

// expect reads exactly these tags.
func (p *parser) expect(tags ...string) error {
	for _, want := range tags {
		got, err := p.str(maxTag)
		if err != nil {
			return err
		}
		if got != want {
			return malformed("expected tag '%s', got '%s'", want, got)
		}
	}
	return nil
}

func (p *parser) length() (uint64, error) {
	if err := p.fill(p.buf[:8]); err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(p.buf[:8]), nil
}

// str reads a string of at most limit bytes, which is no more than maxTarget.
func (p *parser) str(limit int) (string, error) {
	size, err := p.length()
	if err != nil {
		return "", err
	}
	if size > uint64(limit) {
		return "", &FormatError{"string is too long"}
	}
	n := int(size)
	b := p.buf[:(n+7)&^7]
	if err := p.fill(b); err != nil {
		return "", err
	}
	if !zero(b[n:]) {
		return "", errPadding()
	}
	return intern(b[:n]), nil
}

// intern spares the allocation for the words of the grammar.
func intern(b []byte) string {
	for _, word := range [...]string{"(", ")", "type", "node", "name", "entry", "regular", "contents", "executable"} {
		if string(b) == word {
			return word
		}
	}
	return string(b)
}

func (p *parser) pad(used int) error {
	b := p.buf[:-used&7]
	if err := p.fill(b); err != nil {
		return err
	}
	if !zero(b) {
		return errPadding()
	}
	return nil
}

func (p *parser) fill(b []byte) error {
	_, err := io.ReadFull(p.in, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errEOF()
	}
	return err
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

func errEOF() error     { return &FormatError{"unexpected end-of-file"} }
func errPadding() error { return &FormatError{"non-zero padding"} }
