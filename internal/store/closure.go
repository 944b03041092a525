package store

import (
	"cmp"
	"database/sql/driver"
	"errors"
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

	nodes   []node
	seen    []uint32 // per node: the last round that came by
	round   uint32   // of the current walk
	found   []int32  // by the current walk
	scanned int32    // nodes below this are all that was valid then, by path

	roots map[storepath.Path]int32 // nodes that were asked for by path
	rows  map[int64]int32          // row id to node
	dense []int32                  // the same for low ids: node+1, or 0

	spent   int64 // on questions about one path, in roughly microseconds
	limit   int64 // of spent, before scanning; 0 means not known yet
	reading bool  // a read transaction is open
}

// A node is a valid path; its row is asked for its neighbours when a walk
// first comes by.
type node struct {
	path   storepath.Path
	row    int64
	next   []int32 // by path
	loaded bool
}

// NewClosures returns an empty memory.
func (s *Store) NewClosures() *Closures { return s.newGraph("references") }

func (s *Store) newGraph(edges query) *Closures {
	return &Closures{store: s, edges: edges, roots: map[storepath.Path]int32{}, rows: map[int64]int32{}}
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
	if err := c.run(func() error { return c.walk(roots) }); err != nil {
		return nil, err
	}
	c.sortFound()
	paths := make([]storepath.Path, len(c.found))
	for i, n := range c.found {
		paths[i] = c.nodes[n].path
	}
	return paths, nil
}

// walk collects the closure: what is before the cursor has been expanded.
func (c *Closures) walk(roots []storepath.Path) error {
	c.nextRound()
	for _, p := range roots {
		n, err := c.find(p)
		if err != nil {
			return err
		}
		c.visit(n)
	}
	for cursor := 0; cursor < len(c.found); cursor++ {
		next, err := c.expand(c.found[cursor])
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
		clear(c.seen)
		c.round = 0
	}
	c.round++
	c.found = c.found[:0]
}

// visit adds a node to the walk and tells whether it is new to it.
func (c *Closures) visit(n int32) bool {
	if c.seen[n] == c.round {
		return false
	}
	c.seen[n] = c.round
	c.found = append(c.found, n)
	return true
}

func (c *Closures) sortFound() {
	for _, n := range c.found {
		if n >= c.scanned {
			slices.SortFunc(c.found, c.byPath)
			return
		}
	}
	slices.Sort(c.found) // the numbers are in the order of the paths
}

func (c *Closures) byPath(a, b int32) int { return cmp.Compare(c.nodes[a].path, c.nodes[b].path) }

// find returns the node of a valid path.
func (c *Closures) find(p storepath.Path) (int32, error) {
	if n, ok := c.roots[p]; ok {
		return n, nil
	}
	if n, ok := slices.BinarySearchFunc(c.nodes[:c.scanned], p, func(n node, p storepath.Path) int {
		return cmp.Compare(n.path, p)
	}); ok {
		return int32(n), nil
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
	n, ok := c.nodeOf(row)
	if !ok {
		n = c.add(row, p)
	}
	c.roots[p] = n
	return n, nil
}

func (c *Closures) nodeOf(row int64) (int32, bool) {
	if row >= 0 && row < int64(len(c.dense)) && c.dense[row] > 0 {
		return c.dense[row] - 1, true
	}
	n, ok := c.rows[row]
	return n, ok
}

func (c *Closures) add(row int64, p storepath.Path) int32 {
	n := int32(len(c.nodes))
	c.nodes = append(c.nodes, node{path: p, row: row})
	c.seen = append(c.seen, 0)
	c.rows[row] = n
	return n
}

// expand returns the neighbours of a node. It may find that it is time to scan
// and return errScanned.
func (c *Closures) expand(n int32) ([]int32, error) {
	if c.nodes[n].loaded {
		return c.nodes[n].next, nil
	}
	if err := c.begin(); err != nil {
		return nil, err
	}
	if err := c.maybeScan(); err != nil {
		return nil, err
	}
	var next []int32
	err := c.store.db.each(c.edges, func(row []driver.Value) error {
		id, _ := asInt(row[0])
		known, ok := c.nodeOf(id)
		if !ok {
			p, err := c.store.stored(row[1])
			if err != nil {
				return err
			}
			known = c.add(id, p)
		}
		next = append(next, known)
		return nil
	}, c.nodes[n].row)
	if err != nil {
		return nil, err
	}
	c.spent += askCost + int64(len(next))
	slices.SortFunc(next, c.byPath)
	c.nodes[n].next, c.nodes[n].loaded = next, true
	return next, nil
}

// errScanned means that the nodes have new numbers: start again.
var errScanned = errors.New("the graph was read anew")

// run runs op in one read transaction, if it asks the database at all: the
// answers fit together, and each costs less.
func (c *Closures) run(op func() error) error {
	return c.store.retry(func() error {
		err := op()
		if errors.Is(err, errScanned) {
			err = op()
		}
		if !c.reading {
			return err
		}
		c.reading = false
		if e := c.store.endTransaction(err == nil); err == nil {
			err = e
		}
		return err
	})
}

func (c *Closures) begin() error {
	if c.reading {
		return nil
	}
	err := c.store.db.run("begin")
	c.reading = err == nil
	return err
}
