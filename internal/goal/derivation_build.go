package goal

import (
	"errors"
	"fmt"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"gobuild/internal/activity"
	"gobuild/internal/logline"
	"gobuild/internal/sandbox"
	"gobuild/internal/store/drv"
	"gobuild/internal/store/storepath"
	"gobuild/internal/worker"
	"gobuild/internal/worker/proc"
)

// tryToBuild runs when the inputs are valid and perhaps a slot is free, or it
// is the goal's turn to ask the build hook. Locks are taken only with one of
// these in hand, so that waiting goals cost nothing.
func (d *Derivation) tryToBuild() (step, worker.Wait, error) {
	switch {
	case d.turn != nil:
	case d.askable(), !d.eng.w.SlotFree(worker.BuildSlot):
		return d.awaitPlace()
	}
	if d.attempt == nil {
		if wait, err := d.lockOutputs(); wait != worker.Now || err != nil {
			d.eng.asker.endTurn(d)
			return nil, wait, err
		}
		if d.waited {
			return d.examineAgain()
		}
	}
	a := d.attempt
	var err error
	if a.valid, err = d.validNow(); err != nil {
		return nil, worker.Done, err
	}
	if a.done = d.doneAlready(); len(a.done) == len(d.outline.Outputs) {
		d.eng.message(activity.Debug, "skipping build of derivation '%s', someone beat us to it", d.path)
		a.doneWell = true
		d.release()
		return d.succeed(AlreadyValid)
	}
	if err := d.eng.deleteStale(d.missingOutputs(a.valid)); err != nil {
		return nil, worker.Done, err
	}
	// Again: somebody else may have tried before we had the locks.
	if err := d.failedBefore(d.missingOutputs(a.valid)); err != nil {
		return nil, worker.Done, err
	}
	if d.turn != nil {
		return d.askHook()
	}
	next, wait, err := d.startBuilder()
	if rejected := (*BuildError)(nil); errors.As(err, &rejected) && a.relay == nil {
		d.eng.trace("build-failed %s %s 0 %s", d.path, d.traceOutput(), err)
	}
	return next, wait, err
}

// startBuilder is entered with the outputs' locks and a free slot.
func (d *Derivation) startBuilder() (_ step, _ worker.Wait, err error) {
	if !d.eng.canBuildHere(d.outline) {
		return nil, worker.Done, d.eng.wrongMachine(d.path, d.outline)
	}
	if err := d.readRecipe(); err != nil {
		return nil, worker.Done, err
	}
	if err := d.eng.loadKeys(); err != nil {
		return nil, worker.Done, err
	}
	a := d.attempt
	if a.sandboxed, err = d.eng.isolate(d.path, a.options, a.drv.IsFixed()); err != nil {
		return nil, worker.Done, err
	}
	if d.outline.Builtin && !d.knowsBuiltin() {
		return nil, worker.Done, d.refuseBuiltin()
	}
	if ok, err := a.acquireUser(); err != nil {
		return nil, worker.Done, err
	} else if !ok {
		d.waitFor(fmt.Sprintf("waiting for a free build user ID for '%s'", d.path))
		return nil, worker.AWhile, nil
	}
	d.eng.stop(&d.activity)
	if a.user != nil && !d.eng.swept[a.user.UID] {
		return d.sweepUser()
	}
	if err := d.collectInputs(); err != nil {
		return nil, worker.Done, err
	}
	if err := d.prepare(); err != nil {
		return nil, worker.Done, fmt.Errorf("building '%s': %w", d.path, err)
	}
	if d.eng.opt.PreBuildHook != "" {
		return d.startPreHook()
	}
	return d.launch()
}

// sweepUser kills what an engine that died may have left running as the user,
// which could do what the builder can. Once in a run is enough: after its own
// builds each engine does so anyway.
func (d *Derivation) sweepUser() (_ step, _ worker.Wait, err error) {
	a, e := d.attempt, d.eng
	e.swept[a.user.UID] = true
	if a.sweeper, err = e.killUser(d, a.user); err != nil {
		return nil, worker.Done, err
	}
	return (*Derivation).userSwept, worker.Exit, nil
}

