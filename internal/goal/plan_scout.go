package goal

import (
	"slices"

	"gobuild/internal/store/drv"
	"gobuild/internal/store/storepath"
)

// A scout asks the sources for everything that a plan may want to fetch, many
// questions at once, each as soon as the answer that leads to it is there. The
// planner then finds the answers in the engine.
type scout struct {
	*planner
	queue   []Target // derivations and paths to look at
	drvs    map[storepath.Path]*scouted
	asked   map[storepath.Path]bool // paths that are no derivation's outputs
	waiting int                     // for answers
}

// A scouted is a derivation that has been looked at.
type scouted struct {
	outline *drv.Outline
	builds  bool                    // its inputs have been queued
	seen    map[storepath.Path]bool // outputs that were looked at
}

// lookForSubstitutes fills the engine's memory of first answers.
func (p *planner) lookForSubstitutes(targets []Target) error {
	if !p.eng.substitutes() {
		return nil
	}
	s := &scout{planner: p, queue: slices.Clone(targets), drvs: map[storepath.Path]*scouted{}, asked: map[storepath.Path]bool{}}
	for {
		for len(s.queue) > 0 {
			next := s.queue[len(s.queue)-1]
			s.queue = s.queue[:len(s.queue)-1]
			if err := s.look(next); err != nil {
				return err
			}
		}
		if s.waiting == 0 {
			return nil
		}
		if err := p.eng.w.Pump(func() bool { return s.waiting == 0 || len(s.queue) > 0 }); err != nil {
			return err
		}
	}
}

// look judges a derivation or a path as the planner will.
func (s *scout) look(t Target) error {
	if err := s.interrupted(); err != nil {
		return err
	}
	if d := s.drvs[t.Path]; d != nil {
		return s.outputs(d, t)
	}
	if s.asked[t.Path] {
		return nil
	}
	if err := s.keep(t.Path); err != nil {
		return err
	}
	valid, err := s.eng.valid.IsValid(t.Path)
	switch {
	case err != nil:
		return err
	case !valid:
		s.asked[t.Path] = true
		s.ask(t.Path, func(f first) { s.references(f.offer) })
		return nil
	case !t.Path.IsDerivation():
		return nil
	}
	o, err := s.outline(t.Path)
	if err != nil {
		return nil // the planner will say so
	}
	d := &scouted{outline: o, seen: map[storepath.Path]bool{}}
	s.drvs[t.Path] = d
	return s.outputs(d, t)
}

// outputs asks for the outputs of a derivation that are wanted now and were
// not before. If one cannot be had, the derivation will be built.
func (s *scout) outputs(d *scouted, t Target) error {
	if d.builds {
		return nil
	}
	if err := s.keepOutputs(d.outline); err != nil {
		return err
	}
	var missing []storepath.Path
	for _, out := range d.outline.Outputs {
		if len(t.Outputs) > 0 && !slices.Contains(t.Outputs, out.ID) || out.Path == "" || d.seen[out.Path] {
			continue
		}
		d.seen[out.Path] = true
		if valid, err := s.eng.valid.IsValid(out.Path); err != nil {
			return err
		} else if !valid {
			missing = append(missing, out.Path)
		}
	}
	if len(missing) > 0 && !s.eng.maySubstitute(d.outline) {
		s.build(d)
		return nil
	}
	open, offers := len(missing), make([]*offer, 0, len(missing))
	for _, p := range missing {
		s.ask(p, func(f first) {
			if open--; f.offer != nil {
				offers = append(offers, f.offer)
			}
			if open > 0 {
				return
			}
			if len(offers) < len(missing) {
				s.build(d)
				return
			}
			for _, o := range offers {
				s.references(o)
			}
		})
	}
	return nil
}

func (s *scout) ask(p storepath.Path, then func(first)) {
	s.waiting++
	s.eng.findFirst(p, func(f first) {
		s.waiting--
		then(f)
	})
}

// build queues what a build needs.
func (s *scout) build(d *scouted) {
	if d.builds {
		return
	}
	d.builds = true
	for _, in := range d.outline.InputDrvs {
		s.queue = append(s.queue, Target{Path: in.Path, Outputs: in.Outputs})
	}
	for _, src := range d.outline.InputSrcs {
		s.queue = append(s.queue, Target{Path: src})
	}
}

// references queues what a substitute needs.
func (s *scout) references(o *offer) {
	if o == nil {
		return
	}
	for _, ref := range o.info.References {
		if ref != o.info.Path {
			s.queue = append(s.queue, Target{Path: ref, Outputs: noOutputs})
		}
	}
}

// noOutputs is for a path that is wanted for itself: should it be a
// derivation, none of its outputs is.
var noOutputs = []string{""}

// fetch adds a path to the plan with all that it refers to, or what of that
// nobody has.
func (p *planner) fetch(path storepath.Path) error {
	todo := []storepath.Path{path}
	for len(todo) > 0 {
		path := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if p.fetched[path] || p.unknown[path] {
			continue
		}
		o := p.eng.firsts[path].offer
		if o == nil {
			p.unknown[path] = true
			continue
		}
		p.fetched[path] = true
		p.plan.Fetch = append(p.plan.Fetch, path)
		p.plan.Download += o.download
		p.plan.Unpacked += o.info.NarSize
		for _, ref := range o.info.References {
			valid, err := p.eng.valid.IsValid(ref)
			if err != nil {
				return err
			}
			if !valid {
				todo = append(todo, ref)
			}
		}
	}
	return nil
}
