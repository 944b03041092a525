package refscan

import "slices"

// A Scanner is a writer that notes which candidates occur in what is written,
// anywhere, however it is cut into pieces.
type Scanner struct {
	candidates []string // still looked for
	found      []string
	hit        []bool // per candidate
	hits       int
	index      *index
	carry      [4 * HashLen]byte // the end of what was written
	kept       int
}

// New makes a scanner for these hash parts. Texts of another length than
// HashLen are never found.
func New(candidates []string) *Scanner {
	s := &Scanner{}
	for _, c := range candidates {
		if len(c) == HashLen {
			s.candidates = append(s.candidates, c)
		}
	}
	slices.Sort(s.candidates)
	s.candidates = slices.Compact(s.candidates)
	s.prepare()
	return s
}

func (s *Scanner) prepare() {
	s.hits = 0
	s.hit = make([]bool, len(s.candidates))
	s.index = newIndex(s.candidates)
}

// Write never fails.
func (s *Scanner) Write(p []byte) (int, error) {
	size := len(p)
	if len(s.candidates) == 0 {
		return size, nil
	}
	// What straddles the border lies in the carry and the first bytes of p.
	head := p[:min(len(p), len(s.carry)-s.kept)]
	joined := s.carry[:s.kept+copy(s.carry[s.kept:], head)]
	s.index.scan(joined, s.note)
	if len(head) < len(p) {
		s.index.scan(p, s.note)
		joined = p
	}
	s.kept = copy(s.carry[:], joined[max(0, len(joined)-(HashLen-1)):])
	s.forget()
	return size, nil
}

func (s *Scanner) note(candidate, _ int) {
	if !s.hit[candidate] {
		s.hit[candidate] = true
		s.hits++
		s.found = append(s.found, s.candidates[candidate])
	}
}

// forget takes those found out of the index, lest text that is full of them
// costs more. It waits until they are many, so that all rebuilding together
// costs little.
func (s *Scanner) forget() {
	if s.hits == 0 || s.hits*8 < len(s.candidates) {
		return
	}
	left := s.candidates[:0:0]
	for i, c := range s.candidates {
		if !s.hit[i] {
			left = append(left, c)
		}
	}
	s.candidates = left
	s.prepare()
}

// Found returns what has been found so far, sorted.
func (s *Scanner) Found() []string {
	return slices.Sorted(slices.Values(s.found))
}
