package goal

import (
	"fmt"

	"gobuild/internal/activity"
	"gobuild/internal/store/storepath"
	"gobuild/internal/worker"
)

// A Substitution makes one path valid by fetching it. There are no
// substituters yet, so it ends with that answer unless the path is valid.
type Substitution struct {
	worker.Node
	eng  *Engine
	path storepath.Path
	err  *BuildError
	done Status
}

// Name is for traces.
func (s *Substitution) Name() string { return fmt.Sprintf("substitution of '%s'", s.path) }

// Key puts substitutions before builds.
func (s *Substitution) Key() worker.Key {
	return worker.Key{Class: 'a', Name: s.path.Name(), Path: string(s.path)}
}

// Step is the whole life of the goal.
func (s *Substitution) Step() (worker.Wait, error) {
	if err := s.eng.store.AddTempRoots(s.path); err != nil {
		return s.fail(MiscFailure, worker.Failed, err), nil
	}
	valid, err := s.eng.store.IsValid(s.path)
	switch {
	case err != nil:
		return s.fail(MiscFailure, worker.Failed, err), nil
	case valid:
		s.eng.valid.Set(s.path, true)
		s.done = AlreadyValid
		return s.End(worker.Success), nil
	case s.eng.opt.ReadOnly:
		err = fmt.Errorf("cannot substitute path '%s' - no write access to the Nix store", s.path)
		return s.fail(MiscFailure, worker.Failed, err), nil
	}
	err = fmt.Errorf("path '%s' is required, but there is no substituter that can build it", s.path)
	return s.fail(NoSubstituters, worker.NoSubstituters, err), nil
}

// fail ends the goal. The error is reported at once when the path is wanted by
// another goal, which knows only that something is missing.
func (s *Substitution) fail(status Status, r worker.Result, err error) worker.Wait {
	s.err = &BuildError{Drv: s.path, Status: status, Err: err}
	s.eng.outcome.add(s.err)
	switch {
	case !s.Waited():
	case s.path.IsDerivation(): // whoever waits will say that it is missing
		s.eng.message(activity.Debug, "%v", err)
	default:
		s.eng.reportNow(s.err)
	}
	return s.End(r)
}

// Abandon has nothing to give back.
func (s *Substitution) Abandon() {}

// Output is never called: the goal has no child.
func (s *Substitution) Output(*worker.Handle, int, []byte) {}

// TimedOut is never called: the goal has no child.
func (s *Substitution) TimedOut(*worker.Handle, worker.Limit) {}

func (s *Substitution) failure() *BuildError { return s.err }

func (s *Substitution) buildResult() BuildResult {
	return BuildResult{Path: s.path, Status: s.status(), Err: errOrNil(s.err)}
}

func (s *Substitution) status() Status {
	if s.err != nil {
		return s.err.Status
	}
	return s.done
}

func errOrNil(e *BuildError) error {
	if e == nil {
		return nil
	}
	return e
}
