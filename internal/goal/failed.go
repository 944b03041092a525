package goal

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"gobuild/internal/activity"
	"gobuild/internal/store"
	"gobuild/internal/store/storepath"
	"gobuild/internal/worker/proc"
)

// failedBefore is the error of a derivation that is on record to fail. What is
// on record only saves work: trouble in reading it is no failure.
func (d *Derivation) failedBefore(outputs []storepath.Path) error {
	e := d.eng
	if !e.opt.CacheFailure || e.opt.RetryFailed || d.mode == Check {
		return nil
	}
	for _, p := range outputs {
		f, err := e.store.FailureOf(p)
		if err != nil {
			e.withoutFailures(err)
			return nil
		}
		if f == nil {
			continue
		}
		if e.failed[d.path] == nil {
			if e.failed == nil {
				e.failed = map[storepath.Path]*BuildError{}
			}
			e.trace("build-failed %s %s cached", d.path, p)
			e.failed[d.path] = d.cachedFailure(f)
		}
		return e.failed[d.path]
	}
	return nil
}

// withoutFailures goes on without the record.
func (e *Engine) withoutFailures(why error) {
	e.message(activity.Warn, "failed builds are not remembered: %v", why)
	e.opt.CacheFailure, e.opt.RetryFailed = false, false
}

// cachedFailure tells of a failure what its own message did.
func (d *Derivation) cachedFailure(f *store.Failure) *BuildError {
	e := d.eng
	err := &BuildError{Drv: d.path, Status: CachedFailure, Tail: f.Log[max(0, len(f.Log)-e.opt.LogLines):]}
	if f.Drv == d.path {
		_, missing := os.Stat(LogFile(e.opt.LogDir, d.path, e.opt.CompressLog))
		err.Logged = missing == nil
	}
	why := f.Message
	if why != "" {
		why = ", " + why
	}
	err.Err = fmt.Errorf("builder for '%s' failed previously (cached): on %s%s (--retry-failed builds it again)",
		f.Path, f.When.Format("2006-01-02 at 15:04:05"), why)
	return err
}

// remember puts a builder's failure on record if the builder will fail in the
// same way each time, as far as anybody can tell.
func (d *Derivation) remember(failure *BuildError, status proc.Status) {
	e := d.eng
	if !e.opt.CacheFailure || failure.Status != PermanentFailure || d.mode != Normal || !deterministic(status, failure.Tail) {
		return
	}
	f := store.Failure{Drv: d.path, Message: failure.Error(), Log: failure.Tail}
	if err := e.store.MarkFailed(f, d.missingOutputs(d.attempt.valid)...); err != nil {
		e.withoutFailures(err)
	}
}

// forget takes a derivation that has been built after all off the record.
func (d *Derivation) forget() {
	if !d.eng.opt.RetryFailed {
		return // or it would not have been tried
	}
	if err := d.eng.store.ClearFailed(d.missingOutputs(nil)...); err != nil {
		d.eng.withoutFailures(err)
	}
}

// deterministic tells whether a process that ended badly did so by itself. It
// may have been told to by somebody else, or by a kernel short of memory, and
// so may a program that it waited for: shells exit with 128 more than the
// signal that ended that. A machine that lacks something shows in what is said
// last.
func deterministic(s proc.Status, tail []string) bool {
	var sig unix.Signal
	switch {
	case s.Wait.Signaled():
		sig = s.Wait.Signal()
	case s.Wait.ExitStatus() > shellSignalled:
		sig = unix.Signal(s.Wait.ExitStatus() - shellSignalled)
	}
	switch sig {
	case unix.SIGHUP, unix.SIGINT, unix.SIGKILL, unix.SIGTERM, unix.SIGXCPU, unix.SIGXFSZ, unix.SIGPWR:
		return false
	}
	for _, errno := range []error{unix.ENOSPC, unix.EDQUOT, unix.ENOMEM} {
		text := errno.Error()
		for _, line := range tail {
			if strings.Contains(strings.ToLower(line), text) {
				return false
			}
		}
	}
	return true
}

const shellSignalled = 128
