package store

import (
	"database/sql/driver"
	"math"
	"slices"

	"gobuild/internal/store/storepath"
)

// Closures computes closures under the references and remembers what it read:
// a valid path's references never change, so one Closures serves thousands of
// builds. Paths that it knows must be kept from the garbage collector.
//
// It asks for one path at a time at first, and reads the whole table when that
// has become cheaper.
type Closures struct {
	store *Store
	edges query // "references" or "referrers"

	index map[storepath.Path]int32 // path to node
	rows  map[int64]int32          // row id to node
	nodes []node

	stack   []int32
	round   uint32 // of the current walk
	asked   int64
	limit   int64 // ask so often before scanning; 0 means not known yet
	reading bool  // a read transaction is open
}

// A node is a valid path; its row is asked for its edges when a walk first
// comes by.
type node struct {
	path   storepath.Path
	row    int64
	next   []int32
	loaded bool
	seen   uint32 // the last round that came by
}

// NewClosures returns an empty memory.
func (s *Store) NewClosures() *Closures { return s.newGraph("references") }

func (s *Store) newGraph(edges query) *Closures {
	return &Closures{store: s, edges: edges, index: map[storepath.Path]int32{}, rows: map[int64]int32{}}
}

// Closure returns the roots and everything that they refer to, directly or
// not, sorted. All of it is valid.
func (s *Store) Closure(roots ...storepath.Path) ([]storepath.Path, error) {
	return s.NewClosures().Of(roots...)
}

// ReferrersClosure returns the roots and everything that refers to them,
// directly or not, sorted.
func (s *Store) ReferrersClosure(roots ...storepath.Path) ([]storepath.Path, error) {
	return s.newGraph("referrers").Of(roots...)
}

// Of returns the closure of roots, sorted. A root that is not valid gives
// ErrInvalidPath.
func (c *Closures) Of(roots ...storepath.Path) ([]storepath.Path, error) {
	found, err := c.walk(roots)
	if err != nil {
		return nil, err
	}
	paths := make([]storepath.Path, len(found))
	for i, n := range found {
		paths[i] = c.nodes[n].path
	}
	slices.Sort(paths)
	return paths, nil
}

// walk returns the nodes of the closure; they stay the caller's until the next
// walk.
func (c *Closures) walk(roots []storepath.Path) ([]int32, error) {
	err := c.store.retry(func() error { return c.finish(c.attempt(roots)) })
	return c.stack, err
}

// attempt leaves the closure in stack: what is before the cursor has been
// expanded.
func (c *Closures) attempt(roots []storepath.Path) error {
	c.nextRound()
	c.stack = c.stack[:0]
	for _, p := range roots {
		n, err := c.find(p)
		if err != nil {
			return err
		}
		c.visit(n)
	}
	for cursor := 0; cursor < len(c.stack); cursor++ {
		next, err := c.expand(c.stack[cursor])
		if err != nil {
			return err
		}
		for _, n := range next {
			c.visit(n)
		}
	}
	return nil
}

func (c *Closures) nextRound() {
	if c.round == math.MaxUint32 {
		for i := range c.nodes {
			c.nodes[i].seen = 0
		}
		c.round = 0
	}
	c.round++
}

func (c *Closures) visit(n int32) {
	if c.nodes[n].seen != c.round {
		c.nodes[n].seen = c.round
		c.stack = append(c.stack, n)
	}
}

// find returns the node of a valid path.
func (c *Closures) find(p storepath.Path) (int32, error) {
	if n, ok := c.index[p]; ok {
		return n, nil
	}
	if err := c.begin(); err != nil {
		return 0, err
	}
	row, found, err := c.store.db.integer("path-id", string(p))
	switch {
	case err != nil:
		return 0, err
	case !found:
		return 0, invalid(p)
	}
	return c.node(row, p), nil
}

// node returns the node of a row, making it if it is new.
func (c *Closures) node(row int64, p storepath.Path) int32 {
	if n, ok := c.rows[row]; ok {
		return n
	}
	n := int32(len(c.nodes))
	c.nodes = append(c.nodes, node{path: p, row: row})
	c.rows[row], c.index[p] = n, n
	return n
}

// expand returns the neighbours of a node.
func (c *Closures) expand(n int32) ([]int32, error) {
	if c.nodes[n].loaded {
		return c.nodes[n].next, nil
	}
	if err := c.begin(); err != nil {
		return nil, err
	}
	if err := c.maybeScan(); err != nil || c.nodes[n].loaded {
		return c.nodes[n].next, err
	}
	var next []int32
	err := c.store.db.each(c.edges, func(row []driver.Value) error {
		id, _ := asInt(row[0])
		if known, ok := c.rows[id]; ok {
			next = append(next, known)
			return nil
		}
		p, err := c.store.stored(row[1])
		next = append(next, c.node(id, p))
		return err
	}, c.nodes[n].row)
	if err != nil {
		return nil, err
	}
	c.asked++
	c.nodes[n].next, c.nodes[n].loaded = next, true
	return next, nil
}

// begin opens a read transaction: the answers fit together, and each costs
// less.
func (c *Closures) begin() error {
	if c.reading {
		return nil
	}
	err := c.store.db.run("begin")
	c.reading = err == nil
	return err
}

func (c *Closures) finish(err error) error {
	if !c.reading {
		return err
	}
	c.reading = false
	if e := c.store.endTransaction(err == nil); err == nil {
		err = e
	}
	return err
}
