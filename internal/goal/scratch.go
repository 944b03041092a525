package goal

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

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

// redirect gives scratch paths to the outputs that must not be touched: those
// that are valid, with whatever contents. A check touches none.
func (d *Derivation) redirect() error {
	a, e := d.attempt, d.eng
	kept := a.valid
	if d.mode == Check {
		kept = a.held
	}
	if a.sandboxed || len(kept) == 0 || a.scratch.to != nil {
		return nil
	}
	a.scratch = scratch{to: rewrites{}, from: rewrites{}, paths: map[storepath.Path]storepath.Path{}}
	for _, p := range kept {
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

// destination is where a finished output is put: in its place, or beside it if
// that is taken by a valid path.
func (d *Derivation) destination(p storepath.Path) string {
	a, real := d.attempt, d.eng.store.RealPath(p)
	if !slices.Contains(a.valid, p) {
		return real
	}
	staged := d.eng.beside(real, "new")
	a.staged = append(a.staged, staged)
	return staged
}

// removeStaged deletes finished trees that have not come to their places.
func (a *attempt) removeStaged() {
	for _, p := range a.staged {
		if _, err := os.Lstat(p); err == nil {
			a.eng.discardQuietly(p)
		}
	}
	a.staged = nil
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
	if w == nil { // another machine has it
		return
	}
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

// warnRewriting tells that contents are changed after the build. Nothing of a
// check stays.
func (d *Derivation) warnRewriting() {
	a := d.attempt
	if len(a.scratch.from) == 0 || d.mode == Check {
		return
	}
	for _, o := range a.outputs {
		d.eng.message(activity.Warn, "rewriting hashes in '%s'; cross fingers", o.Path)
	}
}
