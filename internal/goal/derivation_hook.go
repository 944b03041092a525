package goal

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"gobuild/internal/activity"
	"gobuild/internal/hook"
	"gobuild/internal/store/drv"
	"gobuild/internal/worker"
	"gobuild/internal/worker/proc"
)

// askable tells whether the build hook decides where this is built. Repairs and
// checks replace or compare what is here, so they are made here.
func (d *Derivation) askable() bool {
	e := d.eng
	switch {
	case e.asker.program == nil || d.mode != Normal:
		return false
	case d.attempt != nil && d.attempt.declined:
		return false
	}
	return e.opt.MaxJobs == 0 || !d.outline.PreferLocalBuild || !e.canBuildHere(d.outline)
}

// awaitPlace waits for a place to build: for a turn to ask the build hook if it
// is to be asked, else for a free slot.
func (d *Derivation) awaitPlace() (step, worker.Wait, error) {
	if d.askable() {
		d.eng.asker.join(d)
		return (*Derivation).tryToBuild, worker.Signal, nil
	}
	return (*Derivation).tryToBuild, worker.Slot, nil
}

// askHook is entered with the outputs' locks in the goal's turn.
func (d *Derivation) askHook() (step, worker.Wait, error) {
	e, t, o := d.eng, d.turn, d.outline
	features := o.RequiredSystemFeatures
	if e.asker.protocol == hook.Binary { // which has a set there, the other a list
		features = slices.Compact(slices.Sorted(slices.Values(features)))
	}
	request, err := e.asker.protocol.AppendRequest(nil, hook.Request{
		Willing: t.willing, Platform: o.Platform, Drv: d.path, Features: features,
	})
	if err != nil {
		return d.failWith(InputRejected, err)
	}
	t.asked = true
	if t.process.handle.Exited() {
		t.process.reply = &hook.Reply{Verdict: hook.Decline}
		return d.hookReplied()
	}
	e.message(activity.Debug, "asking the build hook about '%s', with a slot of our own: %t", d.path, t.willing)
	t.process.replies.Expect()
	e.w.Send(t.process.handle, request)
	return (*Derivation).hookReplied, worker.Signal, nil
}

// hookReplied runs when the hook has answered, or died.
func (d *Derivation) hookReplied() (step, worker.Wait, error) {
	e, t := d.eng, d.turn
	r := *t.process.reply
	switch r.Verdict {
	case hook.Accept:
		return d.followHook(r.Machine)
	case hook.Never:
		e.asker.program = nil
	case hook.Bad:
		t.process.reply = nil // nobody knows what it takes for answered
		return d.failWith(MiscFailure, fmt.Errorf("asking the build hook about '%s': bad hook reply '%s'", d.path, r.Word))
	}
	e.asker.endTurn(d)
	if r.Verdict == hook.Postpone {
		e.why(d, "postpones")
		d.unlock()
		d.waitFor(fmt.Sprintf("waiting for a machine to build '%s'", d.path))
		return d.queueUp(t.willing)
	}
	e.why(d, "declines")
	return d.declined(t.willing)
}

// why tells those who want to know more what a hook has decided.
func (e *Engine) why(d *Derivation, verb string) {
	e.message(activity.Talkative, "the build hook %s to build '%s' (for '%s' with features {%s})",
		verb, d.path, d.outline.Platform, sortedList(d.outline.RequiredSystemFeatures))
}

// declined builds here, now or later.
func (d *Derivation) declined(willing bool) (step, worker.Wait, error) {
	e := d.eng
	d.attempt.declined = true
	switch {
	case !e.canBuildHere(d.outline):
		return nil, worker.Done, e.wrongMachine(d.path, d.outline)
	case e.w.SlotFree(worker.BuildSlot):
		return (*Derivation).tryToBuild, worker.Now, nil
	}
	d.unlock()
	if e.opt.MaxJobs == 0 && e.asker.builds == 0 || e.asker.program == nil {
		return (*Derivation).tryToBuild, worker.Slot, nil
	}
	return d.queueUp(willing)
}

