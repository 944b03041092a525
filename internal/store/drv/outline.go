package drv

import (
	"strings"

	"gobuild/internal/store/storepath"
)

// An Outline is what planning needs to know of a derivation: a few hundred
// bytes, and nothing that keeps the text alive.
type Outline struct {
	Name      string // as given to ParseOutline
	Outputs   []Output
	InputDrvs []Input
	InputSrcs []storepath.Path
	Platform  string
	Builtin   bool // the builder is part of the engine
	Facts
}

// Kind tells the kind that all outputs share.
func (o *Outline) Kind() Kind { return kindOf(o.Outputs) }

// Output finds an output by its ID.
func (o *Outline) Output(id string) (Output, bool) { return findOutput(o.Outputs, id) }

// An Intern holds the strings that outlines share: paths, and short words such
// as platforms and output names. One belongs to one store directory and one
// planning run; it grows with the number of different paths. A path found in
// it is not checked again.
type Intern struct {
	paths map[string]storepath.Path
	words map[string]string
}

// NewIntern returns an empty Intern.
func NewIntern() *Intern {
	return &Intern{paths: map[string]storepath.Path{}, words: map[string]string{}}
}

func (in *Intern) word(b []byte) string {
	if w, ok := in.words[string(b)]; ok {
		return w
	}
	w := string(b)
	in.words[w] = w
	return w
}

// Path returns the shared copy of a path, whose syntax the caller vouches for.
func (in *Intern) Path(p storepath.Path) storepath.Path {
	if known, ok := in.paths[string(p)]; ok {
		return known
	}
	in.paths[string(p)] = p
	return p
}

// BuiltinPrefix starts the name of a builder that is part of the engine.
const BuiltinPrefix = "builtin:"

// ParseOutline reads a derivation as strictly as Parse does, but keeps only its
// outline. Strings come from pool, which may be nil for a derivation on its
// own. The text may be reused afterwards.
func ParseOutline(dir storepath.Dir, name string, text []byte, pool *Intern) (*Outline, error) {
	if pool == nil {
		pool = NewIntern()
	}
	p := parser{scanner: scanner{text: text}, dir: dir, pool: pool}
	h, err := p.head(name)
	if err != nil {
		return nil, err
	}
	o := &Outline{
		Name: name, Outputs: h.outputs, InputDrvs: h.inputDrvs, InputSrcs: h.inputSrcs, Platform: h.platform,
	}
	builder, err := p.quoted()
	if err != nil {
		return nil, err
	}
	o.Builtin = strings.HasPrefix(string(p.raw(builder)), BuiltinPrefix)
	if err := p.skipArgs(); err != nil {
		return nil, err
	}
	if o.Facts, err = p.facts(); err != nil {
		return nil, err
	}
	return o, nil
}

func (p *parser) skipArgs() error {
	if err := p.expect(",["); err != nil {
		return err
	}
	for p.more() {
		if _, err := p.quoted(); err != nil {
			return err
		}
	}
	return nil
}
