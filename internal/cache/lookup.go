package cache

import (
	"context"
	"errors"
	"time"

	"gobuild/internal/store/narinfo"
	"gobuild/internal/store/storepath"
)

// A flight is one question to one source, for all who want to know.
type flight struct{ waiting []chan<- verdict }

type flightKey struct {
	source int
	path   storepath.Path
}

// A verdict is what a source said.
type verdict struct {
	source int
	info   *narinfo.Info
	err    error
}

// ask sends the verdict of a source to a channel, which must have room for it.
// The question is finished even if nobody waits any more: what it teaches about
// the source is of use to others.
func (s *Set) ask(source int, path storepath.Path, answers chan<- verdict) {
	key := flightKey{source, path}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.flights[key]; f != nil {
		f.waiting = append(f.waiting, answers)
		return
	}
	f := &flight{waiting: []chan<- verdict{answers}}
	s.flights[key] = f
	s.wg.Go(func() {
		v := verdict{source: source}
		v.info, v.err = s.sources[source].lookup(s.ctx, path)
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.flights, key)
		for _, w := range f.waiting {
			w <- v
		}
	})
}

// Lookup finds the first source from a place on that has a path we may trust.
// A source that leaves us without an answer for long is passed over if a later
// one has the path. The error is ErrAbsent if no source has it, an UnknownError
// if some source may, or the context's.
func (s *Set) Lookup(ctx context.Context, path storepath.Path, after int) (Found, error) {
	l := lookup{
		set: s, path: path, next: max(after, 0),
		answers: make(chan verdict, len(s.sources)),
		timer:   time.NewTimer(s.patience),
		// nobody has been asked, so nobody need be waited for
		lastDone: true,
	}
	defer l.timer.Stop()
	for {
		if l.lastDone && !l.advance() && l.open == 0 {
			return Found{}, l.failure()
		}
		select {
		case <-ctx.Done():
			return Found{}, ctx.Err()
		case <-l.timer.C:
			l.hurry()
		case v := <-l.answers:
			if v = l.best(v); v.info != nil {
				info := *v.info // others may have got the same
				return Found{Source: v.source, URI: s.sources[v.source].cache.URI(), Info: &info}, nil
			}
		}
	}
}

// A lookup is one call's progress.
type lookup struct {
	set     *Set
	path    storepath.Path
	answers chan verdict
	next    int // the first source that has not been asked
	open    int // how many of those asked have not answered
	timer   *time.Timer
	errs    []error
	// lastDone is that the last source asked has answered. Those before it have,
	// too, or were silent when it was asked.
	lastDone bool
}

// advance asks the next source, if there is one, and more if that is silent
// already.
func (l *lookup) advance() bool {
	before := l.next
	for l.next < len(l.set.sources) && (l.next == before || l.silent()) {
		l.set.ask(l.next, l.path, l.answers)
		l.next++
		l.open++
		l.lastDone = false
	}
	return l.next > before
}

// hurry asks one more source if the last one asked is silent.
func (l *lookup) hurry() {
	if !l.lastDone && l.next < len(l.set.sources) && l.silent() {
		l.advance()
	}
}

// silent tells whether the last source asked is, or sets the timer to when it
// may be.
func (l *lookup) silent() bool {
	last := l.set.sources[l.next-1]
	if last.server == nil {
		return false
	}
	silent, rest := last.server.health.silent(l.set.patience)
	if !silent {
		l.timer.Reset(max(rest, time.Millisecond))
	}
	return silent
}

// best takes in a verdict and those that came together with it, and returns
// that of the best source that has the path, if one has.
func (l *lookup) best(v verdict) verdict {
	var found verdict
	for {
		l.open--
		l.lastDone = l.lastDone || v.source == l.next-1
		switch {
		case v.info != nil && (found.info == nil || v.source < found.source):
			found = v
		case v.err != nil && !errors.Is(v.err, ErrAbsent):
			l.errs = append(l.errs, v.err)
		}
		select {
		case v = <-l.answers:
		default:
			return found
		}
	}
}

func (l *lookup) failure() error {
	if len(l.errs) > 0 {
		return &UnknownError{Path: l.path, Errs: l.errs}
	}
	return ErrAbsent
}
