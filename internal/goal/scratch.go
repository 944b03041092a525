package goal

import (
	"errors"
	"fmt"
	"maps"
	"os"

	"gobuild/internal/activity"
	"gobuild/internal/store/finalise"
	"gobuild/internal/store/storepath"
)

// scratch holds the paths at which a build outside a sandbox makes outputs
// that must not be touched because they are valid (goals spec, section A5).
// In a sandbox every output can be made at its own path.
type scratch struct {
	to      rewrites // from hash parts of valid outputs to those of their scratch paths
	from    rewrites // and back, for the contents of the new outputs
	paths   map[storepath.Path]storepath.Path
	discard []string // real scratch paths, deleted after the build
}

// path is where the builder sees an output.
func (s *scratch) path(p storepath.Path) storepath.Path {
	if q, ok := s.paths[p]; ok {
		return q
	}
	return p
}

// told is what every text for the builder goes through: placeholders become
// the outputs that they stand for, and valid outputs their scratch paths.
func (d *Derivation) told() rewrites {
	s := &d.attempt.scratch
	r := rewrites{}
	maps.Copy(r, s.to)
	for _, o := range d.outline.Outputs {
		r[storepath.Placeholder(o.ID)] = string(s.path(o.Path))
	}
	return r
}

// redirectValid gives scratch paths to the outputs that are valid already.
func (d *Derivation) redirectValid() error {
	a, e := d.attempt, d.eng
	if a.sandboxed || len(a.valid) == 0 || a.scratch.to != nil {
		return nil
	}
	a.scratch = scratch{to: rewrites{}, from: rewrites{}, paths: map[storepath.Path]storepath.Path{}}
	for _, p := range a.valid {
		q, err := e.store.Dir().Scratch(d.path, p)
		if err != nil {
			return err
		}
		real := e.store.RealPath(q)
		if _, err := os.Lstat(real); err == nil {
			if err := e.discard(real); err != nil {
				return fmt.Errorf("deleting the scratch path '%s': %w", real, err)
			}
		}
		a.scratch.to[p.HashPart()], a.scratch.from[q.HashPart()] = q.HashPart(), p.HashPart()
		a.scratch.paths[p] = q
		a.scratch.discard = append(a.scratch.discard, real)
	}
	return nil
}

// removeScratch deletes what the builder made and nobody wants: copies of
// outputs that were valid. Valid outputs are never among them.
func (a *attempt) removeScratch() {
	for _, p := range a.scratch.discard {
		if _, err := os.Lstat(p); err == nil {
			a.eng.discardQuietly(p)
		}
	}
	a.scratch.discard = nil
}

// removeRejected deletes outputs that have not become valid.
func (a *attempt) removeRejected() {
	if a.doneWell {
		return
	}
	for _, p := range a.held {
		if valid, err := a.eng.store.IsValid(p); valid || err != nil {
			continue
		}
		real := a.eng.store.RealPath(p)
		if _, err := os.Lstat(real); err != nil {
			continue
		}
		a.eng.discardQuietly(real)
	}
}

// removeCopies deletes the copies that a finaliser was making when it was
// killed. The outputs are still locked, so they are ours.
func (a *attempt) removeCopies() {
	if !a.drv.IsFixed() && len(a.scratch.from) == 0 {
		return
	}
	for _, p := range a.held {
		for _, dir := range finalise.Copies(a.eng.store.RealPath(p)) {
			a.eng.discardQuietly(dir)
		}
	}
}

// removeWorld deletes the builder's directories, or keeps the build directory
// of a failed build for its user to look at.
func (a *attempt) removeWorld() {
	w := a.world
	a.world = nil
	if a.keep {
		a.eng.message(activity.Error, "note: keeping build directory '%s'", w.BuildDir())
		if err := w.Keep(); err != nil {
			a.eng.message(activity.Warn, "%v", err)
		}
		return
	}
	done, err := w.RemoveSome(smallNodes)
	if err == nil && !done {
		for _, dir := range w.Leftovers() {
			err = errors.Join(err, a.eng.removeInChild(dir))
		}
	}
	if err != nil {
		a.eng.message(activity.Warn, "%v", err)
	}
}

// warnRewriting tells that contents are changed after the build.
func (d *Derivation) warnRewriting() {
	a := d.attempt
	if len(a.scratch.from) == 0 {
		return
	}
	for _, o := range a.outputs {
		d.eng.message(activity.Warn, "rewriting hashes in '%s'; cross fingers", o.Path)
	}
}
