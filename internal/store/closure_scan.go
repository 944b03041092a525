package store

import (
	"cmp"
	"database/sql/driver"
	"slices"

	"gobuild/internal/store/storepath"
)

// neverAgain is a limit that no count reaches.
const neverAgain = int64(1) << 62

// maybeScan reads the whole graph once as much has been asked for one by one
// as that costs.
func (c *Closures) maybeScan() error {
	if c.asked < neverScanAt {
		return nil
	}
	if c.limit == 0 {
		rows, _, err := c.store.db.integer("max-id")
		if err != nil {
			return err
		}
		c.limit = max(neverScanAt, rows/scanShare)
	}
	if c.asked < c.limit {
		return nil
	}
	if err := c.scanPaths(); err != nil {
		return err
	}
	if err := c.scanRefs(); err != nil {
		return err
	}
	c.limit = neverAgain
	return nil
}

func (c *Closures) scanPaths() error {
	return c.store.db.each("all-ids", func(row []driver.Value) error {
		id, _ := asInt(row[0])
		p, err := c.store.stored(row[1])
		c.node(id, p)
		return err
	})
}

// scanRefs fills the neighbours of every node that has none yet. They lie in
// one array, which the nodes share.
func (c *Closures) scanRefs() error {
	var from, to []int32
	err := c.store.db.each("all-refs", func(row []driver.Value) error {
		a, _ := asInt(row[0])
		b, _ := asInt(row[1])
		f, ok1 := c.rows[a]
		t, ok2 := c.rows[b]
		if ok1 && ok2 { // else a row that no path has: not ours to judge
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
	c.fill(from, to)
	return nil
}

// fill sorts the edges by where they start, by counting.
func (c *Closures) fill(from, to []int32) {
	ends := make([]int32, len(c.nodes)+1)
	for _, f := range from {
		ends[f+1]++
	}
	for i := range len(c.nodes) {
		ends[i+1] += ends[i]
	}
	flat, at := make([]int32, len(to)), slices.Clone(ends)
	for i, f := range from {
		flat[at[f]] = to[i]
		at[f]++
	}
	for i := range c.nodes {
		if n := &c.nodes[i]; !n.loaded {
			n.next, n.loaded = flat[ends[i]:ends[i+1]:ends[i+1]], true
		}
	}
}

// Topological sorts paths so that each comes after those of them that it
// refers to, and otherwise as far as possible by name: the order in which
// other implementations print closures. All must be valid.
func (c *Closures) Topological(paths []storepath.Path) ([]storepath.Path, error) {
	var sorted []storepath.Path
	err := c.store.retry(func() error {
		t := &toposort{c: c, members: map[int32]bool{}, done: map[int32]bool{}}
		return c.finish(func() error {
			var err error
			sorted, err = t.sort(slices.Sorted(slices.Values(paths)))
			return err
		}())
	})
	return sorted, err
}

// Topological sorts valid paths, each after what it refers to.
func (s *Store) Topological(paths []storepath.Path) ([]storepath.Path, error) {
	return s.NewClosures().Topological(paths)
}

// A toposort is a depth-first walk with its own stack: chains of references
// have no bound.
type toposort struct {
	c       *Closures
	members map[int32]bool
	done    map[int32]bool
	stack   []toposortStep
	out     []storepath.Path
}

type toposortStep struct {
	node int32
	rest []int32 // neighbours still to be visited, by name
}

func (t *toposort) sort(paths []storepath.Path) ([]storepath.Path, error) {
	order := make([]int32, len(paths))
	for i, p := range paths {
		n, err := t.c.find(p)
		if err != nil {
			return nil, err
		}
		order[i], t.members[n] = n, true
	}
	for _, n := range order {
		if err := t.enter(n); err != nil {
			return nil, err
		}
		for len(t.stack) > 0 {
			if err := t.step(); err != nil {
				return nil, err
			}
		}
	}
	return t.out, nil
}

func (t *toposort) enter(n int32) error {
	if t.done[n] || !t.members[n] {
		return nil
	}
	t.done[n] = true
	next, err := t.c.expand(n)
	if err != nil {
		return err
	}
	byName := slices.SortedFunc(slices.Values(next), func(a, b int32) int {
		return cmp.Compare(t.c.nodes[a].path, t.c.nodes[b].path)
	})
	t.stack = append(t.stack, toposortStep{n, byName})
	return nil
}

func (t *toposort) step() error {
	top := &t.stack[len(t.stack)-1]
	if len(top.rest) == 0 {
		t.out = append(t.out, t.c.nodes[top.node].path)
		t.stack = t.stack[:len(t.stack)-1]
		return nil
	}
	n := top.rest[0]
	top.rest = top.rest[1:]
	return t.enter(n)
}
