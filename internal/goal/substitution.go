package goal

import (
	"errors"
	"fmt"
	"strconv"

	"gobuild/internal/activity"
	"gobuild/internal/store/fstree"
	"gobuild/internal/store/pathlock"
	"gobuild/internal/store/storepath"
	"gobuild/internal/worker"
)

// A Substitution makes one path valid by fetching it, with all that it refers
// to.
type Substitution struct {
	worker.Node
	eng    *Engine
	path   storepath.Path
	repair bool // fetch it although it is valid, and replace what is there

	state  substitutionStep
	search search
	offer  *offer
	only   bool // nobody would build the path instead
	needed bool // somebody cannot do without it, and does not say what it was
	failed bool // some source has failed to do what it promised
	cyclic bool // the offer's references lead back to the path

	lock     *pathlock.Lock // while fetching and installing
	tree     string         // where it is fetched to
	transfer transfer       // nil when none is under way
	fetchErr error
	install  *installation // waiting to be registered

	outer, inner, download activity.ID // while fetching
	expected               [2]uint64   // bytes to download and to unpack, as the counters have them

	done Status
	err  *BuildError
}

// A substitutionStep is a state, as a step is of a derivation.
type substitutionStep func(*Substitution) (substitutionStep, worker.Wait, error)

// Name is for traces.
func (s *Substitution) Name() string { return fmt.Sprintf("substitution of '%s'", s.path) }

// Key puts substitutions before builds.
func (s *Substitution) Key() worker.Key {
	return worker.Key{Class: 'a', Name: s.path.Name(), Path: string(s.path)}
}

// Step runs the current state. An error of a state is this goal's failure.
func (s *Substitution) Step() (worker.Wait, error) {
	next, wait, err := s.state(s)
	if err != nil {
		return s.fail(MiscFailure, worker.Failed, err), nil
	}
	if next != nil {
		s.state = next
	}
	return wait, nil
}

// start asks for nothing if the path is valid.
func (s *Substitution) start() (substitutionStep, worker.Wait, error) {
	if err := s.eng.store.AddTempRoots(s.path); err != nil {
		return nil, worker.Done, err
	}
	if !s.repair {
		valid, err := s.eng.valid.IsValid(s.path) // the database has its say under the lock
		if err != nil {
			return nil, worker.Done, err
		}
		if valid {
			return s.succeed(AlreadyValid)
		}
	}
	if s.eng.opt.ReadOnly {
		return nil, worker.Done, fmt.Errorf("cannot substitute path '%s' - no write access to the Nix store", s.path)
	}
	if !s.eng.substitutes() {
		return s.noMore()
	}
	s.search = search{eng: s.eng, path: s.path}
	if f, ok := s.eng.firsts[s.path]; ok {
		s.search, s.offer = f.search, f.offer
		return s.gotInfo()
	}
	return s.tryNext()
}

// tryNext asks the sources for the next substitute.
func (s *Substitution) tryNext() (substitutionStep, worker.Wait, error) {
	s.offer = nil
	asking, answered := true, false
	s.search.next(func(o *offer) {
		s.offer, answered = o, true
		if !asking {
			s.eng.w.Wake(s)
		}
	})
	if asking = false; answered {
		return s.gotInfo()
	}
	return (*Substitution).gotInfo, worker.Signal, nil
}

// noMore ends the goal when all sources have been tried.
func (s *Substitution) noMore() (substitutionStep, worker.Wait, error) {
	err := fmt.Errorf("path '%s' is required, but there is no substituter that can build it", s.path)
	result := worker.NoSubstituters
	if unknown := s.search.err; unknown != nil {
		s.eng.complain(unknown)
		s.failed = true
	}
	if s.failed && !s.eng.opt.Fallback {
		result = worker.Failed
	}
	return nil, s.fail(NoSubstituters, result, err), nil
}

// gotInfo has an offer, and first wants what that refers to.
func (s *Substitution) gotInfo() (substitutionStep, worker.Wait, error) {
	if s.offer == nil {
		return s.noMore()
	}
	if err := checkOffer(s.path, s.offer); err != nil {
		s.eng.message(activity.Warn, "%v", err)
		return s.tryNext()
	}
	s.expect(s.offer.download, s.offer.info.NarSize)
	for _, ref := range s.offer.info.References {
		if ref == s.path {
			continue
		}
		valid, err := s.eng.valid.IsValid(ref)
		if err != nil {
			return nil, worker.Done, err
		}
		if !valid {
			s.eng.w.Await(s, s.eng.substitution(ref, false))
		}
	}
	return (*Substitution).referencesValid, worker.Goals, nil
}

// referencesValid runs when all references have been tried.
func (s *Substitution) referencesValid() (substitutionStep, worker.Wait, error) {
	if s.cyclic {
		s.cyclic, s.failed = false, true
		s.eng.complain(fmt.Errorf("the references of '%s' in '%s' lead back to it", s.path, s.offer.uri))
		s.expect(0, 0)
		s.ResetCounts()
		return s.tryNext()
	}
	if s.Failed() > 0 {
		result := worker.Failed
		if s.WithoutSubstituters() > 0 || s.Incomplete() > 0 {
			result = worker.IncompleteClosure
		}
		return nil, s.fail(DependencyFailed, result, s.lacking()), nil
	}
	return s.tryToRun()
}

