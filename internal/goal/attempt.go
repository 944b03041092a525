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
	done      []storepath.Path // those of them that the build need not make
	sandboxed bool
	user      *sandbox.User
	world     *sandbox.World
	scratch   scratch

	log   *buildLog
	lines *logline.Splitter
	relay *logline.Relay
	tail  *logline.Tail
	size  int64 // bytes of output so far

	declined  bool         // by the build hook: it is made here
	hook      *hookProcess // that builds it; nil when it is made here
	hookLog   int          // descriptor on which the hook passes on what the builder says
	hookEnded bool
	aside     *userHook // that runs

	process *proc.Process
	handle  *worker.Handle
	report  *sandbox.Report
	setup   error       // the sandbox could not be set up
	noExec  bool        // the kernel refused to execute the builder
	killed  *BuildError // the limit that was broken
	status  proc.Status
	sweeper *worker.Handle // kills what the build user still runs
	swept   bool           // it has done so after the builder's end

	finaliser *finaliser
	outputs   []builtOutput
	staged    []string // finished trees beside the valid paths that they replace, or are compared with
	diffs     *diffs   // what a check has found; nil before
	doneWell  bool     // the outputs are valid
	keep      bool     // the build directory is wanted
}

// release gives everything back; it may be called at any time and twice. A
// builder that still runs is killed, and what it could still touch is given
// back when it is gone.
func (d *Derivation) release() {
	d.eng.asker.leave(d)
	a := d.attempt
	if a == nil {
		return
	}
	d.attempt = nil
	if a.relay != nil {
		a.relay.Close()
	}
	w := d.eng.w
	if a.aside != nil {
		d.eng.stop(&a.aside.shows)
	}
	switch {
	case a.hook != nil && lives(a.handle):
		a.retire()
	case a.aside != nil && lives(a.aside.handle):
		w.Bury(a.aside.handle, func(proc.Status) { a.giveBack() })
	case lives(a.handle):
		w.Bury(a.handle, func(proc.Status) { a.sweep() })
	case lives(a.sweeper): // it must do its work
		w.Leave(a.sweeper, func(proc.Status) { a.giveBack() })
	case a.finaliser != nil && lives(a.finaliser.handle):
		w.Bury(a.finaliser.handle, func(proc.Status) {
			a.removeCopies()
			a.giveBack()
		})
	case a.diffs != nil && lives(a.diffs.hook):
		w.Bury(a.diffs.hook, func(proc.Status) { a.sweep() })
	default:
		a.sweep()
	}
}

func lives(h *worker.Handle) bool { return h != nil && !h.Exited() }

// sweep kills what a builder without a sandbox has left, before what it could
// touch is given back.
func (a *attempt) sweep() {
	if a.process == nil || a.sandboxed && !a.hooked() || a.swept {
		a.giveBack()
		return
	}
	a.swept = true
	if a.user == nil {
		a.killOrphans()
		a.giveBack()
		return
	}
	p, err := a.eng.opt.Sandbox.KillUser(a.user.UID)
	if err == nil {
		a.sweeper, err = a.eng.w.WatchFor(&quiet{}, worker.Child{Proc: p, Slot: worker.BuildSlot})
	}
	if err != nil {
		a.eng.message(activity.Warn, "%v", err)
		a.giveBack()
		return
	}
	a.eng.w.Leave(a.sweeper, func(proc.Status) { a.giveBack() })
}

// hooked tells whether a hook has run as the builder's user, outside the
// sandbox.
func (a *attempt) hooked() bool { return a.user != nil && a.diffs != nil && a.diffs.hook != nil }

// killOrphans is for builders that run as we do.
func (a *attempt) killOrphans() {
	a.process.ReapGroup()
	if a.world != nil {
		proc.KillOrphans("NIX_BUILD_TOP="+a.world.BuildDir(), a.eng.w.Watched)
	}
}

// giveBack releases what the builder could touch; the builder is gone.
func (a *attempt) giveBack() {
	if a.log != nil {
		if err := a.log.close(); err != nil {
			a.eng.message(activity.Warn, "%v", err)
		}
		a.log = nil
	}
	if a.process != nil {
		a.removeRejected()
	}
	a.endHook()
	a.removeHookOutputs()
	a.removeWorld()
	a.removeScratch()
	a.removeStaged()
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
