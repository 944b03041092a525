package gc

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"gobuild/internal/store"
	"gobuild/internal/store/fstree"
	"gobuild/internal/store/pathlock"
	"gobuild/internal/store/storepath"
)

// Options say what paths are kept for, other than references.
type Options struct {
	KeepOutputs     bool // a derivation that stays keeps its outputs
	KeepDerivations bool // an output that stays keeps the derivation that it was built by

	// Report gets lines for the user; nil means nobody listens.
	Report func(string)
}

// Delete removes paths from the store, valid or not, and returns those that
// are gone, and how many bytes of disk space that freed. If one of them is
// needed it removes none, and the error is an *AliveError or a
// *store.InUseError. Only when somebody begins to need a path meanwhile, or
// something breaks, some are removed and some are not.
func Delete(s *store.Store, o Options, paths ...storepath.Path) (deleted []storepath.Path, freed int64, err error) {
	if s.ReadOnly() {
		return nil, 0, store.ErrReadOnly
	}
	c, err := start(s, o, paths)
	if err != nil {
		return nil, 0, err
	}
	deleted, err = c.delete(paths)
	c.close()
	// what has no path any more can be deleted while others work on
	err = errors.Join(err, c.emptyTrash())
	if len(deleted) > 0 {
		err = errors.Join(err, c.removeUnusedLinks())
	}
	return deleted, c.freed, err
}

// A collection has the garbage collector lock, so that nobody adds roots
// without telling its server.
type collection struct {
	graph
	lock   *pathlock.File
	server *server
	finder *finder
	trash  *store.TempDir // nil if it could not be made: then trees are deleted where they are
	freed  int64          // bytes
}

// start waits for the lock. paths are those that will be deleted, at most.
func start(s *store.Store, o Options, paths []storepath.Path) (*collection, error) {
	c := &collection{graph: graph{s, o}, finder: newFinder(s)}
	c.finder.tidy = true
	name := s.StateDir() + "/gc.lock"
	lock, ok, err := pathlock.LockFile(name, pathlock.Exclusive, pathlock.Try)
	if err == nil && !ok {
		if o.Report != nil {
			o.Report("waiting for the big garbage collector lock...")
		}
		lock, _, err = pathlock.LockFile(name, pathlock.Exclusive, pathlock.Block)
	}
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EROFS) {
		err = fmt.Errorf("%w: %w", store.ErrReadOnly, err)
	}
	if err != nil {
		return nil, err
	}
	c.lock = lock
	wanted := make(map[string]bool, len(paths))
	for _, p := range paths {
		wanted[p.HashPart()] = true
	}
	if c.server, err = serve(s, wanted); err != nil {
		lock.Close()
		return nil, err
	}
	return c, nil
}

// close ends the collection. The server goes first: nobody may get its word
// when it is not good any more.
func (c *collection) close() {
	c.server.stop()
	c.finder.release()
	c.lock.Close()
}

func (c *collection) delete(paths []storepath.Path) (deleted []storepath.Path, err error) {
	order, err := c.order(paths)
	if err != nil {
		return nil, err
	}
	if err := c.finder.find(); err != nil {
		return nil, fmt.Errorf("finding garbage collector roots: %w", err)
	}
	if err := c.judge(order, c.finder.sorted()); err != nil {
		return nil, err
	}
	// the disk may be full, which is what this space is reserved for
	_ = os.Remove(c.store.StateDir() + "/db/reserved")
	c.trash, _ = c.store.NewTempDir()
	for _, p := range order {
		was, err := c.deletePath(p)
		if was {
			deleted = append(deleted, p)
		}
		if err != nil {
			return deleted, err
		}
	}
	return deleted, nil
}

// order puts invalid paths first, then valid ones, referrers before what they
// refer to.
func (c *collection) order(paths []storepath.Path) ([]storepath.Path, error) {
	var valid, order []storepath.Path
	for _, p := range slices.Compact(slices.Sorted(slices.Values(paths))) {
		is, err := c.store.IsValid(p)
		if err != nil {
			return nil, err
		}
		if is {
			valid = append(valid, p)
		} else {
			order = append(order, p)
		}
	}
	valid, err := c.store.Topological(valid)
	slices.Reverse(valid)
	return append(order, valid...), err
}

// deletePath deletes one path and its lock file, and returns whether there was
// anything. A lock that somebody has means that they work on the path.
func (c *collection) deletePath(p storepath.Path) (was bool, err error) {
	if pid, kept := c.server.begin(p.HashPart()); kept {
		return false, &AliveError{Path: p, Root: Root{p, "{temp:" + strconv.Itoa(int(pid)) + "}"}}
	}
	defer c.server.end()
	real := c.store.RealPath(p)
	lock, ok, err := pathlock.Acquire([]string{real}, pathlock.Try)
	if err != nil {
		return false, err
	}
	if !ok {
		return false, fmt.Errorf("cannot delete path '%s' because another process has locked it", p)
	}
	defer lock.Release(pathlock.Delete)
	was, err = c.store.IsValid(p)
	if err != nil {
		return false, err
	}
	if err := c.store.Invalidate(p); err != nil {
		return false, err
	}
	if _, err := os.Lstat(real); err == nil {
		was = true
	}
	if err := c.discard(real, p.Base()); err != nil {
		return false, fmt.Errorf("deleting '%s': %w", p, err)
	}
	return was, nil
}

// discard moves a tree to the trash, to be quick. What cannot be moved is
// deleted where it is: some layered file systems refuse to move directories.
func (c *collection) discard(tree, name string) error {
	if c.trash != nil && fstree.Move(tree, c.trash.Path+"/"+name) == nil {
		return nil
	}
	freed, err := fstree.RemoveAll(tree)
	c.freed += freed
	return err
}

func (c *collection) emptyTrash() error {
	if c.trash == nil {
		return nil
	}
	defer c.trash.Remove()
	freed, err := fstree.RemoveAll(c.trash.Path)
	c.freed += freed
	return err
}