func (d *Derivation) userSwept() (step, worker.Wait, error) {
	a := d.attempt
	if err := sweepError(a.user, a.sweeper); err != nil {
		delete(d.eng.swept, a.user.UID)
		return nil, worker.Done, err
	}
	return (*Derivation).tryToBuild, worker.Now, nil
}

// killUser starts to kill all processes of a user, for a goal that waits. The
// slot is taken: no other build starts meanwhile.
func (e *Engine) killUser(d *Derivation, u *sandbox.User) (*worker.Handle, error) {
	p, err := d.eng.opt.Sandbox.KillUser(u.UID)
	if err != nil {
		return nil, err
	}
	return e.w.Watch(d, worker.Child{Proc: p, Slot: worker.BuildSlot})
}

func sweepError(u *sandbox.User, h *worker.Handle) error {
	if h.Status().OK() {
		return nil
	}
	return fmt.Errorf("killing the processes of user %d: the process for that %s", u.UID, h.Status())
}

// readRecipe reads the whole derivation, which planning had dropped.
func (d *Derivation) readRecipe() error {
	a := d.attempt
	if a.drv != nil {
		return nil
	}
	recipe, err := d.eng.store.Derivation(d.path)
	if err != nil {
		return err
	}
	options, err := drv.ParseOptions(d.eng.store.Dir(), recipe)
	if name := (*drv.FileNameError)(nil); errors.As(err, &name) {
		return err
	}
	if err != nil {
		return &BuildError{Drv: d.path, Status: InputRejected, Err: err}
	}
	a.drv, a.options = recipe, options
	return nil
}

// isolate tells whether a build is to be sandboxed (sandbox spec, 2.1). With a
// store that is not where builders expect it, only a sandbox can show it there.
func (e *Engine) isolate(p storepath.Path, o *drv.Options, fixed bool) (bool, error) {
	moved := e.store.RealDir() != string(e.store.Dir())
	switch {
	case e.opt.Mode == SandboxOff:
		return moved, nil
	case e.opt.Mode == SandboxOn && o.NoChroot:
		return false, fmt.Errorf("derivation '%s' has '__noChroot' set, but that's not allowed when 'sandbox' is 'true'", p)
	case e.opt.Mode == SandboxRelaxed && (o.NoChroot || fixed):
		return moved, nil
	}
	return true, nil
}

func (a *attempt) acquireUser() (bool, error) {
	if a.eng.opt.Users == nil || a.user != nil {
		return true, nil
	}
	user, ok, err := a.eng.opt.Users.Acquire()
	if ok {
		a.user = user
	}
	return ok, err
}

// prepare makes the builder's world.
func (d *Derivation) prepare() (err error) {
	a, e := d.attempt, d.eng
	if err := d.redirect(); err != nil {
		return err
	}
	e.removeStale()
	if !a.sandboxed {
		if err := checkNoHome(noHome); err != nil {
			return err
		}
	}
	a.world, err = sandbox.NewWorld(e.opt.Sandbox, d.build())
	return err
}

// launch starts the builder in its world.
func (d *Derivation) launch() (step, worker.Wait, error) {
	command, err := d.command()
	defer closeFiles(&command)
	if err == nil {
		d.attempt.log, err = d.eng.openLog(d.path)
	}
	if err == nil {
		d.announce("")
		if err = d.execute(command); err != nil {
			err = d.buildFailed(err)
		}
	}
	if err != nil {
		return nil, worker.Done, fmt.Errorf("building '%s': %w", d.path, err)
	}
	return (*Derivation).builderExited, worker.Exit, nil
}

