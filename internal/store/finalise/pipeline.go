package finalise

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"io"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/fstree"
	"gobuild/internal/store/nar"
	"gobuild/internal/store/optimise"
	"gobuild/internal/store/refscan"
)

const (
	ringSize    = 4       // blocks in flight
	inlineBytes = 1 << 20 // archives up to about this size need no goroutines
	firstBlock  = 16 << 10
)

// A pipeline takes an archive's blocks, hashes them and scans them. When the
// archive turns out to be long, each hash gets a goroutine of its own while
// the caller scans and reads on. close joins them.
type pipeline struct {
	narHash hash.Hash
	size    int64
	scan    *refscan.Scanner
	extra   ExtraHash
	files   *fileSums // nil if nobody wants them
	single  uint64    // inode of the file that is the whole tree; 0 for none
	hashers []hasher
	workers []worker
	ring    []block
	turn    int // which block of the ring the caller has
}

// A block is a part of the archive, and where in it files begin and end.
type block struct {
	data  []byte
	marks []mark
}

// A hasher takes the blocks in their order.
type hasher interface{ take(block) }

// A wholeHash is of everything.
type wholeHash struct{ io.Writer }

func (h wholeHash) take(b block) { h.Write(b.data) }

// An ExtraHash is a running hash of an archive, or of a part of it, for a
// content address. Writing never fails.
type ExtraHash interface {
	io.Writer
	// Digest ends the stream: nothing must be written afterwards.
	Digest() digest.Digest
}

type worker struct {
	in   chan block
	done chan struct{}
}

func newPipeline(scan *refscan.Scanner, extra ExtraHash) *pipeline {
	p := &pipeline{narHash: sha256.New(), scan: scan, extra: extra}
	p.hashers = append(p.hashers, wholeHash{p.narHash})
	if extra != nil {
		p.hashers = append(p.hashers, wholeHash{extra})
	}
	return p
}

// sumFiles makes the pipeline hash each file alone, too.
func (p *pipeline) sumFiles() {
	p.files = newFileSums()
	p.hashers = append(p.hashers, p.files)
}

// Next is for nar.DumpTree.
func (p *pipeline) Next(data []byte) ([]byte, error) {
	if data == nil {
		p.ring = []block{{data: make([]byte, firstBlock)}}
		return p.ring[0].data, nil
	}
	p.size += int64(len(data))
	if p.workers == nil && p.size > inlineBytes {
		p.start()
	}
	current := &p.ring[p.turn]
	full := block{data: data, marks: current.marks}
	if p.workers == nil {
		for _, h := range p.hashers {
			h.take(full)
		}
		p.scan.Write(data)
		if len(data) >= firstBlock/2 && len(current.data) == firstBlock {
			current.data = make([]byte, nar.BlockSize)
		}
		current.marks = current.marks[:0]
		return current.data, nil
	}
	for _, w := range p.workers {
		w.in <- full
	}
	p.scan.Write(data)
	return p.free(), nil
}

// BeginFile is for nar.DumpTree.
func (p *pipeline) BeginFile(n *fstree.Node, at int) {
	if p.files != nil && n.Top() {
		p.single = n.Stat.Ino
	}
	p.mark(mark{at: at, inode: n.Stat.Ino})
}

// EndFile is for nar.DumpTree.
func (p *pipeline) EndFile(at int) { p.mark(mark{at: at, end: true}) }

func (p *pipeline) mark(m mark) {
	if p.files != nil && p.single == 0 {
		b := &p.ring[p.turn]
		b.marks = append(b.marks, m)
	}
}

// start is called while the caller's block is the ring's only one.
func (p *pipeline) start() {
	for _, h := range p.hashers {
		w := worker{in: make(chan block, ringSize), done: make(chan struct{}, ringSize)}
		p.workers = append(p.workers, w)
		go func() {
			for b := range w.in {
				h.take(b)
				w.done <- struct{}{}
			}
			close(w.done)
		}()
	}
}

// free returns a block that nobody reads any more.
func (p *pipeline) free() []byte {
	p.turn = (p.turn + 1) % ringSize
	if p.turn == len(p.ring) {
		p.ring = append(p.ring, block{data: make([]byte, nar.BlockSize)})
		return p.ring[p.turn].data
	}
	for _, w := range p.workers {
		<-w.done // blocks come back in order, so this is the oldest one
	}
	b := &p.ring[p.turn]
	b.marks = b.marks[:0]
	return b.data
}

// close waits for the goroutines. It must be called before the sums are taken,
// and in any case.
func (p *pipeline) close() {
	for _, w := range p.workers {
		close(w.in)
		for range w.done {
		}
	}
	p.workers = nil
}

func (p *pipeline) result(id string) OutputResult {
	p.close()
	r := OutputResult{ID: id, NarHash: digest.FromHash(digest.SHA256, p.narHash), NarSize: p.size, References: p.scan.Found()}
	if p.extra != nil {
		r.Extra = p.extra.Digest()
	}
	return r
}

// plainHash hashes everything.
type plainHash struct {
	hash.Hash
	algo digest.Algorithm
}

func (h plainHash) Digest() digest.Digest { return digest.FromHash(h.algo, h.Hash) }

// sums are the hashes of the files, once the pipeline is closed. A tree that is
// a single file has the hash of the archive.
func (p *pipeline) sums(narHash digest.Digest) []optimise.Sum {
	switch {
	case p.files == nil:
		return nil
	case p.single == 0:
		return p.files.sums
	}
	return []optimise.Sum{{Inode: p.single, Hash: [32]byte(narHash.Bytes())}}
}

// contentsHash hashes only the contents of the single file, not executable,
// that the archive is known to hold.
type contentsHash struct {
	to   ExtraHash
	head [nar.ContentsOffset]byte
	seen int   // of head
	left int64 // of the contents, once head is complete
}

func (h *contentsHash) Write(b []byte) (int, error) {
	size := len(b)
	if h.seen < len(h.head) {
		n := copy(h.head[h.seen:], b)
		h.seen += n
		b = b[n:]
		if h.seen == len(h.head) {
			h.left = int64(binary.LittleEndian.Uint64(h.head[len(h.head)-8:]))
		}
	}
	b = b[:min(int64(len(b)), h.left)]
	h.left -= int64(len(b))
	h.to.Write(b)
	return size, nil
}

func (h *contentsHash) Digest() digest.Digest { return h.to.Digest() }

// NewExtra makes the hash that an output asks for with Extra, SelfHash and
// Flat, for those who have its archive as a stream; nil if it asks for none. A
// flat hash takes for granted that the archive is of a file that is not
// executable.
func NewExtra(o *Output) (ExtraHash, error) {
	if o.Extra == digest.Unknown {
		return nil, nil
	}
	var h ExtraHash = plainHash{o.Extra.New(), o.Extra}
	if o.SelfHash != "" {
		m, err := refscan.NewModulo(o.Extra, o.SelfHash)
		if err != nil {
			return nil, err
		}
		h = m
	}
	if o.Flat {
		h = &contentsHash{to: h}
	}
	return h, nil
}
