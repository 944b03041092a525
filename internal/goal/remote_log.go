package goal

import (
	"errors"

	"gobuild/internal/cache/wire"
	"gobuild/internal/store/storepath"
)

// FetchLog makes the build log of a derivation a file at dest, which must not
// exist, if a cache has it. It waits for the answer; no run may be going on.
func (e *Engine) FetchLog(drv storepath.Path, dest string) error {
	for _, src := range e.opt.Sources {
		if c, ok := src.(*Caches); ok {
			return c.fetchLog(drv, dest)
		}
	}
	return errors.New("there are no caches to ask")
}

func (c *Caches) fetchLog(drv storepath.Path, dest string) error {
	var failed error
	done := false
	q := &question{path: drv, events: fetchEvents{
		progress: func(_, _ uint64) {},
		ended:    func(err error) { done, failed = true, err },
	}}
	if _, err := c.send(wire.Request{Op: wire.Log, Path: string(drv), Dest: dest}, q); err != nil {
		return err
	}
	if err := c.eng.w.Pump(func() bool { return done }); err != nil {
		return err
	}
	return failed
}
