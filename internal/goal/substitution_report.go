package goal

import (
	"fmt"

	"gobuild/internal/activity"
	"gobuild/internal/store/pathlock"
	"gobuild/internal/worker"
)

// startActivities says that the offer is being fetched.
func (s *Substitution) startActivities() {
	e := s.eng
	s.outer = e.start(activity.Error, activity.Substitute, "", string(s.path), s.offer.uri)
	s.inner = e.startIn(s.outer, activity.Info, activity.CopyPath,
		fmt.Sprintf("copying path '%s' from '%s'", s.path, s.offer.uri), string(s.path), s.offer.uri, "local")
	if s.offer.url != "" {
		s.download = e.startIn(s.inner, activity.Talkative, activity.FileTransfer, fmt.Sprintf("downloading '%s'", s.offer.url), s.offer.url)
	}
}

// progressed says how far the fetch is.
func (s *Substitution) progressed(downloaded, unpacked uint64) {
	if s.download != 0 {
		s.eng.sink.Result(s.download, activity.Progress, downloaded, max(s.offer.download, downloaded), 0, 0)
	}
	s.eng.sink.Result(s.inner, activity.Progress, unpacked, s.offer.info.NarSize, 0, 0)
}

// endTransfer gives the slot back.
func (s *Substitution) endTransfer() {
	s.transfer = nil
	s.eng.w.Vacate(worker.SubstitutionSlot)
	s.eng.copies.running--
	s.eng.stop(&s.download)
	s.eng.stop(&s.inner)
	s.eng.stop(&s.outer)
}

// lacking names what keeps the references from being complete: not the nearest
// path that failed, which may have failed for the same reason, but the first.
func (s *Substitution) lacking() error {
	e := s.eng
	for _, ref := range s.offer.info.References {
		if cause, ok := e.lacks[ref]; ok && ref != s.path {
			e.lacks[s.path] = cause
			return fmt.Errorf("some references of path '%s' could not be realised, among them '%s'", s.path, cause)
		}
	}
	return fmt.Errorf("some references of path '%s' could not be realised", s.path)
}

// expect changes what the goal adds to the run's expectations.
func (s *Substitution) expect(download, unpacked uint64) {
	sum := &s.eng.expectedBytes
	sum[0] += download - s.expected[0]
	sum[1] += unpacked - s.expected[1]
	s.expected = [2]uint64{download, unpacked}
}

// fail ends the goal. The error is reported at once when another goal needs the
// path and knows only that something is missing. Trouble of this machine always
// is: nobody else knows of it.
func (s *Substitution) fail(status Status, r worker.Result, err error) worker.Wait {
	s.release(pathlock.Keep)
	s.expect(0, 0)
	if s.only {
		err = fmt.Errorf("path '%s' does not exist and cannot be created: %w", s.path, err)
	}
	if status != DependencyFailed {
		s.eng.lacks[s.path] = s.path
	}
	s.err = &BuildError{Drv: s.path, Status: status, Err: err}
	s.eng.outcome.add(s.err)
	if s.failed || status == MiscFailure {
		s.eng.copies.bad++
	}
	switch {
	case !s.Waited():
	case s.needed, status == MiscFailure:
		s.eng.reportNow(s.err)
	default:
		s.eng.message(activity.Debug, "%v", err)
	}
	return s.End(r)
}

func (s *Substitution) failure() *BuildError { return s.err }

func (s *Substitution) buildResult() BuildResult {
	r := BuildResult{Path: s.path, Status: s.done, Err: errOrNil(s.err)}
	switch {
	case s.err != nil:
		r.Status = s.err.Status
	case s.Result() != worker.Success:
		r.Status, r.Err = MiscFailure, fmt.Errorf("substitution of '%s' was not finished", s.path)
	}
	return r
}

func errOrNil(e *BuildError) error {
	if e == nil {
		return nil
	}
	return e
}
