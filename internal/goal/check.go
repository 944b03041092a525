package goal

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"gobuild/internal/activity"
	"gobuild/internal/logline"
	"gobuild/internal/store"
	"gobuild/internal/store/fstree"
	"gobuild/internal/store/storepath"
	"gobuild/internal/worker"
	"gobuild/internal/worker/proc"
)

// diffs are the outputs of a check that are not what was registered.
type diffs struct {
	found []diff
	shown int            // so many of them have been shown to the diff hook
	hook  *worker.Handle // shows one; nil before the first
	lines *logline.Splitter
}

// A diff is an output that was made with other contents this time.
type diff struct {
	path storepath.Path
	kept string // where the new one really is; "" if it is not kept
}

// compareOutputs runs in a check when the outputs are finished and lie beside
// the valid ones, or nowhere in the store.
func (d *Derivation) compareOutputs() (step, worker.Wait, error) {
	a, e := d.attempt, d.eng
	a.diffs = &diffs{}
	for i := range a.outputs {
		o := &a.outputs[i]
		registered, err := e.store.Info(o.Path)
		if err == nil && registered.NarHash == o.info.NarHash {
			err = e.confirm(registered)
		} else if err == nil {
			err = d.differs(o)
		}
		if err != nil {
			return nil, worker.Done, d.buildFailed(fmt.Errorf("checking output '%s': %w", o.Path, err))
		}
	}
	return d.showDiffs()
}

// confirm notes that a path is what its derivation makes here: that is as good
// as having built it.
func (e *Engine) confirm(info store.Info) error {
	if info.Ultimate {
		return nil
	}
	info.Ultimate = true
	if err := e.sign(&info); err != nil {
		return err
	}
	slices.Sort(info.Sigs)
	info.Sigs = slices.Compact(info.Sigs)
	return e.store.Register([]store.Info{info})
}

// differs notes an output with other contents, and keeps it beside the valid
// one if anybody is to look at it.
func (d *Derivation) differs(o *builtOutput) error {
	a, e := d.attempt, d.eng
	found := diff{path: o.Path}
	if e.opt.KeepFailed || e.opt.RunDiffHook {
		found.kept = e.store.RealPath(o.Path) + ".check"
		if _, err := os.Lstat(found.kept); err == nil {
			if err := e.discard(found.kept); err != nil {
				return err
			}
		}
		if err := fstree.Move(o.at, found.kept); err != nil {
			return err
		}
	}
	a.diffs.found = append(a.diffs.found, found)
	return nil
}

// showDiffs runs the diff hook for one output after the other.
func (d *Derivation) showDiffs() (step, worker.Wait, error) {
	a, e := d.attempt, d.eng
	if len(a.diffs.found) == 0 {
		e.trace("build-succeeded %s %s", d.path, d.traceOutput())
		a.doneWell = true
		d.release()
		return d.succeed(Built)
	}
	for e.opt.RunDiffHook && e.opt.DiffHook != "" && a.diffs.shown < len(a.diffs.found) {
		err := d.startDiffHook(a.diffs.found[a.diffs.shown])
		a.diffs.shown++
		if err == nil {
			return (*Derivation).diffShown, worker.Exit, nil
		}
		e.hookFailed(err)
	}
	return nil, worker.Done, d.buildFailed(d.notDeterministic())
}

// diffShown runs when the hook has ended. What it thinks of the outputs changes
// nothing.
func (d *Derivation) diffShown() (step, worker.Wait, error) {
	a, e := d.attempt, d.eng
	_ = a.diffs.lines.Close()
	if status := a.diffs.hook.Status(); !status.OK() {
		e.hookFailed(fmt.Errorf("diff-hook program '%s' %s", e.opt.DiffHook, status))
	}
	return d.showDiffs()
}

func (e *Engine) hookFailed(err error) {
	e.message(activity.Error, "error: diff hook execution failed: %v", err)
}

// startDiffHook starts the hook as the builder's user (hook spec, section 6).
func (d *Derivation) startDiffHook(found diff) error {
	a, e := d.attempt, d.eng
	null, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening '%s': %w", os.DevNull, err)
	}
	defer proc.Close(null)
	out, err := proc.NewPipe()
	if err != nil {
		return err
	}
	attr := ownChild()
	if a.user != nil {
		if err := a.world.Admit(); err != nil {
			e.message(activity.Warn, "%v", err)
		}
		attr.Credential = &syscall.Credential{Uid: a.user.UID, Gid: a.user.GID}
		a.swept = false // it may leave processes of that user
	}
	p, err := proc.Start(proc.Command{
		Path: e.opt.DiffHook, Dir: "/", Env: e.opt.HookEnv, Files: []int{null, out.W, 2}, Attr: attr,
		Argv: []string{e.opt.DiffHook, e.store.RealPath(found.path), found.kept, string(d.path), a.world.BuildDir()},
	})
	proc.Close(out.W)
	if err != nil {
		proc.Close(out.R)
		return fmt.Errorf("starting the diff-hook program '%s': %w", e.opt.DiffHook, err)
	}
	a.diffs.lines = logline.NewSplitter(hookLines{e})
	a.diffs.hook, err = e.w.Watch(d, worker.Child{Proc: p, FDs: []int{out.R}, Slot: worker.BuildSlot})
	return err
}

// hookLines shows what the diff hook says.
type hookLines struct{ eng *Engine }

func (l hookLines) Line(text string) { l.eng.message(activity.Error, "%s", text) }

// Event drops what is meant for engines: a diff hook has nothing to tell them.
func (hookLines) Event(logline.Event) {}

// notDeterministic is the error about all outputs that differ.
func (d *Derivation) notDeterministic() *BuildError {
	var texts []string
	for _, found := range d.attempt.diffs.found {
		text := fmt.Sprintf("output '%s' differs", d.eng.store.RealPath(found.path))
		if found.kept != "" {
			text += fmt.Sprintf(" from '%s'", found.kept)
		}
		texts = append(texts, text)
	}
	return &BuildError{
		Drv: d.path, Status: NotDeterministic,
		Err: fmt.Errorf("derivation '%s' may not be deterministic: %s", d.path, strings.Join(texts, ", ")),
	}
}
