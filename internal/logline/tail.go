package logline

// A Tail keeps the last lines of a log. The zero value keeps none.
type Tail struct {
	ring []string
	next int // where the next line goes once the ring is full
	max  int
}

// NewTail makes a tail of at most n lines.
func NewTail(n int) *Tail { return &Tail{max: max(n, 0)} }

// Add appends a line.
func (t *Tail) Add(line string) {
	if len(t.ring) < t.max {
		t.ring = append(t.ring, line)
		return
	}
	if t.max > 0 {
		t.ring[t.next] = line
		t.next = (t.next + 1) % t.max
	}
}

// Lines returns the lines, oldest first.
func (t *Tail) Lines() []string {
	return append(t.ring[t.next:len(t.ring):len(t.ring)], t.ring[:t.next]...)
}
