package goal

import (
	"gobuild/internal/store"
)

// An installation is a path whose tree is in its place, under the path's lock,
// and that is to become valid.
type installation struct {
	info  store.Info
	err   error
	ended func() // the database has decided; err says how
}

// register queues a path. What has been queued when nobody is awake becomes
// valid in one transaction, which costs little more than that of one path.
func (e *Engine) register(i *installation) { e.installing = append(e.installing, i) }

// registerNow registers what is queued. Where that cannot be done for all, each
// is tried for itself, so that each gets its own error.
func (e *Engine) registerNow() {
	queue := e.installing
	e.installing = nil
	infos := make([]store.Info, len(queue))
	for i, one := range queue {
		infos[i] = one.info
	}
	if err := e.store.Register(infos); err != nil {
		for i, one := range queue {
			one.err = err
			if len(queue) > 1 {
				one.err = e.store.Register(infos[i : i+1])
			}
		}
	}
	for _, one := range queue {
		one.ended()
	}
}

// fetchDir is a directory for what is being fetched, on the store's file
// system. Programs that outlive us write to no other place.
func (e *Engine) fetchDir() (string, error) {
	if e.fetches == nil {
		dir, err := e.store.NewTempDir()
		if err != nil {
			return "", err
		}
		e.fetches = dir
	}
	return e.fetches.Path, nil
}

// endFetches removes the directory; no program writes there any more.
func (e *Engine) endFetches() {
	if e.fetches != nil {
		e.fetches.Remove()
		e.fetches = nil
	}
}