// queueUp waits for another turn after an answer that was of no use.
func (d *Derivation) queueUp(willing bool) (step, worker.Wait, error) {
	d.eng.asker.rejoin(d, willing)
	return (*Derivation).tryToBuild, worker.Signal, nil
}

// unlock gives back what an attempt holds that has come to nothing, but what
// shows that the goal waits stays.
func (d *Derivation) unlock() {
	d.attempt.giveBack()
	d.attempt = nil
}

// followHook has the hook build, outside of any slot.
func (d *Derivation) followHook(machine string) (step, worker.Wait, error) {
	a, e, p := d.attempt, d.eng, d.turn.process
	a.hook, a.handle, a.hookLog = p, p.handle, p.input.Builder
	e.asker.hired(d)
	job, err := d.hookJob()
	if err != nil {
		return nil, worker.Done, err
	}
	if a.log, err = e.openLog(d.path); err != nil {
		return nil, worker.Done, err
	}
	e.stop(&d.activity)
	e.message(activity.Talkative, "using hook to build path(s) %s", quoteAll(d.missingOutputs(a.done)))
	d.announce(machine)
	p.relay.parent, p.relay.builder = d.activity, d.hookLogged
	p.input.Builder = -1 // the worker's from now on
	if err := e.w.HandOver(p.handle, d, a.hookLog); err != nil {
		return nil, worker.Done, fmt.Errorf("following the build of '%s': %w", d.path, err)
	}
	e.w.Send(p.handle, e.asker.protocol.AppendJob(nil, job))
	e.w.CloseInput(p.handle)
	d.counted = true
	e.builds.running++
	e.report()
	if p.handle.Exited() {
		return d.hookExited()
	}
	return (*Derivation).hookExited, worker.Exit, nil
}

// hookJob is what the hook needs to know to build.
func (d *Derivation) hookJob() (job hook.Job, err error) {
	if err := d.collectInputs(); err != nil {
		return job, err
	}
	job.Inputs = d.inputs
	for _, o := range d.outline.Outputs {
		job.Paths = append(job.Paths, o.Path)
		if !slices.Contains(d.attempt.done, o.Path) {
			job.Outputs = append(job.Outputs, o.ID)
		}
	}
	slices.Sort(job.Outputs)
	if d.eng.asker.protocol == hook.Text {
		if job.Drvs, err = d.eng.closures.Of(d.path); err != nil {
			return job, fmt.Errorf("finding what '%s' refers to: %w", d.path, err)
		}
	}
	return job, nil
}

// hookSaid hears from a hook that builds.
func (d *Derivation) hookSaid(fd int, data []byte) {
	a := d.attempt
	if fd == a.hookLog {
		d.logged(data)
	} else {
		a.hook.replies.Feed(data)
	}
}

// hookLogged keeps what a builder elsewhere has said, which is reported already.
func (d *Derivation) hookLogged(data []byte) {
	a := d.attempt
	if a == nil || a.log == nil {
		return
	}
	if !strings.HasPrefix(string(data), "@nix ") {
		a.tail.Add(strings.TrimSuffix(string(data), "\n"))
	}
	d.keepLog(data)
}

// hookExited runs when the hook has ended.
func (d *Derivation) hookExited() (step, worker.Wait, error) {
	a, e := d.attempt, d.eng
	a.status = a.handle.Status()
	d.stopped = e.opt.Now()
	a.hook.replies.End()
	a.endHook()
	_ = a.lines.Close()
	a.relay.Close()
	e.message(activity.Debug, "build hook for '%s' finished", d.path)
	if err := a.log.close(); err != nil {
		e.message(activity.Warn, "%v", err)
	}
	switch {
	case a.killed != nil:
		a.killed.Tail, a.killed.Logged = a.tail.Lines(), a.log.path != ""
		return nil, worker.Done, d.hookFailed(a.killed)
	case a.status.Wait.Exited() && a.status.Wait.ExitStatus() == lostExit && d.lost < maxLost:
		return d.askAgain()
	case !a.status.OK():
		failure := d.hookError()
		d.remember(failure, a.status)
		return nil, worker.Done, d.hookFailed(failure)
	}
	valid, err := d.validNow()
	if err != nil {
		return nil, worker.Done, err
	}
	if len(valid) == len(d.outline.Outputs) {
		return d.built()
	}
	a.valid, a.done = valid, valid
	return d.registerForHook()
}

