package drv

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/storepath"
)

// ErrDynamic is wrapped by the error about a derivation in the versioned form,
// which exists for inputs that are outputs of other derivations.
var ErrDynamic = errors.New("dynamic derivations are not supported")

// Parse reads the text of the derivation of that name (without ".drv"). The
// result keeps one copy of the text alive, in which its strings lie. Memory is
// bounded by a small multiple of the text's length. Errors do not name the
// derivation: the caller knows its path.
func Parse(dir storepath.Dir, name string, text []byte) (*Derivation, error) {
	p := parser{scanner: scanner{text: text}, dir: dir, copy: string(text)}
	d := &Derivation{Name: name}
	h, err := p.head(name)
	if err != nil {
		return nil, err
	}
	d.Outputs, d.InputDrvs, d.InputSrcs, d.Platform, d.repeated = h.outputs, h.inputDrvs, h.inputSrcs, h.platform, h.repeated
	if d.Builder, err = p.str(); err != nil {
		return nil, err
	}
	if d.Args, err = p.args(); err != nil {
		return nil, err
	}
	d.Env, err = p.env()
	return d, err
}

// A parser reads a derivation in one pass.
type parser struct {
	scanner
	dir  storepath.Dir
	copy string  // of the text, for strings to lie in; "" when they are interned
	pool *Intern // nil in Parse
}

// head is what Parse and ParseOutline keep both.
type head struct {
	outputs   []Output
	inputDrvs []Input
	inputSrcs []storepath.Path
	platform  string
	repeated  string
}

// head reads up to and with the comma before the builder.
func (p *parser) head(name string) (h head, err error) {
	if err := p.start(); err != nil {
		return h, err
	}
	if h.outputs, h.repeated, err = p.outputs(name); err != nil {
		return h, err
	}
	if err := p.expect(",["); err != nil {
		return h, err
	}
	if h.inputDrvs, err = p.inputs(); err != nil {
		return h, err
	}
	if err := p.expect(",["); err != nil {
		return h, err
	}
	if h.inputSrcs, err = p.sources(); err != nil {
		return h, err
	}
	if err := p.expect(","); err != nil {
		return h, err
	}
	if h.platform, err = p.str(); err != nil {
		return h, err
	}
	return h, p.expect(",")
}

func (p *parser) start() error {
	const versioned = "DrvWithVersion("
	if !bytes.HasPrefix(p.text, []byte(versioned)) {
		return p.expect("Derive([")
	}
	p.pos = len(versioned)
	sp, err := p.quoted()
	if err != nil {
		return err
	}
	if v := string(p.raw(sp)); v != "xp-dyn-drv" {
		return fmt.Errorf("unknown derivation ATerm format version '%s'", v)
	}
	return fmt.Errorf("the derivation needs the experimental feature 'dynamic-derivations': %w", ErrDynamic)
}

// value is the string in the span, to keep.
func (p *parser) value(sp span) string {
	if p.pool != nil {
		return p.pool.word(p.raw(sp))
	}
	return p.unshared(sp)
}

// unshared is value for what no other derivation is likely to have.
func (p *parser) unshared(sp span) string {
	if p.pool != nil || sp.escaped {
		return string(p.raw(sp))
	}
	return p.copy[sp.from:sp.to]
}

func (p *parser) str() (string, error) {
	sp, err := p.quoted()
	if err != nil {
		return "", err
	}
	return p.value(sp), nil
}

// path reads a string that must be a store path in its only spelling.
func (p *parser) path() (storepath.Path, error) {
	sp, err := p.quoted()
	if err != nil {
		return "", err
	}
	return p.toPath(sp)
}

func (p *parser) toPath(sp span) (storepath.Path, error) {
	if p.pool != nil {
		raw := p.raw(sp)
		if known, ok := p.pool.paths[string(raw)]; ok {
			return known, nil
		}
		path, err := checkPath(p.dir, string(raw))
		if err == nil {
			p.pool.paths[string(path)] = path
		}
		return path, err
	}
	return checkPath(p.dir, p.value(sp))
}

