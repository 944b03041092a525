package gc

import (
	"bytes"
	"io"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/storepath"
)

// scanBuffer is how much is looked at at a time.
const scanBuffer = 64 << 10

// A pathScan finds what may be store paths in arbitrary bytes, by the store
// directory and the hash part after it. What follows that does not matter: no
// two paths have the same hash part.
type pathScan struct {
	prefixes [][]byte
	buf      []byte
	overlap  int // bytes that a path can lack at the end of the buffer
}

func newPathScan(dirs []storepath.Dir) *pathScan {
	s := &pathScan{buf: make([]byte, scanBuffer)}
	for _, d := range dirs {
		s.prefixes = append(s.prefixes, []byte(d+"/"))
		s.overlap = max(s.overlap, len(d)+1+storepath.HashLen-1)
	}
	return s
}

// read calls found for every hash part in r; more than once for some.
func (s *pathScan) read(r io.Reader, found func(hashPart string) error) error {
	held := 0
	for {
		n, err := r.Read(s.buf[held:])
		held += n
		if e := s.scan(s.buf[:held], found); e != nil {
			return e
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		keep := min(held, s.overlap)
		copy(s.buf, s.buf[held-keep:held])
		held = keep
	}
}

func (s *pathScan) scan(text []byte, found func(string) error) error {
	for _, prefix := range s.prefixes {
		for rest := text; ; {
			i := bytes.Index(rest, prefix)
			if i < 0 {
				break
			}
			rest = rest[i+len(prefix)-1:] // the slash may be the next one's first
			if part, ok := hashPart(rest[1:]); ok {
				if err := found(part); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func hashPart(text []byte) (string, bool) {
	if len(text) < storepath.HashLen {
		return "", false
	}
	for _, c := range text[:storepath.HashLen] {
		if !digest.IsNix32(c) {
			return "", false
		}
	}
	return string(text[:storepath.HashLen]), true
}
