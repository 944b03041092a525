package goal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"gobuild/internal/activity"
	"gobuild/internal/store/digest"
	"gobuild/internal/store/finalise"
	"gobuild/internal/store/storepath"
	"gobuild/internal/worker"
)

// HashChild is the name of the child job that hashes trees.
const HashChild = "__hash"

// So many small paths are hashed in the loop; for more, or for large ones,
// there is a child.
const fewPaths = 8

// contents is the goal of finding out which of some valid paths have the files
// that were registered. The store remembers the answers. The goal fails only
// where the machine cannot tell.
type contents struct {
	worker.Node
	eng    *Engine
	paths  []storepath.Path
	hashes []digest.Digest // as registered
	next   int             // of paths: being hashed
	handle *worker.Handle  // nil before the child has been started
	answer []byte          // the line that the child has begun
	err    *BuildError
}

// checkContents has a goal wait until it is known of some valid paths whether
// they have their contents, if it is not known now.
func (e *Engine) checkContents(g worker.Goal, paths []storepath.Path) error {
	c := &contents{eng: e}
	for _, p := range paths {
		if _, known := e.store.RememberedContents(p); known {
			continue
		}
		if other := e.repairs.checking[p]; other != nil {
			e.w.Await(g, other)
			continue
		}
		info, err := e.store.Info(p)
		if err != nil {
			return err
		}
		c.paths, c.hashes = append(c.paths, p), append(c.hashes, info.NarHash)
	}
	if len(c.paths) == 0 {
		return nil
	}
	if e.repairs.checking == nil {
		e.repairs.checking = map[storepath.Path]*contents{}
	}
	for _, p := range c.paths {
		e.repairs.checking[p] = c
	}
	e.w.Adopt(c, worker.SubstitutionSlot)
	e.w.Await(g, c)
	return nil
}

// contentsGood tells what a goal of this kind has found out. What became valid
// since was made or fetched just now.
func (e *Engine) contentsGood(p storepath.Path) bool {
	good, known := e.store.RememberedContents(p)
	return good || !known
}

// Name is for traces.
func (c *contents) Name() string { return fmt.Sprintf("checking of %d paths", len(c.paths)) }

// Key puts checks before all else: others wait for them to know what to do.
func (c *contents) Key() worker.Key {
	return worker.Key{Class: '0', Name: c.paths[0].Name(), Path: string(c.paths[0])}
}

// Step hashes here, or starts the child, or ends with it.
func (c *contents) Step() (worker.Wait, error) {
	switch {
	case c.handle != nil:
		return c.childEnded(), nil
	case c.small():
		return c.hashHere(), nil
	case !c.eng.w.SlotFree(worker.SubstitutionSlot):
		return worker.Slot, nil
	}
	if err := c.startChild(); err != nil {
		return c.fail(err), nil
	}
	c.announce()
	return worker.Exit, nil
}

func (c *contents) small() bool {
	if len(c.paths) > fewPaths {
		return false
	}
	for _, p := range c.paths {
		if !finalise.Small(c.eng.store.RealPath(p), finaliseNodes, finaliseBytes) {
			return false
		}
	}
	return true
}

func (c *contents) hashHere() worker.Wait {
	for c.next < len(c.paths) {
		c.announce()
		real := c.eng.store.RealPath(c.paths[c.next])
		sum := finalise.HashTree(finalise.Tree{Path: real, Algorithm: c.hashes[c.next].Algorithm()})
		if err := c.take(sum); err != nil {
			return c.fail(err)
		}
	}
	return c.end(worker.Success)
}

// announce says which path is being hashed.
func (c *contents) announce() {
	if c.next < len(c.paths) {
		c.eng.message(activity.Info, "checking path '%s'...", c.paths[c.next])
	}
}

// take judges the path whose turn it is. A hash that is not known cannot be
// wrong.
func (c *contents) take(sum finalise.Sum) error {
	p, want := c.paths[c.next], c.hashes[c.next]
	if sum.Error != "" {
		return fmt.Errorf("checking path '%s': %s", p, sum.Error)
	}
	good := want.IsZero() || sum.Fault == "" && sum.Digest == want
	c.eng.store.SetContentsGood(p, good)
	if !good {
		c.eng.message(activity.Error, "path '%s' is corrupted or missing!", p)
	}
	c.next++
	return nil
}

func (c *contents) startChild() error {
	trees := make([]finalise.Tree, len(c.paths))
	for i, p := range c.paths {
		trees[i] = finalise.Tree{Path: c.eng.store.RealPath(p), Algorithm: c.hashes[i].Algorithm()}
	}
	p, answers, err := startJob(HashChild, trees)
	if err != nil {
		return fmt.Errorf("starting to check paths: %w", err)
	}
	c.handle, err = c.eng.w.Watch(c, worker.Child{Proc: p, FDs: []int{answers}, Slot: worker.SubstitutionSlot})
	return err
}

// Output takes the child's answers, a line for each path.
func (c *contents) Output(_ *worker.Handle, _ int, data []byte) {
	for c.err == nil && c.next < len(c.paths) {
		end := bytes.IndexByte(data, '\n')
		if end < 0 {
			c.answer = append(c.answer, data...)
			return
		}
		line := append(c.answer, data[:end]...)
		c.answer, data = c.answer[:0], data[end+1:]
		var sum finalise.Sum
		err := json.Unmarshal(line, &sum)
		if err == nil {
			err = c.take(sum)
		}
		if err != nil {
			c.err = &BuildError{Drv: c.paths[0], Status: MiscFailure, Err: err}
			return
		}
		c.announce()
	}
}

func (c *contents) childEnded() worker.Wait {
	if c.err != nil {
		return c.fail(c.err)
	}
	if c.next < len(c.paths) {
		return c.fail(fmt.Errorf("checking path '%s': the process for that %s", c.paths[c.next], c.handle.Status()))
	}
	return c.end(worker.Success)
}

func (c *contents) fail(err error) worker.Wait {
	var known *BuildError
	if !errors.As(err, &known) {
		known = &BuildError{Drv: c.paths[0], Status: MiscFailure, Err: err}
	}
	c.err = known
	c.eng.outcome.add(known)
	c.eng.reportNow(known) // whoever waits knows only that it cannot go on
	return c.end(worker.Failed)
}

func (c *contents) end(r worker.Result) worker.Wait {
	c.forget()
	return c.End(r)
}

// forget makes room for another goal: an ended one is never handed out.
func (c *contents) forget() {
	for _, p := range c.paths {
		delete(c.eng.repairs.checking, p)
	}
}

// Abandon stops the child.
func (c *contents) Abandon() {
	c.forget()
	if lives(c.handle) {
		c.eng.w.Bury(c.handle, nil)
	}
}

// TimedOut is never called: the child has no limits.
func (c *contents) TimedOut(*worker.Handle, worker.Limit) {}
