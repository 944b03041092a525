package goal

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"gobuild/internal/activity"
	"gobuild/internal/store/fstree"
	"gobuild/internal/worker"
	"gobuild/internal/worker/proc"
)

// RemoveChild is the name of the child job that deletes trees.
const RemoveChild = "__remove"

// Trees up to this size are deleted in the loop: a child would cost more.
const (
	smallNodes = 64
	smallBytes = 16 << 20
)

// discard deletes a tree. A large one is renamed aside, so that its name is
// free at once, and deleted by a child; Run waits for that at its end.
func (e *Engine) discard(path string) error {
	if fstree.Within(path, smallNodes, smallBytes) {
		_, err := fstree.RemoveAll(path)
		return err
	}
	e.lastAside++
	aside := fmt.Sprintf("%s.old-%d-%d", path, os.Getpid(), e.lastAside)
	if err := fstree.Move(path, aside); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		return err
	}
	return e.removeInChild(aside)
}

// discardHere is discard for a name that nobody else will want.
func (e *Engine) discardHere(path string) error {
	if fstree.Within(path, smallNodes, smallBytes) {
		_, err := fstree.RemoveAll(path)
		return err
	}
	return e.removeInChild(path)
}

func (e *Engine) removeInChild(path string) error {
	p, err := proc.Start(proc.Command{
		Path: proc.Self, Argv: []string{"gobuild", RemoveChild, path}, Env: []string{"GOMAXPROCS=1"}, Files: []int{-1, 2, 2},
	})
	if err != nil {
		return fmt.Errorf("starting to delete '%s': %w", path, err)
	}
	_, err = e.w.WatchFor(&quiet{}, worker.Child{Proc: p, Linger: true})
	return err
}

// discardQuietly is discard where an error changes nothing.
func (e *Engine) discardQuietly(path string) {
	if err := e.discard(path); err != nil {
		e.message(activity.Warn, "deleting '%s': %v", path, err)
	}
}

// removeStale deletes, once in a run, the build directories that engines left
// which did not live to do it.
func (e *Engine) removeStale() {
	if e.tidied {
		return
	}
	e.tidied = true
	for _, dir := range e.opt.Sandbox.Stale(e.opt.Now()) {
		e.message(activity.Debug, "removing the stale build directory '%s'", dir)
		e.discardQuietly(dir)
	}
}

// quiet listens to children that say nothing and have no limits.
type quiet struct{}

func (*quiet) Output(*worker.Handle, int, []byte)    {}
func (*quiet) TimedOut(*worker.Handle, worker.Limit) {}

// RemoveMain deletes the trees named by its arguments and returns the exit
// code.
func RemoveMain(paths []string) int {
	code := 0
	for _, p := range paths {
		if _, err := fstree.RemoveAll(p); err != nil {
			fmt.Fprintf(os.Stderr, "warning: deleting '%s': %v\n", p, err)
			code = 1
		}
	}
	return code
}

// memFile makes an unnamed file in memory with the JSON form of v, for a child
// to read; the caller closes it.
func memFile(v any) (int, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return -1, err
	}
	fd, err := unix.MemfdCreate("request", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, err
	}
	f := os.NewFile(uintptr(fd), "request")
	defer f.Close()
	if _, err := f.Write(text); err != nil {
		return -1, err
	}
	if _, err := f.Seek(0, 0); err != nil {
		return -1, err
	}
	return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
}
