package drv

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/storepath"
)

// Options are the attributes by which a derivation steers its own build
// (derivation spec, section 11).
type Options struct {
	Facts
	ImpureEnvVars []string // to take from the engine's environment; none unless fixed or impure
	PassAsFile    []string // variables to put into files; each exists
	ExportGraphs  []Graph
	Ignored       []string // attributes without effect beside structured ones, to warn about

	common  Checks            // of every output
	checks  map[string]Checks // by output ID, structured attributes only
	discard map[string]bool
}

// Checks are what a derivation demands of an output. Entries of the lists go
// through Derivation.Specifier.
type Checks struct {
	AllowedReferences    []string // nil means all are allowed, empty none
	AllowedRequisites    []string // likewise, of the closure
	DisallowedReferences []string
	DisallowedRequisites []string
	MaxSize              *uint64 // bytes of the archive; nil means no limit
	MaxClosureSize       *uint64 // bytes of all archives of the closure
	IgnoreSelf           bool    // the output itself does not count as a requisite
}

// Checks are those for one output.
func (o *Options) Checks(output string) Checks {
	if o.Structured {
		return o.checks[output]
	}
	return o.common
}

// DiscardsReferences tells whether the output is registered without any.
func (o *Options) DiscardsReferences(output string) bool { return o.discard[output] }

// ParseOptions reads the attributes of a derivation. It fails on attributes of
// a wrong shape, which is the derivation's own fault.
func ParseOptions(dir storepath.Dir, d *Derivation) (*Options, error) {
	a, err := attrsOf(d)
	if err != nil {
		return nil, err
	}
	o := &Options{}
	if o.Facts, err = a.facts(); err != nil {
		return nil, err
	}
	if k := d.Kind(); k == Fixed || k == Impure {
		if o.ImpureEnvVars, err = a.list("impureEnvVars"); err != nil {
			return nil, err
		}
	}
	if o.ExportGraphs, err = a.graphs(dir); err != nil {
		return nil, err
	}
	if a.structured() {
		return o, o.readStructured(a.object)
	}
	return o, o.readVariables(a)
}

// readVariables reads what only derivations without structured attributes have.
func (o *Options) readVariables(a attrs) (err error) {
	names, err := a.list("passAsFile")
	if err != nil {
		return err
	}
	for _, n := range names {
		if _, ok := a.drv.LookupEnv(n); ok && !slices.Contains(o.PassAsFile, n) {
			o.PassAsFile = append(o.PassAsFile, n)
		}
	}
	o.common.IgnoreSelf = true
	return o.common.readLists(a.list)
}

// readLists reads the four lists of references with the function given.
func (c *Checks) readLists(list func(name string) ([]string, error)) (err error) {
	for _, l := range c.lists() {
		if *l.into, err = list(l.name); err != nil {
			return err
		}
	}
	return nil
}

type checkList struct {
	name string
	into *[]string
}

func (c *Checks) lists() [4]checkList {
	return [...]checkList{
		{"allowedReferences", &c.AllowedReferences},
		{"allowedRequisites", &c.AllowedRequisites},
		{"disallowedReferences", &c.DisallowedReferences},
		{"disallowedRequisites", &c.DisallowedRequisites},
	}
}

// readStructured reads what only structured attributes can say.
func (o *Options) readStructured(object map[string]any) error {
	for _, l := range new(Checks).lists() {
		o.ignore(object, l.name)
	}
	o.ignore(object, "maxSize")
	o.ignore(object, "maxClosureSize")
	discard, err := objectIn(object, "unsafeDiscardReferences")
	if err != nil {
		return err
	}
	o.discard = make(map[string]bool, len(discard))
	for id := range discard {
		if o.discard[id], err = flagIn(discard, id, "unsafeDiscardReferences."+id, false); err != nil {
			return err
		}
	}
	outputs, err := objectIn(object, "outputChecks")
	if err != nil {
		return err
	}
	o.checks = make(map[string]Checks, len(outputs))
	for id := range outputs {
		if o.checks[id], err = readChecks(outputs, id); err != nil {
			return err
		}
	}
	return nil
}

func (o *Options) ignore(object map[string]any, name string) {
	if _, ok := object[name]; ok {
		o.Ignored = append(o.Ignored, name)
	}
}

func readChecks(outputs map[string]any, id string) (c Checks, err error) {
	title := "outputChecks." + id + "."
	of, ok := outputs[id].(map[string]any)
	if !ok {
		return c, fmt.Errorf("attribute 'outputChecks.%s' must be an object", id)
	}
	err = c.readLists(func(name string) ([]string, error) { return listIn(of, name, title+name) })
	if err != nil {
		return c, err
	}
	if c.MaxSize, err = sizeIn(of, "maxSize", title); err != nil {
		return c, err
	}
	c.MaxClosureSize, err = sizeIn(of, "maxClosureSize", title)
	return c, err
}

func objectIn(object map[string]any, name string) (map[string]any, error) {
	v, ok := object[name]
	if !ok {
		return nil, nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("attribute '%s' must be an object", name)
	}
	return m, nil
}

// sizeIn reads a number of bytes; a fraction is cut off.
func sizeIn(object map[string]any, name, title string) (*uint64, error) {
	v, ok := object[name]
	if !ok {
		return nil, nil
	}
	n, _ := v.(json.Number)
	if u, err := strconv.ParseUint(string(n), 10, 64); err == nil {
		return &u, nil
	}
	f, err := strconv.ParseFloat(string(n), 64)
	if err != nil || f < 0 || f >= math.MaxUint64 {
		return nil, fmt.Errorf("attribute '%s' must be a number of bytes", title+name)
	}
	u := uint64(f)
	return &u, nil
}

// A Specifier is a resolved entry of a list of references: either a path or an
// output of the same derivation.
type Specifier struct {
	Path   storepath.Path
	Output string
}

// Specifier resolves an entry of one of the lists in Checks.
func (d *Derivation) Specifier(dir storepath.Dir, entry string) (Specifier, error) {
	if p, err := dir.Parse(entry); err == nil {
		return Specifier{Path: p}, nil
	}
	if _, ok := d.Output(entry); ok {
		return Specifier{Output: entry}, nil
	}
	return Specifier{}, fmt.Errorf("derivation contains an illegal reference specifier '%s'", entry)
}

// PassAsFileName is the name of the file that a variable of PassAsFile goes to.
func PassAsFileName(variable string) string {
	return ".attr-" + digest.Of(digest.SHA256, []byte(variable)).Nix32()
}
