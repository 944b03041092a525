package refscan

import (
	"hash"
	"strconv"
	"strings"

	"gobuild/internal/store/digest"
)

// A Modulo hashes a stream that holds its own hash part: as if that were NUL
// bytes wherever it occurs, and then the places of the occurrences (nar spec,
// section 8). Without any it is the plain hash.
type Modulo struct {
	algo   digest.Algorithm
	hash   hash.Hash
	stream *Rewriter
	places []byte // "|" and the decimal offset of each
}

// NewModulo makes the hash modulo selfHash, which is a hash part.
func NewModulo(algo digest.Algorithm, selfHash string) (*Modulo, error) {
	m := &Modulo{algo: algo, hash: algo.New()}
	stream, err := NewRewriter(m.hash, map[string]string{selfHash: strings.Repeat("\x00", HashLen)})
	if err != nil {
		return nil, err
	}
	stream.replaced = func(at int64) { m.places = strconv.AppendInt(append(m.places, '|'), at, 10) }
	m.stream = stream
	return m, nil
}

// Write never fails.
func (m *Modulo) Write(p []byte) (int, error) { return m.stream.Write(p) }

// Digest ends the stream: nothing must be written afterwards.
func (m *Modulo) Digest() digest.Digest {
	_ = m.stream.Close() // a hash takes everything
	m.hash.Write(m.places)
	m.places = nil
	return digest.FromHash(m.algo, m.hash)
}
