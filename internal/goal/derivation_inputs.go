package goal

import (
	"cmp"
	"fmt"
	"slices"

	"gobuild/internal/store/drv"
	"gobuild/internal/store/storepath"
	"gobuild/internal/worker"
)

// retrying says whether outputs are to be substituted again: their substitutes
// may have lacked references that are among the inputs.
type retrying uint8

const (
	retryNever retrying = iota
	retryLater          // once the inputs are there
	retried
)

// maySubstitute tells whether substitutes of a derivation's outputs are looked
// for at all.
func (e *Engine) maySubstitute(o *drv.Outline) bool {
	return e.substitutes() && (o.AllowSubstitutes || e.opt.AlwaysSubstitute)
}

// trySubstitutes looks for substitutes of outputs that are not valid.
func (d *Derivation) trySubstitutes(invalid []storepath.Path) (step, worker.Wait, error) {
	d.tried, d.lacked = invalid, 0
	for _, p := range invalid {
		if d.eng.noSubstitute(p) {
			d.lacked++
			continue
		}
		d.eng.w.Await(d, d.eng.substitution(p, d.mode == Repair))
	}
	return (*Derivation).outputsTried, worker.Goals, nil
}

// outputsTried runs when substitution has done what it can.
func (d *Derivation) outputsTried() (step, worker.Wait, error) {
	failed, incomplete := d.Failed()+d.lacked, d.Incomplete()
	if failed > d.WithoutSubstituters()+d.lacked+incomplete && !d.eng.opt.Fallback {
		return d.failWith(TransientFailure, fmt.Errorf("some substitutes for the outputs of derivation '%s' failed"+
			" (usually happens due to networking issues); try '--fallback' to build derivation from source ", d.path))
	}
	if incomplete > 0 && incomplete == failed && d.retry == retryNever {
		d.retry = retryLater
	}
	d.ResetCounts()
	invalid, err := d.invalidOutputs()
	switch {
	case err != nil:
		return nil, worker.Done, err
	case len(invalid) == 0:
		return d.outputsThere(Substituted)
	case slices.ContainsFunc(invalid, func(p storepath.Path) bool { return !slices.Contains(d.tried, p) }):
		return d.trySubstitutes(invalid) // more outputs have come to be wanted meanwhile
	}
	return d.needInputs()
}

// needInputs runs when there must be a build: some wanted output is not valid
// and nobody can substitute it, or it is to be checked.
func (d *Derivation) needInputs() (step, worker.Wait, error) {
	if d.mode == Check {
		if invalid, err := d.invalidOutputs(); err != nil || len(invalid) > 0 {
			return nil, worker.Done, cmp.Or(err, fmt.Errorf("some outputs of '%s' are not valid, so checking is not possible", d.path))
		}
	}
	d.all = true
	for _, in := range d.outline.InputDrvs {
		d.eng.w.Await(d, d.eng.derivation(in.Path, in.Outputs, d.mode.ofInputs()))
	}
	for _, src := range d.outline.InputSrcs {
		valid, err := d.eng.valid.IsValid(src)
		if err != nil {
			return nil, worker.Done, err
		}
		if !valid {
			if !d.eng.opt.Substitute {
				return d.failWith(MiscFailure, fmt.Errorf("dependency '%s' of '%s' does not exist, and substitution is disabled", src, d.path))
			}
			d.eng.need(d, src)
		}
	}
	return (*Derivation).inputsRealised, worker.Goals, nil
}

// need has a goal wait for a path that it cannot do without.
func (e *Engine) need(g worker.Goal, p storepath.Path) {
	s := e.substitution(p, false)
	s.needed = true
	e.w.Await(g, s)
}

// inputsRealised runs when every input has been tried.
func (d *Derivation) inputsRealised() (step, worker.Wait, error) {
	if n := d.Failed(); n > 0 {
		return d.failWith(DependencyFailed, fmt.Errorf("%d dependencies of derivation '%s' failed to build", n, d.path))
	}
	if d.retry == retryLater {
		d.retry, d.all = retried, false
		return d.haveDerivation()
	}
	if d.mode == Repair {
		return d.examineSources()
	}
	return d.awaitPlace()
}

// collectInputs finds the closure of all inputs, sorted.
func (d *Derivation) collectInputs() error {
	roots := slices.Clone(d.outline.InputSrcs)
	for _, in := range d.outline.InputDrvs {
		outputs, err := d.eng.outputsOf(in.Path)
		if err != nil {
			return err
		}
		for _, id := range in.Outputs {
			i := slices.IndexFunc(outputs, func(o drv.Output) bool { return o.ID == id })
			if i < 0 {
				return fmt.Errorf("derivation '%s' requires non-existent output '%s' from input derivation '%s'", d.path, id, in.Path)
			}
			roots = append(roots, outputs[i].Path)
		}
	}
	// A failure here is an input that has gone since its goal ended.
	closure, err := d.eng.closures.Of(roots...)
	if err != nil {
		return fmt.Errorf("finding the inputs of '%s': %w", d.path, err)
	}
	d.inputs = closure
	return nil
}

// outputsOf are the outputs of a derivation that is valid.
func (e *Engine) outputsOf(p storepath.Path) ([]drv.Output, error) {
	if outputs, ok := e.outputs[p]; ok {
		return outputs, nil
	}
	o, ok := e.outlines[p]
	if !ok {
		var err error
		if o, err = e.store.Outline(p, e.intern); err != nil {
			return nil, err
		}
	}
	e.outputs[p] = o.Outputs
	return o.Outputs, nil
}

// Outputs are all outputs of a derivation, which need not be valid. After a
// plan or a run it has read them already. The result is the engine's own.
func (e *Engine) Outputs(p storepath.Path) ([]drv.Output, error) { return e.outputsOf(p) }

// takeOutline hands out what planning has read, or reads it now.
func (e *Engine) takeOutline(p storepath.Path) (*drv.Outline, error) {
	if o, ok := e.outlines[p]; ok {
		delete(e.outlines, p)
		return o, nil
	}
	return e.store.Outline(p, e.intern)
}

// canBuildHere tells whether platform and features are this machine's.
func (e *Engine) canBuildHere(o *drv.Outline) bool {
	if o.Platform != e.opt.System && !slices.Contains(e.opt.Platforms, o.Platform) && !o.Builtin {
		return false
	}
	for _, f := range o.RequiredSystemFeatures {
		if !slices.Contains(e.opt.Features, f) {
			return false
		}
	}
	return true
}

// wrongMachine is the error of a derivation that must be built elsewhere.
func (e *Engine) wrongMachine(p storepath.Path, o *drv.Outline) error {
	return fmt.Errorf("a '%s' with features {%s} is required to build '%s', but I am a '%s' with features {%s}",
		o.Platform, sortedList(o.RequiredSystemFeatures), p, e.opt.System, sortedList(e.opt.Features))
}

func sortedList(words []string) string {
	s := slices.Compact(slices.Sorted(slices.Values(words)))
	text := ""
	for i, w := range s {
		if i > 0 {
			text += ", "
		}
		text += w
	}
	return text
}

// missingOutputs are the outputs that a build must make.
func (d *Derivation) missingOutputs(valid []storepath.Path) []storepath.Path {
	var missing []storepath.Path
	for _, o := range d.outline.Outputs {
		if !slices.Contains(valid, o.Path) {
			missing = append(missing, o.Path)
		}
	}
	return missing
}