const (
	// lostExit is the exit status of a hook that has lost the machine on which it
	// built, and found no other: whoever asks again may be luckier.
	lostExit = 75
	// maxLost is how often that is done for one goal.
	maxLost = 5
)

// askAgain starts anew after a build that was lost.
func (d *Derivation) askAgain() (step, worker.Wait, error) {
	e := d.eng
	d.lost++
	e.message(activity.Warn, "the machine that built '%s' was lost; asking the build hook again", d.path)
	d.counted = false
	e.builds.running--
	e.report()
	e.stop(&d.activity)
	d.unlock()
	return d.awaitPlace()
}

// registerForHook registers outputs that the hook has put in their places
// without telling the database, as those of the original engine may.
func (d *Derivation) registerForHook() (step, worker.Wait, error) {
	if d.eng.asker.protocol == hook.Binary {
		return nil, worker.Done, d.hookFailed(fmt.Errorf(
			"the build hook of '%s' succeeded, but the outputs %s are not valid", d.path, quoteAll(d.missingOutputs(d.attempt.valid))))
	}
	if err := errors.Join(d.readRecipe(), d.eng.loadKeys()); err != nil {
		return nil, worker.Done, d.hookFailed(err)
	}
	if err := d.findOutputs(); err != nil {
		return nil, worker.Done, d.hookFailed(err)
	}
	return d.finaliseOutputs()
}

// hookError is the failure of a hook that ended badly: the derivation's if the
// hook says so by its exit status, and the hook's own otherwise.
func (d *Derivation) hookError() *BuildError {
	a := d.attempt
	status := MiscFailure
	if a.status.Wait.Exited() {
		switch code := a.status.Wait.ExitStatus(); {
		case code == 100 && d.outline.Kind() == drv.Fixed:
			status = TransientFailure
		case code == 100:
			status = PermanentFailure
		case code == 101 && d.eng.asker.protocol == hook.Binary:
			status = TimedOut
		}
	}
	return &BuildError{
		Drv: d.path, Status: status, Tail: a.tail.Lines(), Logged: a.log.path != "",
		Err: fmt.Errorf("builder for '%s' %s", d.path, a.status),
	}
}

// hookFailed reports a build that failed elsewhere in the trace.
func (d *Derivation) hookFailed(err error) error {
	if be := (*BuildError)(nil); errors.As(err, &be) && be.Status != MiscFailure {
		d.eng.trace("build-failed %s %s 1 %s", d.path, d.traceOutput(), err)
	} else {
		d.eng.trace("hook-failed %s %s %d %s", d.path, d.traceOutput(), d.attempt.status.Wait, err)
	}
	return err
}

// retire ends a hook in the middle of its work. What it has put into the store
// is taken away again while the locks are held.
func (a *attempt) retire() {
	a.hook.retire(func(proc.Status) { a.giveBack() })
}

// endHook runs when the hook is gone: there is room for another build where it
// was.
func (a *attempt) endHook() {
	if a.hook == nil || a.hookEnded {
		return
	}
	a.hookEnded = true
	a.hook.relay.builder = nil
	a.hook.closed()
	a.eng.asker.builds--
	a.eng.asker.reopen()
}

// removeHookOutputs deletes what a hook left in the store that is not valid.
func (a *attempt) removeHookOutputs() {
	if a.hook == nil || a.doneWell {
		return
	}
	for _, p := range a.held {
		if valid, err := a.eng.store.IsValid(p); err == nil && !valid {
			a.eng.discardQuietly(a.eng.store.RealPath(p))
		}
	}
}
