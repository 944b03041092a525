package goal

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"gobuild/internal/activity"
	"gobuild/internal/store/digest"
	"gobuild/internal/store/finalise"
	"gobuild/internal/store/storepath"
	"gobuild/internal/worker"
	"gobuild/internal/worker/proc"
)

// FinaliseChild is the name of the child job that finalises large outputs.
const FinaliseChild = "__finalise"

// Outputs up to this size are finalised in the loop, which costs less than
// starting a child.
const (
	finaliseNodes = 64
	finaliseBytes = 512 << 10
)

// A finaliser works on the outputs of one build, here or in a child.
type finaliser struct {
	handle *worker.Handle // nil when the work was done here
	answer []byte
	result finalise.Result
	err    error
}

// finaliseOutputs makes the outputs canonical, hashes and scans them.
func (d *Derivation) finaliseOutputs() (step, worker.Wait, error) {
	a := d.attempt
	d.warnRewriting()
	req := d.finaliseRequest()
	a.finaliser = &finaliser{}
	small := !req.Fsync
	for _, o := range req.Outputs {
		small = small && finalise.Small(o.Path, finaliseNodes, finaliseBytes)
	}
	if small {
		a.finaliser.result, a.finaliser.err = finalise.Run(req)
		return d.outputsFinalised()
	}
	if err := a.finaliser.start(d, req); err != nil {
		return nil, worker.Done, err
	}
	return (*Derivation).outputsFinalised, worker.Exit, nil
}

func (d *Derivation) finaliseRequest() finalise.Request {
	a, e := d.attempt, d.eng
	req := finalise.Request{
		Derivation: string(d.path), KeepXattrs: e.opt.IgnoredACLs, Fsync: e.opt.FsyncOutputs,
		Links: e.store.Links(), Verify: d.mode == Repair,
	}
	if d.mode == Check {
		req.Links = "" // nothing of it will stay
	}
	for part := range d.candidates() {
		req.Candidates = append(req.Candidates, part)
	}
	slices.Sort(req.Candidates)
	if a.user != nil {
		req.Owner = &finalise.UIDRange{First: a.user.UID, Last: a.user.UID}
	}
	for _, o := range a.outputs {
		out := finalise.Output{ID: o.ID, Name: string(o.Path), Path: o.at, Dest: d.destination(o.Path), Rewrites: a.scratch.from}
		if o.ca.Digest.Algorithm() != digest.Unknown {
			// Whoever the builder told of its files may hold them open.
			out.FreshCopy = true
			out.Flat = o.ca.Method == storepath.Flat
			out.Extra = o.ca.Digest.Algorithm()
		}
		req.Outputs = append(req.Outputs, out)
	}
	return req
}

func (f *finaliser) start(d *Derivation, req finalise.Request) error {
	p, answer, err := startJob(FinaliseChild, req)
	if err != nil {
		return fmt.Errorf("starting to finalise the outputs of '%s': %w", d.path, err)
	}
	f.handle, err = d.eng.w.Watch(d, worker.Child{Proc: p, FDs: []int{answer}})
	return err
}

// startJob starts a child job of ours with a request on descriptor 3, as JSON,
// and gives the read end of what it answers on 4; the caller closes that.
func startJob(name string, request any) (*proc.Process, int, error) {
	in, err := memFile(request)
	if err != nil {
		return nil, -1, err
	}
	defer proc.Close(in)
	out, err := proc.NewPipe()
	if err != nil {
		return nil, -1, err
	}
	p, err := proc.Start(proc.Command{
		Path: proc.Self, Argv: []string{"gobuild", name}, Env: []string{}, Files: []int{-1, 2, 2, in, out.W},
		Attr: ownChild(),
	})
	proc.Close(out.W)
	if err != nil {
		proc.Close(out.R)
		return nil, -1, err
	}
	return p, out.R, nil
}

// ownChild is how a child is started whose work is for us alone: interrupts are
// for us to hear, and to act on, and it must not go on in the store when our
// locks have died with us.
func ownChild() syscall.SysProcAttr {
	return syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
}

// output takes a part of the child's answer.
func (f *finaliser) output(data []byte) { f.answer = append(f.answer, data...) }

// finish gives the result once the child has ended.
func (f *finaliser) finish() (finalise.Result, error) {
	if f.handle == nil {
		return f.result, f.err
	}
	if len(f.answer) == 0 {
		return finalise.Result{}, fmt.Errorf("the finaliser %s without an answer", f.handle.Status())
	}
	return finalise.ReadReply(f.answer)
}

// reportLinks tells what linking the outputs' files with their equals in the
// store has brought.
func (d *Derivation) reportLinks(r *finalise.Result) {
	for _, text := range r.Warnings {
		d.eng.message(activity.Warn, "%s", text)
	}
	if n := r.Linked.Files; n > 0 {
		d.eng.message(activity.Talkative, "linked %d files of the outputs of '%s' with equal ones, saving %.2f MiB", n, d.path, float64(r.Linked.Bytes)/(1<<20))
	}
}

// outputError gives a finaliser's error its status.
func (d *Derivation) outputError(err error) error {
	var bad *finalise.OutputError
	if errors.As(err, &bad) {
		return d.rejected(err)
	}
	return fmt.Errorf("finishing the outputs of '%s': %w", d.path, err)
}
