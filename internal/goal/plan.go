package goal

import (
	"slices"
	"strings"

	"gobuild/internal/store/drv"
	"gobuild/internal/store/storepath"
)

// A Plan says what realising some targets would take.
type Plan struct {
	Build    []storepath.Path // derivations, each after those that it needs
	Fetch    []storepath.Path // paths that have substitutes, sorted
	Unknown  []storepath.Path // paths that nobody can provide, sorted
	Download uint64           // bytes, compressed, of Fetch as far as they are known
	Unpacked uint64           // bytes of Fetch in the store
}

// Empty tells whether nothing is to be done.
func (p *Plan) Empty() bool { return len(p.Build) == 0 && len(p.Fetch) == 0 && len(p.Unknown) == 0 }

// A PlanMode says what a plan is for.
type PlanMode bool

// The purposes of a plan.
const (
	JustLook PlanMode = false
	ToFollow PlanMode = true // a Realise follows: what is valid must stay so
)

// Plan looks at everything that the targets need and is not valid. What it
// reads is kept for a Realise on the same engine.
func (e *Engine) Plan(targets []Target, mode PlanMode) (*Plan, error) {
	p := &planner{
		eng: e, mode: mode, seen: map[storepath.Path]*node{},
		unknown: map[storepath.Path]bool{}, fetched: map[storepath.Path]bool{},
	}
	prepare := p.readAhead
	if e.substitutes() { // what is to be read depends on the answers
		prepare = p.lookForSubstitutes
	}
	if err := prepare(targets); err != nil {
		return nil, err
	}
	sorted := slices.SortedFunc(slices.Values(targets), func(a, b Target) int { return strings.Compare(string(a.Path), string(b.Path)) })
	for _, t := range sorted {
		if err := p.visit(t.Path, t.Outputs); err != nil {
			return nil, err
		}
	}
	if p.late {
		p.sort()
	}
	for path := range p.unknown {
		p.plan.Unknown = append(p.plan.Unknown, path)
	}
	slices.SortFunc(p.plan.Unknown, byName)
	slices.SortFunc(p.plan.Fetch, byName)
	return &p.plan, nil
}

func byName(a, b storepath.Path) int {
	if c := strings.Compare(a.Name(), b.Name()); c != 0 {
		return c
	}
	return strings.Compare(string(a), string(b))
}

type planned uint8

const (
	unseen   planned = iota
	judged           // some of its outputs were looked at and are valid
	toBuild          // will be built, and so will give all its outputs
	hopeless         // not there: will be fetched, or cannot be had
)

// A planner walks the graph depth first. Its stack is a list, because graphs
// may be deeper than a goroutine's stack should be.
type planner struct {
	eng     *Engine
	mode    PlanMode
	plan    Plan
	seen    map[storepath.Path]*node
	unknown map[storepath.Path]bool
	fetched map[storepath.Path]bool
	stack   []frame
	entered int  // paths so far
	late    bool // a derivation turned out to be needed after some that refer to it
}

// A node is a path that has been looked at.
type node struct {
	state   planned
	outline *drv.Outline // of a derivation that is valid
}

// A frame is a derivation whose inputs are being visited.
type frame struct {
	path   storepath.Path
	inputs []drv.Input
	next   int // input to visit
}

func (p *planner) visit(path storepath.Path, outputs []string) error {
	if err := p.enter(path, outputs); err != nil {
		return err
	}
	return p.walk(p.enter)
}

// sort orders the plan anew by what refers to what.
func (p *planner) sort() {
	all, seen := p.plan.Build, map[storepath.Path]bool{}
	p.plan.Build = make([]storepath.Path, 0, len(all))
	enter := func(path storepath.Path, _ []string) error {
		if n := p.seen[path]; n != nil && n.state == toBuild && !seen[path] {
			seen[path] = true
			p.stack = append(p.stack, frame{path: path, inputs: n.outline.InputDrvs})
		}
		return nil
	}
	for _, path := range all {
		_ = enter(path, nil) // never fails
		_ = p.walk(enter)
	}
}

