package goal

import (
	"fmt"

	"gobuild/internal/store"
	"gobuild/internal/store/storepath"
)

// A Source provides substitutes: all binary caches together by way of the
// network program, or a program of the user's. Its answers come from the loop;
// those that need no asking may come at once. A Source belongs to one engine.
type Source interface {
	// bind makes the source this engine's.
	bind(e *Engine)
	// query asks for a substitute of p. A source that knows several, in an
	// order of preference, is asked again after each that was of no use: after
	// is 0 at first, then what the last offer says.
	query(p storepath.Path, after int, answer func(answer))
	// fetch makes an offer's tree at dest, which must not exist and lies in a
	// directory of the engine's. When ended has been called the tree is
	// complete and canonical, or nothing is left of it.
	fetch(o *offer, dest string, events fetchEvents) transfer
}

// An answer is an offer, or nothing.
type answer struct {
	offer *offer
	// err says why the source does not know. Without it and without an offer,
	// there is no substitute.
	err error
}

// An offer is a substitute that can be fetched.
type offer struct {
	source   Source
	uri      string // who offers it, for people
	next     int    // the after of the next query
	index    int    // the source's own
	info     store.Info
	download uint64 // bytes to fetch; 0: unknown
	url      string // of the file to download, for people; "": nothing is downloaded, or who knows
	repair   bool   // it is to replace a damaged path, with which its files may not be linked
}

// fetchEvents is how a fetch is heard of.
type fetchEvents struct {
	progress func(downloaded, unpacked uint64) // bytes; now and then, and when all is there
	ended    func(err error)                   // once
}

// A transfer is a fetch that has been started.
type transfer interface {
	// cancel gives it up; ended is not called any more. What is at the
	// destination is removed by whoever removes the directory.
	cancel()
}

// A goneError says that a source no longer has what it offered, which is no
// failure of it.
type goneError struct {
	err  error
	told bool // people know already
}

func (e *goneError) Error() string { return e.err.Error() }

// substitutes tells whether the engine may look for substitutes at all.
func (e *Engine) substitutes() bool { return e.opt.Substitute && len(e.opt.Sources) > 0 }

// A search goes through the sources for one path.
type search struct {
	eng    *Engine
	path   storepath.Path
	source int // position among the sources
	after  int
	err    error // of the last source that did not know
	over   bool  // nobody wants to know any more
}

// next asks for the next offer. done gets nil when there is none; then err
// says whether that is certain.
func (s *search) next(done func(*offer)) {
	switch {
	case s.over: // and no other source is to be started
		return
	case s.source == len(s.eng.opt.Sources):
		done(nil)
		return
	}
	src := s.eng.opt.Sources[s.source]
	src.query(s.path, s.after, func(a answer) {
		if a.err != nil {
			s.err = a.err
		}
		if a.offer == nil {
			s.source, s.after = s.source+1, 0
			s.next(done)
			return
		}
		s.after = a.offer.next
		done(a.offer)
	})
}

// A first is what the first search for a path has found, kept from the plan
// for the goal.
type first struct {
	search search
	offer  *offer // nil: there is no substitute, as far as search.err is nil
}

// findFirst searches for a path unless that was done before.
func (e *Engine) findFirst(p storepath.Path, done func(first)) {
	if f, ok := e.firsts[p]; ok {
		done(f)
		return
	}
	s := &search{eng: e, path: p}
	s.next(func(o *offer) {
		f := first{search: *s, offer: o}
		e.firsts[p] = f
		done(f)
	})
}

// noSubstitute tells whether a plan has found out that a path has none.
func (e *Engine) noSubstitute(p storepath.Path) bool {
	f, ok := e.firsts[p]
	return ok && f.offer == nil && f.search.err == nil
}

// checkOffer refuses what the store could not register.
func checkOffer(p storepath.Path, o *offer) error {
	if o.info.Path != p {
		return fmt.Errorf("asked '%s' for '%s' but got '%s'", o.uri, p, o.info.Path)
	}
	return nil
}
