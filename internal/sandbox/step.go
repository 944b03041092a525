package sandbox

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A step is one system call of the init.
type step struct {
	name   string // of the system call, for people
	nr     uint32
	args   []arg
	what   string          // what it does, as a message says it
	path   string          // and with which file; may be empty
	at     string          // and where to; may be empty
	needs  facility        // what the machine must offer for it
	save   register        // takes the result
	ignore []syscall.Errno // at most four: such a failure skips steps instead
	skip   uint32
}

// successor is the number of the one step that is no plain system call: the
// init makes a child that goes on with the plan.
const successor = 0x10000

// A register holds the result of a step for later ones; 0 is none.
type register uint8

const (
	regFile register = iota + 1
	regTree
	regRoot
)

type argKind uint8

const (
	argNumber argKind = iota
	argPointer
	argRegister
)

// An arg is one argument of a step. What a pointer points to is a string, or
// else one of data and list.
type arg struct {
	kind   argKind
	value  uint64
	string string
	data   []byte
	point  []byte   // bytes whose address is put at the end of data
	list   []string // a vector of pointers to strings that ends with a null one
	text   string   // for people; "": the string, or the value
}

func num(n uint64) arg                   { return arg{value: n} }
func octal(n uint64) arg                 { return arg{value: n, text: "0" + strconv.FormatUint(n, 8)} }
func bits(n uint64, text string) arg     { return arg{value: n, text: text} }
func cwd() arg                           { return arg{value: atCwd, text: "AT_FDCWD"} }
func null() arg                          { return arg{text: "NULL"} }
func from(r register) arg                { return arg{kind: argRegister, value: uint64(r - 1)} }
func str(s string) arg                   { return arg{kind: argPointer, string: s} }
func bytesArg(b []byte, text string) arg { return arg{kind: argPointer, data: b, text: text} }

func strs(list []string) arg {
	return arg{kind: argPointer, list: append([]string{}, list...)}
}

// String prints the argument as a plan shows it.
func (a arg) String() string {
	switch {
	case a.text != "":
		return a.text
	case a.kind == argRegister:
		return "r" + strconv.FormatUint(a.value+1, 10)
	case a.kind == argNumber:
		return strconv.FormatUint(a.value, 10)
	case a.list != nil:
		return fmt.Sprintf("%q", a.list)
	}
	return strconv.Quote(a.string)
}

// doing is the step in words.
func (s *step) doing() string {
	text := s.what
	if s.path != "" {
		text += " '" + s.path + "'"
	}
	if s.at != "" && s.at != s.path {
		text += " at '" + s.at + "'"
	}
	return text
}

// words packs 64-bit numbers.
func words(ns ...uint64) []byte {
	var b []byte
	for _, n := range ns {
		b = binary.NativeEndian.AppendUint64(b, n)
	}
	return b
}

const atCwd = ^uint64(99) // AT_FDCWD is -100

// String prints the step as a line of the plan.
func (s *step) String() string {
	texts := make([]string, len(s.args))
	for i, a := range s.args {
		texts[i] = a.String()
	}
	line := s.name + "(" + strings.Join(texts, ", ") + ")"
	if s.save != 0 {
		line = fmt.Sprintf("r%d = %s", s.save, line)
	}
	if len(s.ignore) > 0 {
		names := make([]string, len(s.ignore))
		for i, e := range s.ignore {
			names[i] = unix.ErrnoName(e)
		}
		line += " unless " + strings.Join(names, " ")
		if s.skip > 0 {
			line += fmt.Sprintf(": skip %d", s.skip)
		}
	}
	return line
}

// A plan is all that the init does, in order.
type plan struct {
	steps []step
	kept  int // descriptors from firstKept on that the init does not close
}

// firstKept is the init's first descriptor beyond those that it needs itself.
const firstKept = reportFD + 1

// String prints the plan, one system call per line.
func (p *plan) String() string {
	var b strings.Builder
	for i := range p.steps {
		b.WriteString(p.steps[i].String())
		b.WriteByte('\n')
	}
	return b.String()
}

const (
	planMagic  = 0x31534247
	headerSize = 24
	stepSize   = 72
)

// encoder lays out the data of a plan.
type encoder struct {
	data   []byte
	relocs []uint32
}

func (e *encoder) align() {
	for len(e.data)%8 != 0 {
		e.data = append(e.data, 0)
	}
}

func (e *encoder) add(b []byte) uint64 {
	e.align()
	at := len(e.data)
	e.data = append(e.data, b...)
	return uint64(at)
}

func (e *encoder) pointTo(where, to uint64) {
	e.relocs = append(e.relocs, uint32(where), uint32(to))
}

// addList adds a vector of strings and returns its offset.
func (e *encoder) addList(list []string) uint64 {
	at := e.add(make([]byte, 8*(len(list)+1)))
	for i, s := range list {
		e.pointTo(at+8*uint64(i), e.addString(s))
	}
	return at
}

func (e *encoder) addString(s string) uint64 {
	at := len(e.data)
	e.data = append(e.data, s...)
	e.data = append(e.data, 0)
	return uint64(at)
}

func (e *encoder) arg(a arg) uint64 {
	switch {
	case a.kind != argPointer:
		return a.value
	case a.list != nil:
		return e.addList(a.list)
	case a.data == nil:
		return e.addString(a.string)
	case a.point != nil:
		to := e.add(a.point)
		at := e.add(append(a.data[:len(a.data):len(a.data)], make([]byte, 8)...))
		e.pointTo(at+uint64(len(a.data)), to)
		return at
	}
	return e.add(a.data)
}

// encode makes the bytes that the init reads.
func (p *plan) encode() []byte {
	e := encoder{data: make([]byte, 0, 128*len(p.steps))}
	steps := make([]byte, 0, len(p.steps)*stepSize)
	for i := range p.steps {
		steps = p.steps[i].append(steps, &e)
	}
	e.align()
	order := binary.NativeEndian
	size := headerSize + len(steps) + 4*len(e.relocs) + len(e.data)
	out := make([]byte, 0, size)
	for _, n := range []uint32{planMagic, uint32(size), uint32(len(p.steps)), uint32(len(e.relocs) / 2), uint32(len(e.data)), uint32(p.kept)} {
		out = order.AppendUint32(out, n)
	}
	out = append(out, steps...)
	for _, n := range e.relocs {
		out = order.AppendUint32(out, n)
	}
	return append(out, e.data...)
}

func (s *step) append(b []byte, e *encoder) []byte {
	order := binary.NativeEndian
	var kinds uint32
	var args [6]uint64
	for i, a := range s.args {
		kinds |= uint32(a.kind) << (2 * i)
		args[i] = e.arg(a)
	}
	b = order.AppendUint32(b, s.nr)
	b = order.AppendUint32(b, kinds)
	var ignore [4]syscall.Errno
	copy(ignore[:], s.ignore)
	for _, n := range ignore {
		b = order.AppendUint16(b, uint16(n))
	}
	b = order.AppendUint32(b, s.skip)
	b = order.AppendUint32(b, uint32(s.save))
	for _, n := range args {
		b = order.AppendUint64(b, n)
	}
	return b
}
