package refscan

import (
	"fmt"
	"io"
	"maps"
	"slices"
)

// A Rewriter is a writer that passes on what it gets with hash parts replaced
// by others. Of occurrences that overlap, the first one counts. It holds back
// the last bytes until Close.
type Rewriter struct {
	w        io.Writer
	to       []string
	index    *index
	pending  []byte // not passed on
	passed   int64  // bytes passed on
	matches  []match
	replaced func(at int64) // if set, told where in the stream, ascending
}

type match struct{ candidate, at int }

// NewRewriter makes a rewriter from each key to its value. All must have the
// length of a hash part.
func NewRewriter(w io.Writer, rewrites map[string]string) (*Rewriter, error) {
	from := slices.Sorted(maps.Keys(rewrites))
	r := &Rewriter{w: w}
	for _, f := range from {
		if len(f) != HashLen || len(rewrites[f]) != HashLen {
			return nil, fmt.Errorf("cannot rewrite '%s' to '%s': not two hash parts", f, rewrites[f])
		}
		r.to = append(r.to, rewrites[f])
	}
	r.index = newIndex(from)
	return r, nil
}

// Reset starts a new stream to w with the same rewrites. What is held back is
// lost.
func (r *Rewriter) Reset(w io.Writer) {
	r.w, r.pending, r.passed = w, r.pending[:0], 0
}

// Write fails only if the underlying writer does.
func (r *Rewriter) Write(p []byte) (int, error) {
	const most = 256 << 10 // of p at a time, so that pending stays small
	size := len(p)
	for len(p) > 0 {
		n := min(len(p), most)
		r.pending = append(r.pending, p[:n]...)
		p = p[n:]
		if err := r.pass(HashLen - 1); err != nil {
			return size - len(p), err
		}
	}
	return size, nil
}

// Close passes on what has been held back. It does not close the underlying
// writer.
func (r *Rewriter) Close() error { return r.pass(0) }

// pass replaces and writes, but holds back the last bytes, as far as they are
// not the end of a replacement.
func (r *Rewriter) pass(hold int) error {
	r.matches = r.matches[:0]
	r.index.scan(r.pending, func(candidate, at int) { r.matches = append(r.matches, match{candidate, at}) })
	slices.SortFunc(r.matches, func(a, b match) int { return a.at - b.at })
	end := 0 // of the latest replacement
	for _, m := range r.matches {
		if m.at < end {
			continue
		}
		end = m.at + copy(r.pending[m.at:], r.to[m.candidate])
		if r.replaced != nil {
			r.replaced(r.passed + int64(m.at))
		}
	}
	n := max(end, len(r.pending)-hold)
	if n <= 0 {
		return nil
	}
	if _, err := r.w.Write(r.pending[:n]); err != nil {
		return err
	}
	r.passed += int64(n)
	r.pending = r.pending[:copy(r.pending, r.pending[n:])]
	return nil
}
