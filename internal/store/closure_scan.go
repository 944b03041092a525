package store

import (
	"database/sql/driver"
	"math"
	"slices"

	"gobuild/internal/store/storepath"
)

// denseSlack is how many row ids per path there may be for an array of them
// all to be the best index; deletions leave gaps.
const denseSlack = 16

// A question about one path costs about this, and one more for each answer,
// when a row of the table with its references costs one.
const (
	askCost     = 4
	scanBargain = 2    // scan after spending this part of what it costs
	cheapWalk   = 2048 // never scan before this was spent
)

// maybeScan reads the whole graph, once a good part of what that costs has been
// spent on single questions, and returns errScanned.
func (c *Closures) maybeScan() error {
	if c.spent < cheapWalk {
		return nil
	}
	if c.limit == 0 {
		rows, _, err := c.store.db.integer("max-id")
		if err != nil {
			return err
		}
		c.limit = max(cheapWalk, rows/scanBargain)
	}
	if c.spent < c.limit {
		return nil
	}
	err := c.scanPaths()
	if err == nil {
		err = c.scanRefs()
	}
	if err != nil {
		c.reset() // half a graph is none
		return err
	}
	c.spent, c.limit = 0, math.MaxInt64
	return errScanned
}

func (c *Closures) reset() {
	c.nodes, c.scanned, c.dense, c.seen = nil, 0, nil, nil
	clear(c.roots)
	clear(c.rows)
	c.nextRound()
}

// scanPaths numbers all valid paths anew, in their order.
func (c *Closures) scanPaths() error {
	c.reset()
	highest := int64(0)
	err := c.store.db.each("all-ids", func(row []driver.Value) error {
		id, _ := asInt(row[0])
		p, err := c.store.stored(row[1])
		c.nodes = append(c.nodes, node{path: p, row: id, loaded: true})
		highest = max(highest, id)
		return err
	})
	if err != nil {
		return err
	}
	c.scanned = int32(len(c.nodes))
	c.seen = make([]uint32, len(c.nodes))
	c.indexRows(highest)
	return nil
}

func (c *Closures) indexRows(highest int64) {
	if highest < denseSlack*int64(len(c.nodes)) {
		c.dense = make([]int32, highest+1)
	}
	for i := range c.nodes {
		if row := c.nodes[i].row; row >= 0 && row < int64(len(c.dense)) {
			c.dense[row] = int32(i) + 1
		} else {
			c.rows[row] = int32(i)
		}
	}
}

// scanRefs fills the neighbours of every node. They lie in one array.
func (c *Closures) scanRefs() error {
	var from, to []int32
	err := c.store.db.each("all-refs", func(row []driver.Value) error {
		a, _ := asInt(row[0])
		b, _ := asInt(row[1])
		f, ok1 := c.nodeOf(a)
		t, ok2 := c.nodeOf(b)
		if ok1 && ok2 { // else a row about no path: not ours to judge
			from, to = append(from, f), append(to, t)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if c.edges == "referrers" {
		from, to = to, from
	}
	next, ends := c.group(from, to)
	for i := range c.nodes {
		c.nodes[i].next = next[ends[i]:ends[i+1]:ends[i+1]]
		slices.Sort(c.nodes[i].next)
	}
	return nil
}

// group sorts the edges by where they start, by counting. Those of node i are
// then between ends[i] and ends[i+1].
func (c *Closures) group(from, to []int32) (next, ends []int32) {
	ends = make([]int32, len(c.nodes)+1)
	for _, f := range from {
		ends[f+1]++
	}
	for i := range len(c.nodes) {
		ends[i+1] += ends[i]
	}
	next, at := make([]int32, len(to)), slices.Clone(ends)
	for i, f := range from {
		next[at[f]] = to[i]
		at[f]++
	}
	return next, ends
}

// Topological sorts paths so that each comes after those of them that it
// refers to, and otherwise as far as possible by name: the order in which
// other implementations print closures. All must be valid. Duplicates are
// dropped.
func (c *Closures) Topological(paths []storepath.Path) ([]storepath.Path, error) {
	paths = slices.Compact(slices.Sorted(slices.Values(paths)))
	if err := c.run(func() error { return c.load(paths) }); err != nil {
		return nil, err
	}
	members := make([]bool, len(c.nodes))
	for _, n := range c.found {
		members[n] = true
	}
	out := make([]storepath.Path, 0, len(paths))
	var stack []toposortStep
	for _, n := range slices.Clone(c.found) {
		stack = enterMember(stack, c, members, n)
		for len(stack) > 0 {
			top := &stack[len(stack)-1]
			if len(top.rest) == 0 {
				out = append(out, c.nodes[top.node].path)
				stack = stack[:len(stack)-1]
				continue
			}
			n := top.rest[0]
			top.rest = top.rest[1:]
			stack = enterMember(stack, c, members, n)
		}
	}
	return out, nil
}

// Topological sorts valid paths, each after what it refers to.
func (s *Store) Topological(paths []storepath.Path) ([]storepath.Path, error) {
	return s.NewClosures().Topological(paths)
}

// load leaves the nodes of paths in found, with their neighbours.
func (c *Closures) load(paths []storepath.Path) error {
	c.nextRound()
	for _, p := range paths {
		n, err := c.find(p)
		if err != nil {
			return err
		}
		if _, err := c.expand(n); err != nil {
			return err
		}
		c.visit(n)
	}
	return nil
}

// A toposortStep is a path whose references are being visited. The walk has
// its own stack: chains of references have no bound.
type toposortStep struct {
	node int32
	rest []int32
}

// enterMember visits a node that is to be sorted and was not visited yet.
func enterMember(stack []toposortStep, c *Closures, members []bool, n int32) []toposortStep {
	if !members[n] {
		return stack
	}
	members[n] = false
	return append(stack, toposortStep{n, c.nodes[n].next})
}
