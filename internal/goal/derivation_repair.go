package goal

import (
	"fmt"
	"slices"

	"gobuild/internal/activity"
	"gobuild/internal/store/storepath"
	"gobuild/internal/worker"
)

// examineOutputs finds out, in a repair, which outputs have the contents that
// were registered: also those that nobody has asked for, since a build would
// make them again.
func (d *Derivation) examineOutputs() (step, worker.Wait, error) {
	var valid []storepath.Path
	for _, o := range d.outline.Outputs {
		ok, err := d.eng.valid.IsValid(o.Path)
		if err != nil {
			return nil, worker.Done, err
		}
		if ok {
			valid = append(valid, o.Path)
		}
	}
	if err := d.eng.checkContents(d, valid); err != nil {
		return nil, worker.Done, err
	}
	return (*Derivation).outputsExamined, worker.Goals, nil
}

func (d *Derivation) outputsExamined() (step, worker.Wait, error) {
	if d.Failed() > 0 {
		return d.failWith(MiscFailure, fmt.Errorf("the outputs of derivation '%s' could not be checked", d.path))
	}
	return d.outputsKnown()
}

// examineAgain looks at the outputs once more, under their locks, after
// somebody else has had those.
func (d *Derivation) examineAgain() (step, worker.Wait, error) {
	d.waited = false
	valid, err := d.validNow()
	if err != nil {
		return nil, worker.Done, err
	}
	for _, p := range valid {
		d.eng.store.ForgetContents(p)
	}
	if err := d.eng.checkContents(d, valid); err != nil {
		return nil, worker.Done, err
	}
	return (*Derivation).examinedAgain, worker.Goals, nil
}

func (d *Derivation) examinedAgain() (step, worker.Wait, error) {
	if d.Failed() > 0 {
		return d.failWith(MiscFailure, fmt.Errorf("the outputs of derivation '%s' could not be checked", d.path))
	}
	return d.tryToBuild()
}

// outputsThere runs when all wanted outputs are valid, and in a repair have
// their contents.
func (d *Derivation) outputsThere(s Status) (step, worker.Wait, error) {
	switch d.mode {
	case Repair:
		return d.examineClosure()
	case Check:
		return d.needInputs()
	}
	return d.succeed(s)
}

// examineClosure finds out which paths that the outputs refer to have their
// contents.
func (d *Derivation) examineClosure() (step, worker.Wait, error) {
	closure, err := d.wantedClosure()
	if err != nil {
		return nil, worker.Done, err
	}
	if err := d.eng.checkContents(d, closure); err != nil {
		return nil, worker.Done, err
	}
	return (*Derivation).repairClosure, worker.Goals, nil
}

// wantedClosure is the closure of the wanted outputs without any output of the
// derivation: those have been dealt with.
func (d *Derivation) wantedClosure() ([]storepath.Path, error) {
	var wanted, own []storepath.Path
	for _, o := range d.outline.Outputs {
		own = append(own, o.Path)
		if d.wants(o.ID) {
			wanted = append(wanted, o.Path)
		}
	}
	closure, err := d.eng.closures.Of(wanted...)
	if err != nil {
		return nil, fmt.Errorf("finding the closure of the outputs of '%s': %w", d.path, err)
	}
	return slices.DeleteFunc(slices.Clone(closure), func(p storepath.Path) bool { return slices.Contains(own, p) }), nil
}

// repairClosure has what is damaged in the closure made again by whoever made
// it, as far as the derivation's own closure knows, and fetched otherwise.
func (d *Derivation) repairClosure() (step, worker.Wait, error) {
	if d.Failed() > 0 {
		return d.failWith(MiscFailure, fmt.Errorf("the output closure of derivation '%s' could not be checked", d.path))
	}
	closure, err := d.wantedClosure()
	if err != nil {
		return nil, worker.Done, err
	}
	bad := slices.DeleteFunc(closure, d.eng.contentsGood)
	if len(bad) == 0 {
		return d.succeed(AlreadyValid)
	}
	makers, err := d.makers()
	if err != nil {
		return nil, worker.Done, err
	}
	for _, p := range bad {
		d.eng.message(activity.Error, "found corrupted or missing path '%s' in the output closure of '%s'", p, d.path)
		if maker, ok := makers[p]; ok {
			d.eng.w.Await(d, d.eng.derivation(maker, nil, Repair))
		} else {
			d.eng.repairSource(d, p)
		}
	}
	return (*Derivation).closureRepaired, worker.Goals, nil
}

// makers maps the outputs of all derivations in the derivation's closure to
// them.
func (d *Derivation) makers() (map[storepath.Path]storepath.Path, error) {
	closure, err := d.eng.closures.Of(d.path)
	if err != nil {
		return nil, err
	}
	makers := map[storepath.Path]storepath.Path{}
	for _, p := range closure {
		if !p.IsDerivation() {
			continue
		}
		outputs, err := d.eng.outputsOf(p)
		if err != nil {
			return nil, err
		}
		for _, o := range outputs {
			makers[o.Path] = p
		}
	}
	return makers, nil
}

func (d *Derivation) closureRepaired() (step, worker.Wait, error) {
	if d.Failed() > 0 {
		return d.failWith(MiscFailure, fmt.Errorf("some paths in the output closure of derivation '%s' could not be repaired", d.path))
	}
	return d.succeed(AlreadyValid)
}

// repairSource has a goal wait for a path that nobody can build again.
func (e *Engine) repairSource(g worker.Goal, p storepath.Path) {
	s := e.substitution(p, true)
	s.needed = true
	e.w.Await(g, s)
}

// examineSources finds out, before outputs are made again, whether the sources
// have their contents: outputs made of others would be no better than those
// that they replace.
func (d *Derivation) examineSources() (step, worker.Wait, error) {
	sources, err := d.eng.closures.Of(d.outline.InputSrcs...)
	if err != nil {
		return nil, worker.Done, err
	}
	if err := d.eng.checkContents(d, sources); err != nil {
		return nil, worker.Done, err
	}
	return (*Derivation).sourcesExamined, worker.Goals, nil
}

func (d *Derivation) sourcesExamined() (step, worker.Wait, error) {
	if d.Failed() > 0 {
		return d.failWith(MiscFailure, fmt.Errorf("the sources of derivation '%s' could not be checked", d.path))
	}
	sources, err := d.eng.closures.Of(d.outline.InputSrcs...)
	if err != nil {
		return nil, worker.Done, err
	}
	for _, p := range sources {
		if !d.eng.contentsGood(p) {
			d.eng.message(activity.Error, "found corrupted or missing path '%s' among the sources of '%s'", p, d.path)
			d.eng.repairSource(d, p)
		}
	}
	return (*Derivation).sourcesRepaired, worker.Goals, nil
}

func (d *Derivation) sourcesRepaired() (step, worker.Wait, error) {
	if n := d.Failed(); n > 0 {
		return d.failWith(DependencyFailed, fmt.Errorf("%d dependencies of derivation '%s' failed to build", n, d.path))
	}
	return (*Derivation).tryToBuild, worker.Slot, nil
}
