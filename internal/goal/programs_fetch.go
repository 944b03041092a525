package goal

import (
	"fmt"
	"os"
	"syscall"

	"gobuild/internal/activity"
	"gobuild/internal/hook"
	"gobuild/internal/store/digest"
	"gobuild/internal/store/finalise"
	"gobuild/internal/worker"
	"gobuild/internal/worker/proc"
)

// A programFetch is a path on its way from a substituter program: the program
// makes a tree, and a finaliser makes it canonical and hashes it.
type programFetch struct {
	from   *SubstituterProgram
	offer  *offer
	dest   string
	events fetchEvents

	handle   *worker.Handle // of the program, then of the finaliser; nil when it is over
	stdout   int
	result   hook.Lines // of the program: the first line is the hash
	hashLine *string
	log      hook.Lines
	late     error  // a broken time limit
	answer   []byte // of the finaliser
	promised digest.Digest
	known    bool // what the program has promised
	finals   bool // the finaliser runs
}

// maxHashLine is longer than any hash, in bytes.
const maxHashLine = 1 << 10

func (f *programFetch) start() error {
	p, stdout, stderr, err := f.from.program.StartFetch(f.offer.info.Path, f.dest)
	if err != nil {
		return f.failed(err)
	}
	opt := &f.from.eng.opt
	f.stdout = stdout
	f.handle, err = f.from.eng.w.WatchFor(f, worker.Child{
		Proc: p, FDs: []int{stdout, stderr}, Limits: worker.Limits{Silence: opt.Silence, Total: opt.Timeout},
	})
	return err
}

// cancel kills what runs.
func (f *programFetch) cancel() {
	if h := f.handle; h != nil {
		f.handle = nil
		f.from.eng.w.Bury(h, nil)
	}
}

// Output takes the hash that the program promises, and its log.
func (f *programFetch) Output(_ *worker.Handle, fd int, data []byte) {
	switch {
	case f.finals:
		f.answer = append(f.answer, data...)
	case fd != f.stdout:
		f.log.Feed(data, f.said)
	case f.hashLine == nil:
		f.result.Feed(data, f.promises)
	}
}

func (f *programFetch) said(text []byte) {
	f.from.eng.message(activity.Info, "%s", text)
}

func (f *programFetch) promises(line []byte) {
	if f.hashLine == nil {
		text := string(line[:min(len(line), maxHashLine)])
		f.hashLine = &text
	}
}

// TimedOut kills a program that broke a time limit.
func (f *programFetch) TimedOut(h *worker.Handle, l worker.Limit) {
	what := ""
	if l.Silent {
		what = " of silence"
	}
	f.late = fmt.Errorf("timed out after %d seconds%s", int(l.After.Seconds()), what)
	f.from.eng.w.Kill(h)
}

// Ended goes on to the finaliser, or is the end.
func (f *programFetch) Ended(h *worker.Handle) {
	f.handle = nil
	var err error
	if f.finals {
		err = f.finalised(h)
	} else if err = f.fetched(h); err == nil {
		return // to be finalised
	}
	if err != nil {
		f.from.eng.discardQuietly(f.dest)
	}
	f.events.ended(err)
}

func (f *programFetch) failed(err error) error {
	return fmt.Errorf("fetching path '%s': %w", f.offer.info.Path, err)
}

// fetched runs when the program has ended.
func (f *programFetch) fetched(h *worker.Handle) (err error) {
	f.log.End(f.said)
	f.result.End(f.promises)
	path := f.offer.info.Path
	if f.late != nil {
		return f.failed(f.late)
	}
	if !h.Status().OK() {
		return fmt.Errorf("fetching path '%s' %s", path, h.Status())
	}
	st, err := os.Lstat(f.dest)
	if err != nil {
		return fmt.Errorf("substitute did not produce path '%s'", path)
	}
	// Nobody but us could come near it, so that no permissions are suspicious.
	if st.Mode().Type() != os.ModeSymlink && st.Mode().Perm()&0o022 != 0 {
		if err := os.Chmod(f.dest, st.Mode().Perm()&^0o022); err != nil {
			return f.failed(err)
		}
	}
	if f.hashLine != nil {
		if f.promised, f.known, err = hook.ParseHash(*f.hashLine); err != nil {
			return f.failed(err)
		}
	}
	return f.finalise()
}

// finalise starts a child that makes the tree what paths in a store are.
func (f *programFetch) finalise() error {
	e := f.from.eng
	out := finalise.Output{ID: "out", Name: string(f.offer.info.Path), Path: f.dest}
	if f.known && f.promised.Algorithm() != digest.SHA256 {
		out.Extra = f.promised.Algorithm()
	}
	in, err := memFile(finalise.Request{
		Derivation: string(f.offer.info.Path), Outputs: []finalise.Output{out},
		KeepXattrs: e.opt.IgnoredACLs, Fsync: e.opt.FsyncOutputs, Links: e.store.Links(), Verify: f.offer.repair,
	})
	if err != nil {
		return f.failed(err)
	}
	defer proc.Close(in)
	reply, err := proc.NewPipe()
	if err != nil {
		return f.failed(err)
	}
	p, err := proc.Start(proc.Command{
		Path: proc.Self, Argv: []string{"gobuild", FinaliseChild}, Env: []string{}, Files: []int{-1, 2, 2, in, reply.W},
		Attr: syscall.SysProcAttr{Setpgid: true}, // interrupts are for us to hear, and to act on
	})
	proc.Close(reply.W)
	if err != nil {
		proc.Close(reply.R)
		return f.failed(err)
	}
	f.finals = true
	if f.handle, err = e.w.WatchFor(f, worker.Child{Proc: p, FDs: []int{reply.R}}); err != nil {
		return f.failed(err)
	}
	return nil
}

// finalised runs when the tree has been hashed.
func (f *programFetch) finalised(h *worker.Handle) error {
	if len(f.answer) == 0 {
		return f.failed(fmt.Errorf("the finaliser %s without an answer", h.Status()))
	}
	result, err := finalise.ReadReply(f.answer)
	if err != nil {
		return f.failed(err)
	}
	for _, text := range result.Warnings {
		f.from.eng.message(activity.Warn, "%s", text)
	}
	got := result.Outputs[0]
	actual := got.NarHash
	if f.known && f.promised.Algorithm() != digest.SHA256 {
		actual = got.Extra
	}
	info := &f.offer.info
	if f.known && actual != f.promised {
		return fmt.Errorf("hash mismatch in downloaded path '%s': expected %s, got %s", info.Path, f.promised, actual)
	}
	info.NarHash, info.NarSize = got.NarHash, uint64(got.NarSize)
	return nil
}
