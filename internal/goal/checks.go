package goal

import (
	"fmt"
	"slices"
	"strings"

	"gobuild/internal/store/drv"
	"gobuild/internal/store/storepath"
)

// checkOutputs holds the outputs to what the derivation demands of them. Its
// errors reject the outputs; the builder itself did its work.
func (d *Derivation) checkOutputs() error {
	a := d.attempt
	for i := range a.outputs {
		if err := d.checkFixed(&a.outputs[i]); err != nil {
			return d.rejected(err)
		}
	}
	if err := d.checkCycles(); err != nil {
		return d.rejected(err)
	}
	if d.mode == Check {
		return nil // its valid outputs were held to these demands
	}
	for i := range a.outputs {
		o := &a.outputs[i]
		if err := d.checkDemands(o, a.options.Checks(o.ID)); err != nil {
			return d.rejected(err)
		}
	}
	return nil
}

func (d *Derivation) rejected(err error) error {
	return &BuildError{Drv: d.path, Status: OutputRejected, Err: err}
}

// checkFixed compares a fixed output with its promise.
func (d *Derivation) checkFixed(o *builtOutput) error {
	if !o.ca.Digest.IsSet() {
		return nil
	}
	var mismatch error
	if o.digest != o.ca.Digest {
		mismatch = &mismatchError{drv: d.path, want: o.ca.Digest.SRI(), got: o.digest.SRI()}
	}
	if len(o.refs) > 0 && d.eng.opt.StrictFixed {
		return &referencesError{drv: d.path, refs: o.refs, mismatch: mismatch}
	}
	if mismatch != nil && d.mode != Check {
		d.keepMismatch(o)
	}
	return mismatch
}

// checkCycles refuses outputs that refer to each other in a circle.
func (d *Derivation) checkCycles() error {
	a := d.attempt
	byPath := map[storepath.Path]*builtOutput{}
	for i := range a.outputs {
		byPath[a.outputs[i].Path] = &a.outputs[i]
	}
	const visiting, visited = 1, 2
	seen := map[storepath.Path]int{}
	var visit func(o *builtOutput) error // as deep as there are outputs
	visit = func(o *builtOutput) error {
		seen[o.Path] = visiting
		for _, r := range o.refs {
			next := byPath[r]
			if next == nil || next == o {
				continue
			}
			if seen[r] == visiting {
				return fmt.Errorf("cycle detected in build of '%s' in the references of output '%s' from output '%s'", d.path, next.ID, o.ID)
			}
			if seen[r] == 0 {
				if err := visit(next); err != nil {
					return err
				}
			}
		}
		seen[o.Path] = visited
		return nil
	}
	for i := range a.outputs {
		if o := &a.outputs[i]; seen[o.Path] == 0 {
			if err := visit(o); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkDemands applies the allowed and disallowed references and the limits of
// size (derivation spec, sections 11 and 12).
func (d *Derivation) checkDemands(o *builtOutput, c drv.Checks) error {
	if c.MaxSize != nil && o.info.NarSize > *c.MaxSize {
		return fmt.Errorf("path '%s' is too large at %d bytes; limit is %d bytes", o.Path, o.info.NarSize, *c.MaxSize)
	}
	if c.MaxClosureSize != nil {
		size, err := d.closureSize(o)
		if err != nil {
			return err
		}
		if size > *c.MaxClosureSize {
			return fmt.Errorf("closure of path '%s' is too large at %d bytes; limit is %d bytes", o.Path, size, *c.MaxClosureSize)
		}
	}
	for _, demand := range []struct {
		words    []string
		allowed  bool
		closure  bool
		dropSelf bool
	}{
		{c.AllowedReferences, true, false, false},
		{c.AllowedRequisites, true, true, c.IgnoreSelf},
		{c.DisallowedReferences, false, false, false},
		{c.DisallowedRequisites, false, true, c.IgnoreSelf},
	} {
		if demand.words == nil {
			continue
		}
		if err := d.checkReferences(o, demand.words, demand.allowed, demand.closure, demand.dropSelf); err != nil {
			return err
		}
	}
	return nil
}

func (d *Derivation) checkReferences(o *builtOutput, words []string, allowed, closure, dropSelf bool) error {
	named, err := d.referenceSpecifiers(words)
	if err != nil {
		return err
	}
	used := o.refs
	if closure {
		if used, err = d.requisites(o); err != nil {
			return err
		}
	}
	var bad []storepath.Path
	for _, p := range used {
		if dropSelf && p == o.Path {
			continue
		}
		if slices.Contains(named, p) != allowed {
			bad = append(bad, p)
		}
	}
	if len(bad) == 0 {
		return nil
	}
	var b strings.Builder
	for _, p := range bad {
		b.WriteString("\n  " + string(p))
	}
	return fmt.Errorf("output '%s' is not allowed to refer to the following paths:%s", o.Path, b.String())
}

// referenceSpecifiers reads a list of store paths and output names.
func (d *Derivation) referenceSpecifiers(words []string) ([]storepath.Path, error) {
	var paths []storepath.Path
	for _, w := range words {
		s, err := d.attempt.drv.Specifier(d.eng.store.Dir(), w)
		if err != nil {
			return nil, err
		}
		if s.Output != "" {
			out, _ := d.outline.Output(s.Output)
			s.Path = out.Path
		}
		paths = append(paths, s.Path)
	}
	return paths, nil
}

// requisites is the closure of an output that is not registered yet.
func (d *Derivation) requisites(o *builtOutput) ([]storepath.Path, error) {
	seen := map[storepath.Path]bool{o.Path: true}
	todo := []*builtOutput{o}
	var roots []storepath.Path
	for len(todo) > 0 {
		next := todo[0]
		todo = todo[1:]
		for _, r := range next.refs {
			if seen[r] {
				continue
			}
			seen[r] = true
			if sibling := d.attempt.output(r); sibling != nil {
				todo = append(todo, sibling)
			} else {
				roots = append(roots, r)
			}
		}
	}
	closure, err := d.eng.closures.Of(roots...)
	if err != nil {
		return nil, err
	}
	for _, p := range closure {
		seen[p] = true
	}
	all := make([]storepath.Path, 0, len(seen))
	for p := range seen {
		all = append(all, p)
	}
	slices.Sort(all)
	return all, nil
}

func (a *attempt) output(p storepath.Path) *builtOutput {
	for i := range a.outputs {
		if a.outputs[i].Path == p {
			return &a.outputs[i]
		}
	}
	return nil
}

func (d *Derivation) closureSize(o *builtOutput) (uint64, error) {
	paths, err := d.requisites(o)
	if err != nil {
		return 0, err
	}
	var size uint64
	for _, p := range paths {
		if sibling := d.attempt.output(p); sibling != nil {
			size += sibling.info.NarSize
			continue
		}
		info, err := d.eng.store.Info(p)
		if err != nil {
			return 0, err
		}
		size += info.NarSize
	}
	return size, nil
}
