package goal

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"gobuild/internal/activity"
	"gobuild/internal/sandbox"
	"gobuild/internal/store"
	"gobuild/internal/store/digest"
	"gobuild/internal/store/drv"
	"gobuild/internal/store/finalise"
	"gobuild/internal/store/fstree"
	"gobuild/internal/store/pathlock"
	"gobuild/internal/store/storepath"
	"gobuild/internal/worker"
)

// builderExited runs when the builder has been reaped and all it said heard.
func (d *Derivation) builderExited() (step, worker.Wait, error) {
	a, e := d.attempt, d.eng
	a.status = a.handle.Status()
	d.stopped = e.opt.Now()
	d.heardSetup()
	_ = a.lines.Close()
	a.relay.Close()
	e.message(activity.Debug, "builder process for '%s' finished", d.path)
	if err := a.log.close(); err != nil {
		e.message(activity.Warn, "%v", err)
	}
	if a.sandboxed {
		return d.judgeBuilder()
	}
	if a.user == nil {
		a.killOrphans()
		a.swept = true
		return d.judgeBuilder()
	}
	// Outside a PID namespace the user's other processes are still there, and
	// could change the outputs while they are looked at.
	var err error
	if a.sweeper, err = e.killUser(d, a.user); err != nil {
		return nil, worker.Done, d.buildFailed(err)
	}
	return (*Derivation).leftoversSwept, worker.Exit, nil
}

// leftoversSwept runs when nothing of the builder should be left.
func (d *Derivation) leftoversSwept() (step, worker.Wait, error) {
	a := d.attempt
	a.swept = true
	if err := sweepError(a.user, a.sweeper); err != nil {
		return nil, worker.Done, d.buildFailed(err)
	}
	return d.judgeBuilder()
}

// heardSetup finds out whether the builder was executed at all.
func (d *Derivation) heardSetup() {
	a := d.attempt
	err := a.report.End()
	var unexecuted *sandbox.ExecError
	switch {
	case err == nil || a.setup != nil || a.killed != nil:
	case errors.As(err, &unexecuted):
		d.logged([]byte("error: " + err.Error() + "\n"))
		a.noExec = true
	default:
		a.setup = err
	}
}

// judgeBuilder runs when nothing of the builder is left.
func (d *Derivation) judgeBuilder() (step, worker.Wait, error) {
	a := d.attempt
	switch {
	case a.setup != nil:
		return nil, worker.Done, d.buildFailed(fmt.Errorf("building '%s': %w", d.path, a.setup))
	case a.killed != nil:
		a.killed.Tail, a.killed.Logged = a.tail.Lines(), a.log.path != ""
		return nil, worker.Done, d.buildFailed(a.killed)
	case !a.status.OK() || a.noExec:
		failure := d.builderError()
		if !a.noExec {
			d.remember(failure, a.status)
		}
		return nil, worker.Done, d.buildFailed(failure)
	}
	if err := d.findOutputs(); err != nil {
		return nil, worker.Done, d.buildFailed(err)
	}
	return d.finaliseOutputs()
}

// builderError is the failure of a builder that ended badly.
func (d *Derivation) builderError() *BuildError {
	a := d.attempt
	status, note := PermanentFailure, ""
	if d.eng.diskFull(a.world.BuildDir()) {
		status, note = TransientFailure, "\nnote: build failure may have been caused by lack of free disk space"
	}
	if a.drv.IsFixed() {
		status = TransientFailure
	}
	how := a.status.String()
	if a.noExec { // as if a shell had not found it
		how = "failed with exit code 1"
	}
	return &BuildError{
		Drv: d.path, Status: status, Tail: a.tail.Lines(), Logged: a.log.path != "",
		Err: fmt.Errorf("builder for '%s' %s%s", d.path, how, note),
	}
}

// buildFailed reports a failed build in the trace and keeps its directory if
// that was asked for.
func (d *Derivation) buildFailed(err error) error {
	a := d.attempt
	if a.hook != nil {
		return d.hookFailed(err)
	}
	a.keep = d.eng.opt.KeepFailed && !d.outline.Builtin
	d.eng.trace("build-failed %s %s 1 %s", d.path, d.traceOutput(), err)
	return err
}

// diskFull tells whether so little is free on the store or beside the build
// that this may be why a builder failed.
func (e *Engine) diskFull(buildDir string) bool {
	const enough = 8 << 20
	for _, dir := range []string{e.store.RealDir(), buildDir} {
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) == nil && st.Bavail*uint64(st.Bsize) < enough {
			return true
		}
	}
	return false
}

// A builtOutput is an output on its way from the builder to the store.
type builtOutput struct {
	drv.Output
	ca     storepath.ContentAddress // what a fixed output promised
	at     string                   // where the finished tree is now
	digest digest.Digest            // of a fixed output, by the promised method
	info   store.Info
	refs   []storepath.Path
}

