package goal

import (
	"runtime"

	"gobuild/internal/store/drv"
	"gobuild/internal/store/readahead"
	"gobuild/internal/store/storepath"
)

// aheadWorkers bounds how many processors read.
const aheadWorkers = 4

// An ahead reads the derivations that a plan will look at, breadth first, on
// all processors. What it cannot read it leaves to the planner, which reports
// it; what it reads in vain costs only time.
type ahead struct {
	*planner
	asked  map[storepath.Path]bool
	queue  []storepath.Path
	reader *readahead.Reader // nil until there is enough to do
}

// readAhead fills the engine's outlines. Only graphs that become broad are
// worth it: elsewhere each derivation must be parsed to find the next one.
func (p *planner) readAhead(targets []Target) error {
	a := &ahead{planner: p, asked: map[storepath.Path]bool{}}
	for _, t := range targets {
		a.want(t.Path)
	}
	defer func() {
		if a.reader != nil {
			a.reader.Close()
		}
	}()
	for len(a.queue) > 0 || a.busy() {
		if len(a.queue) < readahead.BatchSize && !a.busy() {
			if err := a.one(); err != nil {
				return err
			}
			continue
		}
		if err := a.batch(); err != nil {
			return err
		}
	}
	return nil
}

func (a *ahead) busy() bool { return a.reader != nil && a.reader.InFlight() > 0 }

func (a *ahead) want(path storepath.Path) {
	if path.IsDerivation() && !a.asked[path] {
		a.asked[path] = true
		a.queue = append(a.queue, path)
	}
}

// take removes the last n of the queue.
func (a *ahead) take(n int) []storepath.Path {
	n = min(n, len(a.queue))
	some := a.queue[len(a.queue)-n:]
	a.queue = a.queue[:len(a.queue)-n]
	return some
}

// one reads a derivation here.
func (a *ahead) one() error {
	path := a.take(1)[0]
	if ok, err := a.readable(path); err != nil || !ok {
		return err
	}
	o, err := a.eng.store.Outline(path, a.eng.intern)
	if err != nil {
		return nil // the planner will say so
	}
	return a.add(path, o)
}

// batch keeps the readers busy and parses what one of them has read.
func (a *ahead) batch() error {
	if a.reader == nil {
		var err error
		if a.reader, err = readahead.New(a.eng.store.RealDir(), min(runtime.NumCPU(), aheadWorkers)); err != nil {
			return err
		}
	}
	for len(a.queue) > 0 && !a.reader.Full() {
		var paths []storepath.Path
		for _, p := range a.take(readahead.BatchSize) {
			ok, err := a.readable(p)
			if err != nil {
				return err
			}
			if ok {
				paths = append(paths, p)
			}
		}
		a.reader.Ask(paths)
	}
	b := a.reader.Next()
	defer a.reader.Done(b)
	for i, path := range b.Paths {
		text := b.Text(i)
		if text == nil {
			continue
		}
		if o, err := a.eng.store.ParseOutline(path, text, a.eng.intern); err == nil {
			if err := a.add(path, o); err != nil {
				return err
			}
		}
	}
	return nil
}

// readable tells whether a derivation is valid, after making it a root.
func (a *ahead) readable(path storepath.Path) (bool, error) {
	if err := a.keep(path); err != nil {
		return false, err
	}
	return a.eng.valid.IsValid(path)
}

// add notes an outline, and asks for the inputs if something must be built.
func (a *ahead) add(path storepath.Path, o *drv.Outline) error {
	a.eng.outlines[path] = o
	if err := a.keepOutputs(o); err != nil {
		return err
	}
	for _, out := range o.Outputs {
		valid := false
		if out.Path != "" {
			var err error
			if valid, err = a.eng.valid.IsValid(out.Path); err != nil {
				return err
			}
		}
		if !valid {
			for _, in := range o.InputDrvs {
				a.want(in.Path)
			}
			return nil
		}
	}
	return nil
}
