package store

import "gobuild/internal/store/storepath"

// checkAcyclic refuses infos whose references go round. Paths outside infos
// were valid before and so refer to none of them, a path's own reference to
// itself is allowed. The walk has its own stack: chains have no bound.
func checkAcyclic(infos []Info) error {
	index := make(map[storepath.Path]int, len(infos))
	for i := range infos {
		index[infos[i].Path] = i
	}
	c := cycleCheck{infos: infos, index: index, state: make([]visitState, len(infos))}
	for i := range infos {
		if err := c.walk(i); err != nil {
			return err
		}
	}
	return nil
}

type visitState uint8

const (
	unseen visitState = iota
	entered
	finished
)

type cycleCheck struct {
	infos []Info
	index map[storepath.Path]int
	state []visitState
	stack []cycleStep
}

// A cycleStep is a path being visited, and how many of its references have
// been.
type cycleStep struct{ info, next int }

func (c *cycleCheck) walk(from int) error {
	c.enter(from)
	for len(c.stack) > 0 {
		top := &c.stack[len(c.stack)-1]
		self := &c.infos[top.info]
		if top.next == len(self.References) {
			c.state[top.info] = finished
			c.stack = c.stack[:len(c.stack)-1]
			continue
		}
		r := self.References[top.next]
		top.next++
		i, ok := c.index[r]
		switch {
		case !ok || r == self.Path:
		case c.state[i] == entered:
			return &CycleError{Path: r, From: self.Path}
		default:
			c.enter(i)
		}
	}
	return nil
}

func (c *cycleCheck) enter(i int) {
	if c.state[i] == unseen {
		c.state[i] = entered
		c.stack = append(c.stack, cycleStep{info: i})
	}
}
