package goal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"gobuild/internal/activity"
	"gobuild/internal/store/finalise"
	"gobuild/internal/store/fstree"
	"gobuild/internal/store/pathlock"
	"gobuild/internal/store/storepath"
)

// repairs is what the engine remembers of replacing paths.
type repairs struct {
	tidied   bool                                // what engines before left has been dealt with
	checking map[storepath.Path]*contents        // who finds out about a path's contents
	last     int                                 // counts trees put beside their paths
	exchange func(oldPath, newPath string) error // nil: the system call
}

// replaceValid puts a finished tree in the place of the valid path p, which
// may be in use, and may be missing. The caller holds p's lock and registers p
// afterwards; the tree lies anywhere on the store's file system.
//
//  1. The tree gets a name beside p, "P.new-PID-N".
//  2. It and p exchange names in one step, so that p is never missing. Where a
//     file system cannot do that, p is renamed to "P.old-PID-N" and the new
//     tree to p.
//  3. The old tree is deleted, by a child if it is large.
//
// Who dies between these steps leaves the old tree or the new one at p, whole,
// and the other one beside it; or, between the two renames, both beside it.
// The next repair in this store tidies up (tidyRepairs).
func (e *Engine) replaceValid(p storepath.Path, tree string) error {
	real := e.store.RealPath(p)
	fresh := e.beside(real, "new")
	if err := fstree.Move(tree, fresh); err != nil {
		return fmt.Errorf("replacing '%s': %w", p, err)
	}
	old, err := e.swap(real, fresh)
	if err != nil {
		e.discardQuietly(fresh)
		return fmt.Errorf("replacing '%s': %w", p, err)
	}
	e.store.SetContentsGood(p, true)
	if old != "" {
		if err := e.discardHere(old); err != nil {
			e.message(activity.Warn, "deleting '%s': %v", old, err)
		}
	}
	return nil
}

// beside is a name in the store for a tree that belongs to a path.
func (e *Engine) beside(real, what string) string {
	e.repairs.last++
	return fmt.Sprintf("%s.%s-%d-%d", real, what, os.Getpid(), e.repairs.last)
}

// swap makes the tree at fresh the one at real and says where the old one is
// now, "" if there was none.
func (e *Engine) swap(real, fresh string) (old string, err error) {
	exchange := e.repairs.exchange
	if exchange == nil {
		exchange = exchangeNames
	}
	err = exchange(real, fresh)
	if err == nil {
		return fresh, nil
	}
	if errors.Is(err, unix.ENOENT) {
		return "", fstree.Move(fresh, real)
	}
	// Other file systems, and some stacked ones, can do no more than rename.
	old = e.beside(real, "old")
	switch err := fstree.Move(real, old); {
	case errors.Is(err, unix.ENOENT):
		old = ""
	case err != nil:
		return "", err
	}
	if err := fstree.Move(fresh, real); err != nil {
		if old != "" {
			err = errors.Join(err, fstree.Move(old, real))
		}
		return "", err
	}
	return old, nil
}

func exchangeNames(a, b string) error {
	for {
		err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// tidyRepairs deletes, once in a run, the trees beside paths that engines left
// which did not live to do it. A path that one of them left without a tree gets
// its old one back: that is what its users have had all the time.
func (e *Engine) tidyRepairs() {
	if e.repairs.tidied {
		return
	}
	e.repairs.tidied = true
	entries, err := os.ReadDir(e.store.RealDir())
	if err != nil {
		e.message(activity.Warn, "looking for what unfinished repairs left: %v", err)
		return
	}
	for _, entry := range entries {
		name := entry.Name()
		tree := filepath.Join(e.store.RealDir(), name)
		if base, old, ok := leftBeside(name); ok {
			if p, err := e.store.Dir().FromBase(base); err == nil && !e.isPath(name) {
				e.tidyRepair(p, tree, old)
			}
		} else if part, ok := finalise.CopyFor(name); ok {
			if p, err := e.store.ByHashPart(part); err == nil && p.Base() != name {
				e.tidyRepair(p, tree, false)
			}
		}
	}
}

// isPath tells whether the name in the store is a valid path's, or one that
// somebody makes: derivations may be called like what repairs leave.
func (e *Engine) isPath(name string) bool {
	p, err := e.store.Dir().FromBase(name)
	if err != nil {
		return false
	}
	lock, ok, err := pathlock.Acquire([]string{e.store.RealPath(p)}, pathlock.Try)
	if err != nil || !ok {
		return true
	}
	defer lock.Release(pathlock.Delete)
	valid, err := e.store.IsValid(p)
	return valid || err != nil
}

// tidyRepair deals with one tree, unless its path is being worked on.
func (e *Engine) tidyRepair(p storepath.Path, tree string, old bool) {
	if e.held[p] {
		return
	}
	real := e.store.RealPath(p)
	lock, ok, err := pathlock.Acquire([]string{real}, pathlock.Try)
	if err != nil || !ok {
		return
	}
	defer lock.Release(pathlock.Delete)
	if old {
		valid, err := e.store.IsValid(p)
		if err != nil {
			return
		}
		if _, err := os.Lstat(real); valid && errors.Is(err, os.ErrNotExist) {
			e.message(activity.Debug, "putting back the old tree of '%s'", p)
			if err := fstree.Move(tree, real); err != nil {
				e.message(activity.Warn, "%v", err)
			}
			return
		}
	}
	e.message(activity.Debug, "deleting '%s', which an unfinished repair left", tree)
	if err := e.discardHere(tree); err != nil {
		e.message(activity.Warn, "deleting '%s': %v", tree, err)
	}
}

// leftBeside takes apart the name of a tree beside a path, if no living process
// has put it there.
func leftBeside(name string) (base string, old, ok bool) {
	for _, what := range []string{".new-", ".old-"} {
		i := strings.LastIndex(name, what)
		if i < 0 {
			continue
		}
		pid, n, found := strings.Cut(name[i+len(what):], "-")
		if !found || !isNumber(n) || !isNumber(pid) {
			continue
		}
		id, err := strconv.ParseInt(pid, 10, 32)
		if err != nil || id == 0 || !errors.Is(unix.Kill(int(id), 0), unix.ESRCH) {
			continue
		}
		return name[:i], what == ".old-", true
	}
	return "", false, false
}

func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