func checkPath(dir storepath.Dir, s string) (storepath.Path, error) {
	if !strings.HasPrefix(s, "/") {
		return "", fmt.Errorf("bad path '%s' in derivation", s)
	}
	return dir.ParseExact(s)
}

func (p *parser) outputs(name string) (outs []Output, repeated string, err error) {
	for p.more() {
		o, err := p.output(name)
		if err != nil {
			return nil, "", err
		}
		outs = append(outs, o)
	}
	if !strictlySorted(outs, compareOutputs) {
		slices.SortStableFunc(outs, compareOutputs)
		for i := 1; i < len(outs); i++ {
			if outs[i].ID == outs[i-1].ID {
				repeated = outs[i].ID
			}
		}
		outs = slices.CompactFunc(outs, func(a, b Output) bool { return a.ID == b.ID })
	}
	return outs, repeated, checkOutputs(outs)
}

func compareOutputs(a, b Output) int { return strings.Compare(a.ID, b.ID) }

// output reads one tuple of four.
func (p *parser) output(name string) (o Output, err error) {
	var parts [4]span
	for i, before := range [...]string{"(", ",", ",", ","} {
		if err := p.expect(before); err != nil {
			return o, err
		}
		if parts[i], err = p.quoted(); err != nil {
			return o, err
		}
	}
	if err := p.expect(")"); err != nil {
		return o, err
	}
	o.ID, o.MethodAlgo = p.value(parts[0]), p.value(parts[2])
	if err := storepath.CheckName(o.ID); err != nil {
		return o, fmt.Errorf("bad output name '%s' in derivation: %w", o.ID, err)
	}
	if o.MethodAlgo != "" { // without an algorithm, the hash is ignored
		o.Hash = p.unshared(parts[3])
	}
	return o, p.finishOutput(&o, parts[1], name)
}

// finishOutput checks the parts of an output against each other.
func (p *parser) finishOutput(o *Output, path span, name string) (err error) {
	empty := path.from == path.to
	var algo digest.Algorithm
	if o.MethodAlgo != "" {
		if _, algo, err = storepath.ParseMethodAlgo(o.MethodAlgo); err != nil {
			return err
		}
	}
	switch {
	case o.MethodAlgo == "" && empty:
		return nil
	case o.Hash == "" && o.MethodAlgo != "" && !empty:
		return errors.New("content-addressed derivation output should not specify output path")
	case o.Hash == impureHash && !empty:
		return errors.New("impure derivation output should not specify output path")
	case o.MethodAlgo != "" && (o.Hash == "" || o.Hash == impureHash):
		return nil
	}
	if o.Path, err = checkPath(p.dir, p.unshared(path)); err != nil || o.MethodAlgo == "" {
		return err
	}
	return p.finishFixed(o, algo, name)
}

// finishFixed normalises the hash and holds the path to it.
func (p *parser) finishFixed(o *Output, algo digest.Algorithm, name string) error {
	h, err := digest.ParseBare(algo, o.Hash)
	if err != nil {
		return err
	}
	if hex := h.Hex(); o.Hash != hex {
		o.Hash = hex
	}
	want, err := fixedPath(p.dir, name, *o)
	if err == nil && want != o.Path {
		err = fmt.Errorf("fixed output '%s' has incorrect path '%s', should be '%s'", o.ID, o.Path, want)
	}
	return err
}

func (p *parser) inputs() (ins []Input, err error) {
	var few [16]Input // most lists fit, and leave no half-used array behind
	list := few[:0]
	for p.more() {
		in, err := p.input()
		if err != nil {
			return nil, err
		}
		list = append(list, in)
	}
	if !strictlySorted(list, compareInputs) {
		slices.SortStableFunc(list, compareInputs)
		list = keepLast(list, func(a, b Input) bool { return a.Path == b.Path })
	}
	return append([]Input(nil), list...), nil
}

