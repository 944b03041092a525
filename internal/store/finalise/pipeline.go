package finalise

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"io"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/nar"
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
	extra   extraHash
	hashers []io.Writer
	workers []worker
	ring    [][]byte
	turn    int // which block of the ring the caller has
}

type extraHash interface {
	io.Writer
	Digest() digest.Digest
}

type worker struct {
	in   chan []byte
	done chan struct{}
}

func newPipeline(scan *refscan.Scanner, extra extraHash) *pipeline {
	p := &pipeline{narHash: sha256.New(), scan: scan, extra: extra}
	p.hashers = append(p.hashers, p.narHash)
	if extra != nil {
		p.hashers = append(p.hashers, extra)
	}
	return p
}

// Next is for nar.DumpTree.
func (p *pipeline) Next(block []byte) ([]byte, error) {
	if block == nil {
		p.ring = [][]byte{make([]byte, firstBlock)}
		return p.ring[0], nil
	}
	p.size += int64(len(block))
	if p.workers == nil && p.size > inlineBytes {
		p.start()
	}
	if p.workers == nil {
		for _, h := range p.hashers {
			h.Write(block)
		}
		p.scan.Write(block)
		if len(block) >= firstBlock/2 && len(p.ring[0]) == firstBlock {
			p.ring[0] = make([]byte, nar.BlockSize)
		}
		return p.ring[0], nil
	}
	for _, w := range p.workers {
		w.in <- block
	}
	p.scan.Write(block)
	return p.free(), nil
}

// start is called while the caller's block is the ring's only one.
func (p *pipeline) start() {
	for _, h := range p.hashers {
		w := worker{in: make(chan []byte, ringSize), done: make(chan struct{}, ringSize)}
		p.workers = append(p.workers, w)
		go func() {
			for block := range w.in {
				h.Write(block)
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
		p.ring = append(p.ring, make([]byte, nar.BlockSize))
		return p.ring[p.turn]
	}
	for _, w := range p.workers {
		<-w.done // blocks come back in order, so this is the oldest one
	}
	return p.ring[p.turn]
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

// contentsHash hashes only the contents of the single file, not executable,
// that the archive is known to hold.
type contentsHash struct {
	to   extraHash
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

// newExtra makes the second hash that an output asks for, nil if it does not.
func newExtra(o *Output) (extraHash, error) {
	if o.Extra == digest.Unknown {
		return nil, nil
	}
	var h extraHash = plainHash{o.Extra.New(), o.Extra}
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
