package goal

import (
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"gobuild/internal/activity"
	"gobuild/internal/hook"
	"gobuild/internal/sandbox"
	"gobuild/internal/worker"
	"gobuild/internal/worker/proc"
)

// A userHook is a program of the user's that runs before a build starts or
// after its outputs have become valid, while the goal waits for it.
type userHook struct {
	name   string
	handle *worker.Handle
	out    int // descriptor of its standard output
	output func(data []byte)
	lines  hook.Lines // of its standard error, or of both
	line   func(text []byte)
	shows  activity.ID // 0: nothing
	paths  hook.SandboxPaths
}

// startUserHook starts a hook in a slot. What it prints on standard output goes
// to h.output, or like that on standard error line by line to h.line.
func (d *Derivation) startUserHook(h *userHook, args, env []string) error {
	out, err := proc.NewPipe()
	if err != nil {
		return err
	}
	errs, err := proc.NewPipe()
	if err != nil {
		proc.Close(out.R, out.W)
		return err
	}
	null, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	var p *proc.Process
	if err == nil {
		c := proc.Command{
			Path: h.name, Argv: append([]string{h.name}, args...), Env: env, Files: []int{null, out.W, errs.W},
			Attr: syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}, // interrupts are for us to hear, and to act on
		}
		if h.output == nil { // both in the order in which they are said
			c.Files[1] = errs.W
		}
		p, err = proc.Start(c)
		proc.Close(null)
	}
	proc.Close(out.W, errs.W)
	if err != nil {
		proc.Close(out.R, errs.R)
		return fmt.Errorf("executing '%s': %w", h.name, err)
	}
	h.out = out.R
	h.handle, err = d.eng.w.Watch(d, worker.Child{Proc: p, FDs: []int{out.R, errs.R}, Slot: worker.BuildSlot})
	if err == nil {
		d.attempt.aside = h
	}
	return err
}

// said takes what a hook prints.
func (h *userHook) said(fd int, data []byte) {
	if fd == h.out && h.output != nil {
		h.output(data)
	} else {
		h.lines.Feed(data, h.line)
	}
}

// ended judges a hook by its status.
func (d *Derivation) userHookEnded() error {
	h := d.attempt.aside
	d.attempt.aside = nil
	h.lines.End(h.line)
	d.eng.stop(&h.shows)
	if status := h.handle.Status(); !status.OK() {
		return fmt.Errorf("program '%s' %s", h.name, status)
	}
	return nil
}

// startPreHook asks the user's program what else the sandbox is to contain
// (hook spec, section 7). The build's directories are there.
func (d *Derivation) startPreHook() (step, worker.Wait, error) {
	a, e := d.attempt, d.eng
	e.message(activity.Chatty, "executing pre-build hook '%s'", e.opt.PreBuildHook)
	args := []string{string(d.path)}
	if root := a.world.Chroot(); root != "" {
		args = append(args, root)
	}
	h := &userHook{name: e.opt.PreBuildHook, line: func(text []byte) { e.message(activity.Error, "%s", text) }}
	h.output = h.paths.Feed
	if err := d.startUserHook(h, args, e.opt.HookEnv); err != nil {
		return nil, worker.Done, fmt.Errorf("building '%s': %w", d.path, err)
	}
	return (*Derivation).preHookEnded, worker.Exit, nil
}

// preHookEnded goes on with the build.
func (d *Derivation) preHookEnded() (step, worker.Wait, error) {
	h := d.attempt.aside
	err := d.userHookEnded()
	if err == nil {
		err = h.paths.End()
	}
	if err == nil {
		err = d.addSandboxPaths(h.paths.Items)
	}
	if err != nil {
		return nil, worker.Done, fmt.Errorf("building '%s': %w", d.path, err)
	}
	return d.launch()
}

func (d *Derivation) addSandboxPaths(items []string) error {
	binds := make([]sandbox.Bind, len(items))
	for i, item := range items {
		var err error
		if binds[i], err = sandbox.ParseBind(item); err != nil {
			return fmt.Errorf("from the pre-build hook: %w", err)
		}
	}
	d.attempt.world.AddBinds(binds)
	return nil
}

// built runs when the outputs have been made valid, here or elsewhere, and are
// still locked.
func (d *Derivation) built() (step, worker.Wait, error) {
	d.forget()
	d.eng.trace("build-succeeded %s %s", d.path, d.traceOutput())
	d.attempt.doneWell = true
	if d.eng.opt.PostBuildHook != "" {
		return d.startPostHook()
	}
	d.release()
	return d.succeed(Built)
}

// startPostHook shows the outputs to the user's program (hook spec, section 5).
func (d *Derivation) startPostHook() (step, worker.Wait, error) {
	e, name := d.eng, d.eng.opt.PostBuildHook
	h := &userHook{name: name}
	h.shows = e.start(activity.Talkative, activity.PostBuildHook, fmt.Sprintf("running post-build-hook '%s'", name), string(d.path))
	h.line = func(text []byte) { e.sink.Result(h.shows, activity.PostBuildLogLine, string(text)) }
	var outputs []string
	for _, o := range d.outline.Outputs {
		outputs = append(outputs, string(o.Path))
	}
	env := append(e.opt.PostBuildEnv[:len(e.opt.PostBuildEnv):len(e.opt.PostBuildEnv)],
		"DRV_PATH="+string(d.path), "OUT_PATHS="+strings.Join(outputs, " "))
	if err := d.startUserHook(h, nil, env); err != nil {
		e.stop(&h.shows)
		return nil, worker.Done, err
	}
	return (*Derivation).postHookEnded, worker.Exit, nil
}

// postHookEnded ends the goal. The outputs stay valid when the hook has failed.
func (d *Derivation) postHookEnded() (step, worker.Wait, error) {
	if err := d.userHookEnded(); err != nil {
		return nil, worker.Done, err
	}
	d.release()
	return d.succeed(Built)
}
