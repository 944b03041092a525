package nar

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/fstree"
)

// Blocks takes an archive block by block. It gives out the memory too, so that
// a consumer that works in parallel need not copy.
type Blocks interface {
	// Next takes a block and returns memory for the following one, whose
	// length is its capacity. The first call has a nil block. The last block
	// may be empty, and what is returned for it is not used.
	Next(block []byte) ([]byte, error)
}

// FileBlocks are Blocks that also want to know which bytes describe which
// file. Those bytes with Magic before them are an archive of that file alone.
type FileBlocks interface {
	Blocks
	// BeginFile and EndFile tell where in the block being filled the
	// description of a file or symbolic link begins and ends.
	BeginFile(n *fstree.Node, at int)
	EndFile(at int)
}

// Magic is what every archive begins with.
const Magic = encMagic

// Dump writes the archive of the tree at path.
func Dump(w io.Writer, path string) error {
	return DumpTree(&writerBlocks{w: w}, fstree.Walk{Path: path}, nil)
}

// DumpTree writes the archive of a tree. If before is given, it visits each
// node ahead of the archiver. The walk's MaxDepth is set here.
func DumpTree(b Blocks, walk fstree.Walk, before fstree.Visitor) error {
	first, err := b.Next(nil)
	if err != nil {
		return err
	}
	e := &encoder{out: b, buf: first, before: before}
	e.files, _ = b.(FileBlocks)
	e.text(encMagic)
	walk.MaxDepth = MaxDepth
	if err := walk.Walk(e); err != nil {
		return err
	}
	e.flush()
	return e.err
}

// DumpNode writes the archive of one file or symbolic link that a walk is at.
// Nothing may have been read from the file yet.
func DumpNode(b Blocks, n *fstree.Node) error {
	first, err := b.Next(nil)
	if err != nil {
		return err
	}
	e := &encoder{out: b, buf: first}
	e.text(encMagic)
	err = e.leaf(n)
	e.text(encClose)
	e.flush()
	return errors.Join(err, e.err)
}

// WriteFile writes the archive of a single file that is not executable.
func WriteFile(w io.Writer, contents []byte) error {
	var size [8]byte
	binary.LittleEndian.PutUint64(size[:], uint64(len(contents)))
	pad := make([]byte, -len(contents)&7)
	for _, part := range [][]byte{[]byte(encMagic + encRegular + encContents), size[:], contents, pad, []byte(encClose)} {
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// writerBlocks hands blocks to a writer. Small archives get by with a small
// block.
type writerBlocks struct {
	w     io.Writer
	block []byte
}

func (b *writerBlocks) Next(block []byte) ([]byte, error) {
	if block == nil {
		b.block = make([]byte, 16<<10)
		return b.block, nil
	}
	if len(b.block) < BlockSize && len(block) >= len(b.block)/2 {
		b.block = make([]byte, BlockSize)
	}
	_, err := b.w.Write(block)
	return b.block, err
}

// An encoder is the visitor that turns nodes into the archive.
type encoder struct {
	out    Blocks
	buf    []byte
	n      int // used of buf
	err    error
	before fstree.Visitor
	files  FileBlocks // nil if nobody wants to know
	target [maxTarget + 1]byte
}

func (e *encoder) Visit(n *fstree.Node) error {
	if e.before != nil {
		if err := e.before.Visit(n); err != nil {
			return err
		}
	}
	if !n.Top() {
		e.text(encEntry)
		e.str(n.Name)
		e.text(encNode)
	}
	if n.Kind() == unix.S_IFDIR {
		e.text(encDirectory)
		return e.err
	}
	if e.files != nil {
		e.files.BeginFile(n, e.n)
	}
	err := e.leaf(n)
	e.text(encClose)
	if e.files != nil {
		e.files.EndFile(e.n)
	}
	if !n.Top() {
		e.text(encClose)
	}
	return errors.Join(err, e.err)
}

// leaf describes what is no directory, up to its closing parenthesis.
func (e *encoder) leaf(n *fstree.Node) error {
	if n.Kind() == unix.S_IFLNK {
		return e.symlink(n)
	}
	return e.file(n)
}

func (e *encoder) Leave(n *fstree.Node) error {
	if e.before != nil {
		if err := e.before.Leave(n); err != nil {
			return err
		}
	}
	e.closeNode(n)
	return e.err
}

// closeNode ends the node and, inside a directory, its entry.
func (e *encoder) closeNode(n *fstree.Node) {
	if n.Top() {
		e.text(encClose)
	} else {
		e.text(encClose + encClose)
	}
}

func (e *encoder) symlink(n *fstree.Node) error {
	size, err := unix.Readlinkat(n.Dir, n.Name, e.target[:])
	if err != nil {
		return fmt.Errorf("reading symbolic link '%s': %w", n.Path(), err)
	}
	if size > maxTarget {
		return &fstree.TreeError{Path: n.Path(), Problem: "has a target that is too long"}
	}
	e.text(encSymlink)
	e.str(string(e.target[:size]))
	return nil
}

func (e *encoder) file(n *fstree.Node) error {
	e.text(encRegular)
	if n.Stat.Mode&0o100 != 0 {
		e.text(encExecutable)
	}
	e.text(encContents)
	e.length(n.Stat.Size)
	if err := e.contents(n); err != nil {
		return err
	}
	e.pad(n.Stat.Size)
	return nil
}

// contents reads the file straight into the blocks. Wherever there is room it
// asks for a byte too many, to see for nothing whether the file has grown.
func (e *encoder) contents(n *fstree.Node) error {
	for left := n.Stat.Size; left > 0 && e.err == nil; {
		if room := int64(len(e.buf) - e.n); room < left && room < int64(len(e.buf))/2 {
			e.flush()
		}
		room := e.buf[e.n:]
		if int64(len(room)) > left {
			room = room[:left+1]
		}
		got, err := unix.Read(n.FD, room)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("reading '%s': %w", n.Path(), err)
		case got == 0 || int64(got) > left:
			return &fstree.TreeError{Path: n.Path(), Problem: "changed its size while it was being read"}
		}
		e.n += got
		left -= int64(got)
	}
	return e.err
}

// str encodes a string.
func (e *encoder) str(s string) {
	e.length(int64(len(s)))
	e.text(s)
	e.pad(int64(len(s)))
}

func (e *encoder) length(n int64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(n))
	e.text(string(b[:]))
}

func (e *encoder) pad(n int64) { e.text("\x00\x00\x00\x00\x00\x00\x00"[:-n&7]) }

// text appends what is encoded already.
func (e *encoder) text(s string) {
	for e.err == nil {
		c := copy(e.buf[e.n:], s)
		e.n += c
		if s = s[c:]; s == "" {
			return
		}
		e.flush()
	}
}

func (e *encoder) flush() {
	if e.err != nil {
		return
	}
	e.buf, e.err = e.out.Next(e.buf[:e.n])
	e.n = 0
}
