package goal

import (
	"fmt"
	"os"
	"slices"

	"gobuild/internal/activity"
	"gobuild/internal/store/pathlock"
	"gobuild/internal/store/storepath"
	"gobuild/internal/worker"
)

// lockOutputs takes the locks on all outputs, or says what to wait for.
func (d *Derivation) lockOutputs() (worker.Wait, error) {
	paths := d.missingOutputs(nil)
	for _, p := range paths {
		if d.eng.held[p] {
			d.eng.message(activity.Debug, "putting derivation '%s' to sleep because '%s' is locked by another goal", d.path, p)
			return worker.AnyGoal, nil
		}
	}
	var real []string
	for _, p := range paths {
		if !d.eng.store.HeldByParent(p) {
			real = append(real, d.eng.store.RealPath(p))
		}
	}
	lock, ok, err := pathlock.Acquire(real, pathlock.Try)
	if err != nil {
		return worker.Done, fmt.Errorf("locking the outputs of '%s': %w", d.path, err)
	}
	if !ok {
		d.waited = d.mode == Repair
		d.waitFor("waiting for lock on " + quoteAll(paths))
		return worker.AWhile, nil
	}
	if d.turn == nil { // or it may go on waiting for a machine
		d.eng.stop(&d.activity)
	}
	for _, p := range paths {
		d.eng.held[p] = true
	}
	d.attempt = &attempt{eng: d.eng, lock: lock, held: paths}
	return worker.Now, nil
}

// validNow asks the database, not the run's memory, which outputs are valid:
// somebody else may have built them before we had the locks.
func (d *Derivation) validNow() ([]storepath.Path, error) {
	var valid []storepath.Path
	for _, o := range d.outline.Outputs {
		ok, err := d.eng.store.IsValid(o.Path)
		if err != nil {
			return nil, err
		}
		if ok {
			valid = append(valid, o.Path)
		}
	}
	return valid, nil
}

// doneAlready are the outputs that need no build: those that are valid, in a
// repair if they have their contents, in a check none.
func (d *Derivation) doneAlready() []storepath.Path {
	switch d.mode {
	case Repair:
		lost := func(p storepath.Path) bool { return !d.eng.contentsGood(p) }
		return slices.DeleteFunc(slices.Clone(d.attempt.valid), lost)
	case Check:
		return nil
	}
	return d.attempt.valid
}

// deleteStale removes what is in the way of outputs and belongs to nobody.
func (e *Engine) deleteStale(paths []storepath.Path) error {
	for _, p := range paths {
		real := e.store.RealPath(p)
		if _, err := os.Lstat(real); err != nil {
			if os.IsNotExist(err) {
				continue
			}
			return fmt.Errorf("removing the unregistered path '%s': %w", p, err)
		}
		e.message(activity.Debug, "removing unregistered path '%s'", p)
		if err := e.discard(real); err != nil {
			return fmt.Errorf("removing the unregistered path '%s': %w", p, err)
		}
	}
	return nil
}
