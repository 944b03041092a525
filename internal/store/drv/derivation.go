// Package drv knows derivations: their text form and its hash modulo, the
// rules that registration holds them to, output specs, and the attributes that
// mean something to the engine (derivation spec, sections 1 to 12).
//
// Nothing here is safe for concurrent use, and no derivation is changed by any
// function but FillOutputs.
package drv

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/storepath"
)

// A Derivation is one build recipe. Parse fills it sorted and free of
// duplicates, as the field comments say; whoever makes one by hand must too.
type Derivation struct {
	Name      string           // store name without ".drv"
	Outputs   []Output         // sorted by ID, at least one
	InputDrvs []Input          // sorted by path
	InputSrcs []storepath.Path // sorted
	Platform  string
	Builder   string
	Args      []string
	Env       []EnvVar // sorted by name

	// repeated is an output ID that the text had twice: reading keeps the
	// first, registration refuses.
	repeated string
}

// An Output is one result of a derivation. Which fields are set decides its
// kind.
type Output struct {
	ID         string
	Path       storepath.Path // "" where not known before the build
	MethodAlgo string         // "[r:|git:|text:]algorithm" of content-addressed outputs
	Hash       string         // lower-case hexadecimal, or "impure"
}

// An Input names the outputs of another derivation that a build needs.
type Input struct {
	Path    storepath.Path
	Outputs []string // sorted, at least one; may be shared, so read only
}

// An EnvVar is an entry of a derivation's environment: any bytes.
type EnvVar struct{ Name, Value string }

// A Kind says how a derivation's outputs get their paths.
type Kind uint8

// The kinds of derivation spec section 2.
const (
	InputAddressed Kind = iota // path from the hash modulo
	Fixed                      // path from a content hash that the derivation states
	Floating                   // path from whatever contents the build makes
	Deferred                   // input-addressed, but waiting for a floating input
	Impure                     // floating, and never the same twice
)

var kindNames = [...]string{"input-addressed", "fixed", "floating", "deferred", "impure"}

// String is the kind's name in messages.
func (k Kind) String() string { return kindNames[k] }

// Kind tells the output's kind.
func (o Output) Kind() Kind {
	switch {
	case o.MethodAlgo == "" && o.Path == "":
		return Deferred
	case o.MethodAlgo == "":
		return InputAddressed
	case o.Hash == "":
		return Floating
	case o.Hash == impureHash:
		return Impure
	}
	return Fixed
}

const impureHash = "impure"

// ContentAddress is what a fixed output states about its contents; outputs of
// other kinds give the zero value.
func (o Output) ContentAddress() (storepath.ContentAddress, error) {
	if o.Kind() != Fixed {
		return storepath.ContentAddress{}, nil
	}
	m, a, err := storepath.ParseMethodAlgo(o.MethodAlgo)
	if err != nil {
		return storepath.ContentAddress{}, err
	}
	h, err := digest.ParseBare(a, o.Hash)
	return storepath.ContentAddress{Method: m, Digest: h}, err
}

// Kind tells the kind that all outputs share.
func (d *Derivation) Kind() Kind { return kindOf(d.Outputs) }

// IsFixed tells whether the contents of the output are stated beforehand.
func (d *Derivation) IsFixed() bool { return d.Kind() == Fixed }

func kindOf(outs []Output) Kind {
	if len(outs) == 0 {
		return Deferred
	}
	return outs[0].Kind()
}

// Output finds an output by its ID.
func (d *Derivation) Output(id string) (Output, bool) { return findOutput(d.Outputs, id) }

func findOutput(outs []Output, id string) (Output, bool) {
	i, ok := slices.BinarySearchFunc(outs, id, func(o Output, id string) int { return strings.Compare(o.ID, id) })
	if !ok {
		return Output{}, false
	}
	return outs[i], true
}

// OutputIDs lists the IDs, sorted.
func (d *Derivation) OutputIDs() []string {
	ids := make([]string, len(d.Outputs))
	for i, o := range d.Outputs {
		ids[i] = o.ID
	}
	return ids
}

// LookupEnv finds a variable of the environment; ok tells unset from empty.
func (d *Derivation) LookupEnv(name string) (value string, ok bool) {
	i, ok := d.envIndex(name)
	if !ok {
		return "", false
	}
	return d.Env[i].Value, true
}

func (d *Derivation) envIndex(name string) (int, bool) {
	return slices.BinarySearchFunc(d.Env, name, func(e EnvVar, n string) int { return strings.Compare(e.Name, n) })
}

// References are the store paths that the derivation's own file refers to:
// inputs of both sorts, sorted, without repetition.
func (d *Derivation) References() []storepath.Path {
	refs := make([]storepath.Path, 0, len(d.InputDrvs)+len(d.InputSrcs))
	refs = append(refs, d.InputSrcs...)
	for _, in := range d.InputDrvs {
		refs = append(refs, in.Path)
	}
	slices.Sort(refs)
	return slices.Compact(refs)
}

// Path computes where the derivation's own file belongs in the store.
func (d *Derivation) Path(dir storepath.Dir) (storepath.Path, error) {
	return dir.Text(d.Unparse(), d.Name+storepath.DrvSuffix, d.References())
}

// checkOutputs holds the outputs, whose IDs are unique, to the rules about the
// set (derivation spec, section 2).
func checkOutputs(outs []Output) error {
	if len(outs) == 0 {
		return errors.New("must have at least one output")
	}
	kind := outs[0].Kind()
	for _, o := range outs[1:] {
		if o.Kind() != kind {
			return errors.New("can't mix derivation output types")
		}
	}
	switch {
	case kind == Fixed && len(outs) > 1:
		return errors.New("only one fixed output is allowed for now")
	case kind == Fixed && outs[0].ID != "out":
		return errors.New(`single fixed output must be named "out"`)
	case kind == Floating:
		return checkFloating(outs)
	}
	return nil
}

func checkFloating(outs []Output) error {
	_, algo := cutMethod(outs[0].MethodAlgo)
	for _, o := range outs[1:] {
		if _, a := cutMethod(o.MethodAlgo); a != algo {
			return errors.New("all floating outputs must use the same hash type")
		}
	}
	return nil
}

func cutMethod(methodAlgo string) (method, algo string) {
	i := strings.LastIndexByte(methodAlgo, ':') + 1
	return methodAlgo[:i], methodAlgo[i:]
}

// fixedPath computes the path of a fixed output.
func fixedPath(dir storepath.Dir, name string, o Output) (storepath.Path, error) {
	ca, err := o.ContentAddress()
	if err != nil {
		return "", err
	}
	p, err := dir.Content(ca, name, storepath.References{})
	if err != nil {
		return "", fmt.Errorf("output '%s': %w", o.ID, err)
	}
	return p, nil
}