// walk adds the derivations on the stack to the plan, each after its inputs
// have been entered.
func (p *planner) walk(enter func(storepath.Path, []string) error) error {
	for len(p.stack) > 0 {
		f := &p.stack[len(p.stack)-1]
		if f.next == len(f.inputs) {
			p.plan.Build = append(p.plan.Build, f.path)
			p.stack = p.stack[:len(p.stack)-1]
			continue
		}
		in := f.inputs[f.next]
		f.next++
		if err := enter(in.Path, in.Outputs); err != nil {
			return err
		}
	}
	return nil
}

// enter judges one path, and starts with its inputs if it must be built.
func (p *planner) enter(path storepath.Path, outputs []string) error {
	n := p.seen[path]
	if n == nil {
		n = new(node)
		p.seen[path] = n
	}
	switch n.state {
	case hopeless:
		return nil
	case toBuild:
		return checkWanted(path, n.outline, outputs)
	}
	if err := p.interrupted(); err != nil {
		return err
	}
	if err := p.keep(path); err != nil {
		return err
	}
	valid, err := p.eng.valid.IsValid(path)
	if err != nil {
		return err
	}
	if !valid {
		n.state = hopeless
		return p.fetch(path)
	}
	if !path.IsDerivation() {
		return nil
	}
	build, err := p.mustBuild(path, n, outputs)
	if err != nil {
		return err
	}
	if !build {
		n.state = judged
		return nil
	}
	p.late = p.late || n.state == judged
	n.state = toBuild
	p.stack = append(p.stack, frame{path: path, inputs: n.outline.InputDrvs})
	return p.sources(n.outline)
}

// interrupted asks now and then: graphs may be large.
func (p *planner) interrupted() error {
	p.entered++
	if ask := p.eng.opt.Interrupted; ask != nil && p.entered%256 == 0 {
		return ask()
	}
	return nil
}

// mustBuild reads a derivation and tells whether a wanted output is missing.
func (p *planner) mustBuild(path storepath.Path, n *node, wanted []string) (bool, error) {
	if n.outline == nil {
		var err error
		if n.outline, err = p.outline(path); err != nil {
			return false, err
		}
	}
	o := n.outline
	if err := checkWanted(path, o, wanted); err != nil {
		return false, err
	}
	if err := p.keepOutputs(o); err != nil {
		return false, err
	}
	var missing []storepath.Path
	for _, out := range o.Outputs {
		if len(wanted) > 0 && !slices.Contains(wanted, out.ID) {
			continue
		}
		if out.Path == "" {
			return true, nil
		}
		valid, err := p.eng.valid.IsValid(out.Path)
		if err != nil {
			return true, err
		}
		if valid {
			continue
		}
		if p.eng.firsts[out.Path].offer == nil || !p.eng.maySubstitute(o) {
			return true, nil
		}
		missing = append(missing, out.Path)
	}
	for _, out := range missing {
		if err := p.fetch(out); err != nil {
			return false, err
		}
	}
	return false, nil
}

// outline reads a derivation, or takes what has been read of it.
func (p *planner) outline(path storepath.Path) (*drv.Outline, error) {
	if o, ok := p.eng.outlines[path]; ok {
		return o, nil
	}
	o, err := p.eng.store.Outline(path, p.eng.intern)
	if err == nil {
		p.eng.outlines[path] = o
	}
	return o, err
}

// sources plans for the input sources that are missing.
func (p *planner) sources(o *drv.Outline) error {
	for _, src := range o.InputSrcs {
		valid, err := p.eng.valid.IsValid(src)
		if err != nil {
			return err
		}
		if !valid {
			if err := p.fetch(src); err != nil {
				return err
			}
		}
	}
	return nil
}

// keep makes temporary roots of what is looked at, before it is looked at.
func (p *planner) keep(paths ...storepath.Path) error {
	if p.mode == JustLook {
		return nil
	}
	return p.eng.store.AddTempRoots(paths...)
}

func (p *planner) keepOutputs(o *drv.Outline) error {
	for _, out := range o.Outputs {
		if out.Path == "" {
			continue
		}
		if err := p.keep(out.Path); err != nil {
			return err
		}
	}
	return nil
}