// tryToRun starts to fetch once there is a slot and the path's lock.
func (s *Substitution) tryToRun() (substitutionStep, worker.Wait, error) {
	e := s.eng
	again := (*Substitution).tryToRun
	switch {
	case !e.w.SlotFree(worker.SubstitutionSlot):
		return again, worker.Slot, nil
	case e.held[s.path]:
		return again, worker.AnyGoal, nil
	}
	var names []string
	if !e.store.HeldByParent(s.path) {
		names = []string{e.store.RealPath(s.path)}
	}
	lock, ok, err := pathlock.Acquire(names, pathlock.Try)
	if err != nil {
		return nil, worker.Done, fmt.Errorf("locking '%s': %w", s.path, err)
	}
	if !ok {
		if s.outer == 0 {
			s.outer = e.start(activity.Warn, activity.BuildWaiting, fmt.Sprintf("waiting for lock on '%s'", s.path))
		}
		return again, worker.AWhile, nil
	}
	e.stop(&s.outer)
	s.lock, e.held[s.path] = lock, true
	if !s.repair {
		valid, err := e.store.IsValid(s.path)
		if err != nil {
			return nil, worker.Done, err
		}
		if valid {
			s.release(pathlock.Delete)
			return s.succeed(AlreadyValid)
		}
	}
	return s.startFetching()
}

// startFetching is entered with the lock and a free slot.
func (s *Substitution) startFetching() (substitutionStep, worker.Wait, error) {
	e := s.eng
	dir, err := e.fetchDir()
	if err != nil {
		return nil, worker.Done, err
	}
	e.lastFetch++
	s.tree, s.fetchErr = dir+"/"+strconv.Itoa(e.lastFetch), nil
	s.startActivities()
	e.trace("substituter-started %s %s", s.path, s.offer.uri)
	e.w.Occupy(worker.SubstitutionSlot)
	e.copies.running++
	s.offer.repair = s.repair
	transfer := s.offer.source.fetch(s.offer, s.tree, fetchEvents{
		progress: s.progressed,
		ended: func(err error) {
			s.fetchErr = err
			s.endTransfer()
			e.w.Wake(s)
		},
	})
	if s.outer == 0 { // it has ended already
		return s.fetched()
	}
	s.transfer = transfer
	return (*Substitution).fetched, worker.Signal, nil
}

// fetched runs when the tree is complete, or will never be.
func (s *Substitution) fetched() (substitutionStep, worker.Wait, error) {
	e := s.eng
	if s.fetchErr != nil {
		return s.fetchFailed()
	}
	if err := s.moveIn(); err != nil {
		return nil, worker.Done, err
	}
	s.install = &installation{info: s.offer.info, ended: func() { e.w.Wake(s) }}
	e.register(s.install)
	return (*Substitution).registered, worker.Signal, nil
}

// moveIn puts the tree where it belongs.
func (s *Substitution) moveIn() error {
	e := s.eng
	if s.repair {
		return e.replaceValid(s.path, s.tree)
	}
	if err := e.deleteStale([]storepath.Path{s.path}); err != nil {
		return err
	}
	return fstree.Move(s.tree, e.store.RealPath(s.path))
}

// fetchFailed tries the next substitute.
func (s *Substitution) fetchFailed() (substitutionStep, worker.Wait, error) {
	var gone *goneError
	if !errors.As(s.fetchErr, &gone) {
		s.failed = true
	}
	if gone != nil && gone.told {
		s.eng.message(activity.Talkative, "%v", s.fetchErr)
	} else {
		s.eng.complain(s.fetchErr)
	}
	s.eng.trace("substituter-failed %s 1 %v", s.path, s.fetchErr)
	s.release(pathlock.Keep)
	s.expect(0, 0)
	s.ResetCounts()
	return s.tryNext()
}

// registered runs when the database has taken the path, or refused it.
func (s *Substitution) registered() (substitutionStep, worker.Wait, error) {
	if err := s.install.err; err != nil {
		if !s.repair {
			s.eng.discardQuietly(s.eng.store.RealPath(s.path))
		}
		return nil, worker.Done, fmt.Errorf("registering '%s': %w", s.path, err)
	}
	s.install = nil
	s.release(pathlock.Delete)
	e := s.eng
	e.message(activity.Chatty, "substitution of path '%s' succeeded", s.path)
	e.trace("substituter-succeeded %s", s.path)
	e.copies.done++
	e.doneBytes[0] += s.expected[0]
	e.doneBytes[1] += s.expected[1]
	return s.succeed(Substituted)
}

func (s *Substitution) succeed(status Status) (substitutionStep, worker.Wait, error) {
	s.expect(0, 0)
	s.eng.valid.Set(s.path, true)
	delete(s.eng.lacks, s.path)
	s.done = status
	return nil, s.End(worker.Success), nil
}

// release gives back what a fetch holds; it may be called twice.
func (s *Substitution) release(d pathlock.Disposal) {
	if s.transfer != nil {
		s.transfer.cancel()
		s.endTransfer()
	}
	s.eng.stop(&s.outer)
	if s.lock != nil {
		s.lock.Release(d)
		s.lock = nil
		delete(s.eng.held, s.path)
	}
}

// Abandon gives back what the goal holds when nobody wants it any more.
func (s *Substitution) Abandon() {
	s.search.over = true
	if s.install != nil {
		s.eng.registerNow() // its tree is in place: rather valid than garbage
	}
	s.release(pathlock.Keep)
	s.expect(0, 0)
}

// Output is never called: the goal has no child of its own.
func (s *Substitution) Output(*worker.Handle, int, []byte) {}

// TimedOut is never called: the goal has no child of its own.
func (s *Substitution) TimedOut(*worker.Handle, worker.Limit) {}
