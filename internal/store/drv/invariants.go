package drv

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"gobuild/internal/store/storepath"
)

// CheckInvariants holds a derivation that is to be registered as path to the
// rules that reading cannot check: its outputs' paths, the variables that
// repeat them, and its name (derivation spec, section 5). Its inputs must be
// readable, though not valid yet.
func (d *Derivation) CheckInvariants(dir storepath.Dir, path storepath.Path, h *Hasher) error {
	if err := d.checkNaming(path); err != nil {
		return err
	}
	if err := checkOutputs(d.Outputs); err != nil {
		return fmt.Errorf("derivation '%s': %w", path, err)
	}
	switch d.Kind() {
	case InputAddressed:
		return d.checkInputAddressed(dir, path, h)
	case Fixed:
		want, err := fixedPath(dir, d.Name, d.Outputs[0])
		if err != nil {
			return fmt.Errorf("derivation '%s': %w", path, err)
		}
		return d.checkOutput(path, d.Outputs[0], want)
	}
	return nil
}

func (d *Derivation) checkNaming(path storepath.Path) error {
	switch {
	case path.Name() != d.Name+storepath.DrvSuffix:
		return fmt.Errorf("derivation '%s' is not named '%s%s'", path, d.Name, storepath.DrvSuffix)
	case d.repeated != "":
		return fmt.Errorf("derivation '%s' has more than one output '%s'", path, d.repeated)
	case strings.HasSuffix(d.Name, storepath.DrvSuffix) && !d.makesDerivation():
		return errors.New("derivation names are allowed to end in '.drv' only if they produce a single derivation file")
	}
	return nil
}

// makesDerivation tells whether the output may itself be a derivation.
func (d *Derivation) makesDerivation() bool {
	if len(d.Outputs) != 1 || d.Outputs[0].ID != "out" {
		return false
	}
	method, _ := cutMethod(d.Outputs[0].MethodAlgo)
	return method == storepath.Text.Prefix()
}

func (d *Derivation) checkInputAddressed(dir storepath.Dir, path storepath.Path, h *Hasher) error {
	m, err := h.Masked(d)
	if err != nil {
		return err
	}
	for _, o := range d.Outputs {
		want, err := dir.Output(o.ID, m.Digest, d.Name)
		if err != nil {
			return fmt.Errorf("derivation '%s': %w", path, err)
		}
		if err := d.checkOutput(path, o, want); err != nil {
			return err
		}
	}
	return nil
}

func (d *Derivation) checkOutput(path storepath.Path, o Output, want storepath.Path) error {
	if o.Path != want {
		return fmt.Errorf("derivation '%s' has incorrect output '%s', should be '%s'", path, o.Path, want)
	}
	if v, ok := d.LookupEnv(o.ID); !ok || v != string(want) {
		return fmt.Errorf("derivation '%s' has incorrect environment variable '%s', should be '%s'", path, o.ID, want)
	}
	return nil
}

// FillOutputs completes a derivation that was written by hand: output paths
// that are absent but follow from the rest, and the variables that repeat
// output paths, where absent or empty. What is present is left alone, right or
// wrong; CheckInvariants tells. Outputs whose path cannot be known stay as
// they are.
func (d *Derivation) FillOutputs(dir storepath.Dir, h *Hasher) error {
	if err := checkOutputs(d.Outputs); err != nil {
		return err
	}
	switch d.Kind() {
	case Fixed:
		if err := d.fillFixed(dir); err != nil {
			return err
		}
	case Deferred:
		if err := d.fillDeferred(dir, h); err != nil {
			return err
		}
	case Floating, Impure:
		return nil
	}
	for _, o := range d.Outputs {
		d.fillEnv(o.ID, string(o.Path))
	}
	return nil
}

func (d *Derivation) fillFixed(dir storepath.Dir) error {
	o := &d.Outputs[0]
	want, err := fixedPath(dir, d.Name, *o)
	if err == nil && o.Path == "" {
		o.Path = want
	}
	return err
}

// fillDeferred gives outputs without a path the one they would have, unless an
// input is in the way. The variables must be there first: the hash covers
// their names.
func (d *Derivation) fillDeferred(dir storepath.Dir, h *Hasher) error {
	for _, o := range d.Outputs {
		d.fillEnv(o.ID, "")
	}
	m, err := h.Masked(d)
	if err != nil || m.Deferred {
		return err
	}
	for i := range d.Outputs {
		o := &d.Outputs[i]
		if o.Path, err = dir.Output(o.ID, m.Digest, d.Name); err != nil {
			return err
		}
	}
	return nil
}

// fillEnv sets a variable that is absent or empty.
func (d *Derivation) fillEnv(name, value string) {
	i, ok := d.envIndex(name)
	if !ok {
		d.Env = slices.Insert(d.Env, i, EnvVar{Name: name})
	}
	if d.Env[i].Value == "" {
		d.Env[i].Value = value
	}
}
