package goal

import (
	"gobuild/internal/activity"
	"gobuild/internal/logline"
	"gobuild/internal/sandbox"
	"gobuild/internal/store/drv"
	"gobuild/internal/store/pathlock"
	"gobuild/internal/store/storepath"
	"gobuild/internal/worker"
	"gobuild/internal/worker/proc"
)

// An attempt is what exists only while a derivation's outputs are locked:
// everything that must be given back, in one place.
type attempt struct {
	eng  *Engine
	lock *pathlock.Lock
	held []storepath.Path

	drv       *drv.Derivation
	options   *drv.Options
	valid     []storepath.Path // outputs that were valid already
	sandboxed bool
	user      *sandbox.User
	world     *sandbox.World
	scratch   scratch

	log      *buildLog
	lines    *logline.Splitter
	relay    *logline.Relay
	tail     *logline.Tail
	size     int64 // bytes of output so far
	activity activity.ID
	waiting  activity.ID // "waiting for …", between polls

	process *proc.Process
	handle  *worker.Handle
	report  *sandbox.Report
	setup   error       // the sandbox could not be set up
	noExec  bool        // the kernel refused to execute the builder
	killed  *BuildError // the limit that was broken
	status  proc.Status
	sweeper *worker.Handle // kills what the builder's user still runs

	finaliser *finaliser
	outputs   []builtOutput
	doneWell  bool // the outputs are valid
	keep      bool // the build directory is wanted
}

// release gives everything back; it may be called at any time and twice. A
// builder that still runs is killed, and what it could still touch is given
// back when it is gone.
func (d *Derivation) release() {
	a := d.attempt
	if a == nil {
		return
	}
	d.attempt = nil
	d.eng.stop(&a.waiting)
	d.eng.stop(&a.activity)
	for _, h := range []*worker.Handle{a.handle, a.sweeper, a.finaliserHandle()} {
		if h != nil && !h.Exited() {
			if h == a.handle {
				d.eng.builds.running--
			}
			d.eng.w.Bury(h, func(proc.Status) { a.giveBack() })
			return
		}
	}
	a.giveBack()
}

func (a *attempt) finaliserHandle() *worker.Handle {
	if a.finaliser == nil {
		return nil
	}
	return a.finaliser.handle
}

// giveBack releases what the builder could touch; the builder is gone.
func (a *attempt) giveBack() {
	if a.log != nil {
		if err := a.log.close(); err != nil {
			a.eng.message(activity.Warn, "%v", err)
		}
		a.log = nil
	}
	if a.world != nil {
		a.removeRejected()
		a.removeWorld()
	}
	a.removeScratch()
	if a.user != nil {
		a.user.Release()
		a.user = nil
	}
	a.unlock(pathlock.Disposal(a.doneWell))
}

// unlock lets go of the outputs' locks. Lock files are deleted only when the
// outputs are valid: nobody locks them again then.
func (a *attempt) unlock(d pathlock.Disposal) {
	if a.lock == nil {
		return
	}
	a.lock.Release(d)
	a.lock = nil
	for _, p := range a.held {
		delete(a.eng.held, p)
	}
	a.held = nil
}

// stop ends an activity that may not have been started.
func (e *Engine) stop(id *activity.ID) {
	if *id != 0 {
		e.sink.Stop(*id)
		*id = 0
	}
}