// execute starts the builder and watches it.
func (d *Derivation) execute(command sandbox.Command) error {
	a, e := d.attempt, d.eng
	e.message(activity.Chatty, "executing builder '%s'", a.drv.Builder)
	if !a.sandboxed && a.user == nil {
		if err := proc.AdoptOrphans(); err != nil {
			return err
		}
	}
	logs, err := proc.NewPipe()
	if err != nil {
		return err
	}
	_, _ = unix.FcntlInt(uintptr(logs.R), unix.F_SETPIPE_SZ, logPipeSize)
	a.process, a.report, err = a.world.Start(command, logs.W)
	proc.Close(logs.W)
	if err != nil {
		proc.Close(logs.R)
		return err
	}
	a.handle, err = e.w.Watch(d, worker.Child{
		Proc: &builder{a.process, a.report}, FDs: []int{logs.R, a.report.FD()}, Slot: worker.BuildSlot,
		Limits: worker.Limits{Silence: e.opt.Silence, Total: e.opt.Timeout},
	})
	if err != nil {
		return fmt.Errorf("watching the builder of '%s': %w", d.path, err)
	}
	d.counted = true
	e.builds.running++
	e.report()
	return nil
}

// logPipeSize lets a loud builder go on while the loop does something else.
const logPipeSize = 1 << 20

// announce reports that the builder runs, here ("") or on another machine.
func (d *Derivation) announce(machine string) {
	a, e := d.attempt, d.eng
	d.started = e.opt.Now()
	e.report()
	text := d.mode.doing(d.path)
	if machine != "" {
		text += fmt.Sprintf(" on '%s'", machine)
	}
	d.activity = e.start(activity.Info, activity.Build, text, string(d.path), machine, 1, 1)
	a.tail = logline.NewTail(e.opt.LogLines)
	a.relay = logline.NewRelay(e.sink, d.activity, e.nextID, a.tail)
	a.lines = logline.NewSplitter(a.relay)
	e.trace("build-started %s %s %s %s", d.path, d.traceOutput(), d.outline.Platform, a.log.path)
}

// build is what the sandbox must know to lay out the builder's world.
func (d *Derivation) build() *sandbox.Build {
	a, e := d.attempt, d.eng
	inputs := make([]sandbox.Input, 0, len(d.inputs)+len(e.always))
	for _, p := range d.inputs {
		inputs = append(inputs, sandbox.Input{Logical: string(p), Real: e.store.RealPath(p)})
	}
	for _, p := range e.always {
		_, input := slices.BinarySearch(d.inputs, p)
		if !input && !slices.Contains(a.held, p) {
			inputs = append(inputs, sandbox.Input{Logical: string(p), Real: e.store.RealPath(p)})
		}
	}
	return &sandbox.Build{
		DrvBase: d.path.Base(), Sandboxed: a.sandboxed, Network: a.drv.IsFixed(),
		Inputs: inputs, User: a.user, System: a.drv.Platform,
	}
}

// command is the builder with its arguments, environment and files.
func (d *Derivation) command() (sandbox.Command, error) {
	a, e := d.attempt, d.eng
	if d.outline.Builtin {
		return d.builtinCommand()
	}
	env, files := environ(environInput{
		Drv: a.drv, Options: a.options, StoreDir: string(e.store.Dir()),
		BuildDir: a.world.BuildDirInside(), Cores: e.opt.Cores, Fixed: a.drv.IsFixed(), Impure: e.opt.Getenv,
	})
	more, err := d.exportedFiles()
	if err != nil {
		return sandbox.Command{}, err
	}
	told := d.told()
	c := sandbox.Command{
		Path: a.drv.Builder,
		Argv: told.applyAll(append([]string{path.Base(a.drv.Builder)}, a.drv.Args...)),
		Env:  told.applyAll(env),
	}
	for _, f := range append(files, more...) {
		if f.Told {
			f.Contents = []byte(told.apply(string(f.Contents)))
		}
		if err := a.world.AddFile(f.Name, f.Contents); err != nil {
			return sandbox.Command{}, err
		}
	}
	return c, nil
}