func compareInputs(a, b Input) int { return strings.Compare(string(a.Path), string(b.Path)) }

func (p *parser) input() (in Input, err error) {
	if err := p.expect("("); err != nil {
		return in, err
	}
	if in.Path, err = p.path(); err != nil {
		return in, err
	}
	if !in.Path.IsDerivation() {
		return in, fmt.Errorf("store path '%s' is not a valid derivation path", in.Path.Base())
	}
	if err := p.expect(",["); err != nil {
		return in, err
	}
	if in.Outputs, err = p.wanted(); err != nil {
		return in, err
	}
	if len(in.Outputs) == 0 {
		return in, fmt.Errorf("input derivation '%s' is listed without an output", in.Path)
	}
	return in, p.expect(")")
}

// justOut is the usual list of wanted outputs, shared by everyone.
var justOut = []string{"out"}

// wanted reads the output names of an input.
func (p *parser) wanted() ([]string, error) {
	if bytes.HasPrefix(p.text[p.pos:], []byte(`"out"]`)) {
		p.pos += len(`"out"]`)
		return justOut[:1:1], nil
	}
	names, err := p.list()
	if !strictlySorted(names, strings.Compare) {
		slices.Sort(names)
		names = slices.Compact(names)
	}
	return names, err
}

// list reads strings up to and with the end of their list.
func (p *parser) list() (list []string, err error) {
	for p.more() {
		s, err := p.str()
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

func (p *parser) sources() ([]storepath.Path, error) {
	var few [16]storepath.Path
	list := few[:0]
	for p.more() {
		path, err := p.path()
		if err != nil {
			return nil, err
		}
		list = append(list, path)
	}
	if !strictlySorted(list, func(a, b storepath.Path) int { return strings.Compare(string(a), string(b)) }) {
		slices.Sort(list)
		list = slices.Compact(list)
	}
	return append([]storepath.Path(nil), list...), nil
}

func (p *parser) args() ([]string, error) {
	if err := p.expect(",["); err != nil {
		return nil, err
	}
	return p.list()
}

func (p *parser) env() ([]EnvVar, error) {
	if err := p.expect(",["); err != nil {
		return nil, err
	}
	var few [32]EnvVar
	list := few[:0]
	for p.more() {
		name, value, err := p.pair()
		if err != nil {
			return nil, err
		}
		list = append(list, EnvVar{p.value(name), p.value(value)})
	}
	if !strictlySorted(list, compareEnv) {
		slices.SortStableFunc(list, compareEnv)
		list = keepLast(list, func(a, b EnvVar) bool { return a.Name == b.Name })
	}
	return append([]EnvVar(nil), list...), p.expect(")")
}

func compareEnv(a, b EnvVar) int { return strings.Compare(a.Name, b.Name) }

// pair reads one variable of the environment.
func (p *parser) pair() (name, value span, err error) {
	if err = p.expect("("); err != nil {
		return name, value, err
	}
	if name, err = p.quoted(); err != nil {
		return name, value, err
	}
	if err = p.expect(","); err != nil {
		return name, value, err
	}
	if value, err = p.quoted(); err != nil {
		return name, value, err
	}
	return name, value, p.expect(")")
}

// strictlySorted is the usual case, in which there is nothing to repair.
func strictlySorted[T any](list []T, compare func(a, b T) int) bool {
	for i := 1; i < len(list); i++ {
		if compare(list[i-1], list[i]) >= 0 {
			return false
		}
	}
	return true
}

// keepLast shortens every run of equal elements to its last.
func keepLast[T any](list []T, equal func(a, b T) bool) []T {
	kept := list[:0]
	for i, e := range list {
		if i+1 == len(list) || !equal(e, list[i+1]) {
			kept = append(kept, e)
		}
	}
	return kept
}