// findOutputs looks where the builder was told to put its outputs.
func (d *Derivation) findOutputs() error {
	a := d.attempt
	for _, o := range d.outline.Outputs {
		if slices.Contains(a.done, o.Path) {
			continue // the build made it again; the valid one stays
		}
		at := d.eng.store.RealPath(o.Path)
		if a.world != nil {
			at = a.world.OutputPath(a.scratch.path(o.Path).Base())
		}
		if _, err := os.Lstat(at); err != nil {
			return &BuildError{
				Drv: d.path, Status: OutputRejected, Tail: a.tail.Lines(), Logged: a.log.path != "",
				Err: fmt.Errorf("builder for '%s' failed to produce output path for output '%s' at '%s'", d.path, o.ID, o.Path),
			}
		}
		if d.mode == Check && !slices.Contains(a.valid, o.Path) {
			continue // there is nothing to compare it with
		}
		ca, err := o.ContentAddress()
		if err != nil {
			return err
		}
		a.outputs = append(a.outputs, builtOutput{Output: o, ca: ca, at: at})
	}
	return nil
}

// outputsFinalised runs when the outputs are canonical, hashed and scanned.
func (d *Derivation) outputsFinalised() (step, worker.Wait, error) {
	result, err := d.attempt.finaliser.finish()
	if err != nil {
		return nil, worker.Done, d.buildFailed(d.outputError(err))
	}
	d.reportLinks(&result)
	if err := d.takeResult(result); err != nil {
		return nil, worker.Done, d.buildFailed(err)
	}
	if err := d.checkOutputs(); err != nil {
		return nil, worker.Done, d.buildFailed(err)
	}
	if d.mode == Check {
		return d.compareOutputs()
	}
	if err := d.install(); err != nil {
		return nil, worker.Done, d.buildFailed(err)
	}
	return d.built()
}

// takeResult turns what the finaliser found into what is to be registered.
func (d *Derivation) takeResult(result finalise.Result) error {
	a := d.attempt
	byHash := d.candidates()
	for i := range a.outputs {
		o := &a.outputs[i]
		r := result.Outputs[i]
		o.at, o.digest = r.Path, r.Extra
		for _, part := range r.References {
			o.refs = append(o.refs, byHash[part])
		}
		slices.Sort(o.refs)
		o.refs = slices.Compact(o.refs)
		if a.options.DiscardsReferences(o.ID) {
			o.refs = nil
		}
		o.info = store.Info{
			Path: o.Path, NarHash: r.NarHash, NarSize: uint64(r.NarSize), References: o.refs,
			Deriver: d.path, Ultimate: true, CA: o.ca,
		}
	}
	return nil
}

// candidates are the paths that outputs may refer to, by hash part: all
// inputs, and the outputs at the paths that the builder knew them by.
func (d *Derivation) candidates() map[string]storepath.Path {
	byHash := make(map[string]storepath.Path, len(d.inputs)+len(d.outline.Outputs))
	for _, p := range d.inputs {
		byHash[p.HashPart()] = p
	}
	for _, o := range d.outline.Outputs {
		byHash[o.Path.HashPart()] = o.Path
	}
	return byHash
}

// install registers the outputs, all in one transaction: until then they
// belong to nobody. The finaliser has put them in their places, or beside
// valid paths that they replace.
func (d *Derivation) install() error {
	a, e := d.attempt, d.eng
	infos := make([]store.Info, len(a.outputs))
	for i, o := range a.outputs {
		infos[i] = o.info
		if err := e.sign(&infos[i]); err != nil {
			return err
		}
	}
	// Before they are valid: whoever dies from here on leaves nothing that only
	// another build of the same derivation would clean up.
	a.removeWorld()
	if e.opt.SyncFirst {
		unix.Sync()
	}
	for _, o := range a.outputs {
		if slices.Contains(a.staged, o.at) {
			if err := e.replaceValid(o.Path, o.at); err != nil {
				return err
			}
		}
	}
	if err := e.store.Register(infos); err != nil {
		return fmt.Errorf("registering the outputs of '%s': %w", d.path, err)
	}
	for _, info := range infos {
		e.store.SetContentsGood(info.Path, true)
	}
	a.outputs = nil
	return nil
}

// keepMismatch registers contents that a fixed output should not have had
// under the path that they deserve, so that correcting the hash in the
// derivation needs no second build.
func (d *Derivation) keepMismatch(o *builtOutput) {
	e := d.eng
	ca := storepath.ContentAddress{Method: o.ca.Method, Digest: o.digest}
	p, err := e.store.Dir().Content(ca, o.Path.Name(), storepath.References{})
	if err != nil || len(o.refs) > 0 {
		return
	}
	if valid, err := e.store.IsValid(p); valid || err != nil {
		return
	}
	if err := e.store.AddTempRoots(p); err != nil {
		return
	}
	dest := e.store.RealPath(p)
	lock, ok, err := pathlock.Acquire([]string{dest}, pathlock.Try)
	if err != nil || !ok {
		return
	}
	info := o.info
	info.Path, info.CA = p, ca
	if err = e.sign(&info); err != nil {
		return
	}
	if err = e.deleteStale([]storepath.Path{p}); err == nil {
		if err = fstree.Move(o.at, dest); err == nil {
			o.at = dest
			err = e.store.Register([]store.Info{info})
		}
	}
	if err == nil {
		o.at = ""
	} else if o.at == dest {
		e.discardQuietly(dest)
	}
	lock.Release(pathlock.Disposal(err == nil))
}
