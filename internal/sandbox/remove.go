package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"gobuild/internal/worker/proc"
)

// RemoveTree deletes a directory that a builder has filled, with everything in
// it; it is fine if there is none. No link in it is followed, and neither its
// depth nor its width matters.
func RemoveTree(dir string) error {
	for {
		limit := 1 << 20
		done, err := removeSome(dir, &limit)
		if done || err != nil {
			return err
		}
	}
}

// removeSome deletes about *limit entries of a tree, counting *limit down, and
// returns true when the tree is gone. Directories inside directories are first
// moved up to the top, so that two descriptors are enough for any depth, and a
// later call goes on where this one stopped.
func removeSome(dir string, limit *int) (bool, error) {
	top, err := unix.Open(dir, openDir, 0)
	if errors.Is(err, unix.ENOENT) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("opening '%s' to delete it: %w", dir, err)
	}
	defer proc.Close(top)
	r := remover{top: top, limit: limit}
	_ = unix.Fchmod(top, 0o700)
	done, err := r.empty(top)
	if err == nil && done {
		err = unix.Rmdir(dir)
	}
	if err != nil {
		return false, fmt.Errorf("deleting '%s': %w", dir, err)
	}
	return done, nil
}

type remover struct {
	top   int
	limit *int
	moved int // directories moved to the top
}

// empty deletes what is in the top directory, pass by pass.
func (r *remover) empty(top int) (bool, error) {
	for {
		names, err := entries(top)
		if err != nil || len(names) == 0 {
			return err == nil, err
		}
		for _, name := range names {
			if *r.limit <= 0 {
				return false, nil
			}
			if err := r.remove(name); err != nil {
				return false, err
			}
		}
	}
}

// remove deletes an entry of the top directory, leaving its subdirectories in
// the top directory.
func (r *remover) remove(name string) error {
	*r.limit--
	err := unix.Unlinkat(r.top, name, 0)
	if !errors.Is(err, unix.EISDIR) {
		return err
	}
	dir, err := openForRemoval(r.top, name)
	if err != nil {
		return err
	}
	defer proc.Close(dir)
	empty, err := r.strip(dir)
	if err != nil || !empty {
		return err
	}
	return unix.Unlinkat(r.top, name, unix.AT_REMOVEDIR)
}

// strip empties a directory, and returns false if the limit came first.
func (r *remover) strip(dir int) (bool, error) {
	for {
		names, err := entries(dir)
		if err != nil || len(names) == 0 {
			return err == nil, err
		}
		for _, n := range names {
			*r.limit--
			err := unix.Unlinkat(dir, n, 0)
			if errors.Is(err, unix.EISDIR) {
				err = r.moveUp(dir, n)
			}
			if err != nil {
				return false, err
			}
		}
		if *r.limit <= 0 {
			return false, nil
		}
	}
}

// openForRemoval opens a directory whose owner may have locked himself out.
func openForRemoval(parent int, name string) (int, error) {
	dir, err := unix.Openat(parent, name, openDir, 0)
	if errors.Is(err, unix.EACCES) {
		if err := chmodDir(parent, name); err != nil {
			return -1, err
		}
		dir, err = unix.Openat(parent, name, openDir, 0)
	}
	if err != nil {
		return -1, err
	}
	_ = unix.Fchmod(dir, 0o700)
	return dir, nil
}

// chmodDir opens up a directory of our own. Only ordinary users come here, in
// trees of their own.
func chmodDir(parent int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return unix.ENOTDIR
	}
	return unix.Fchmodat(parent, name, 0o700, 0)
}

// moveUp moves a directory to the top. A name that is taken there is that of a
// directory moved earlier; if that one is empty, replacing it does no harm.
func (r *remover) moveUp(dir int, name string) error {
	for opened := false; ; {
		err := unix.Renameat(dir, name, r.top, ".moved-"+strconv.Itoa(r.moved))
		switch {
		case errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTEMPTY):
			r.moved++
		case errors.Is(err, unix.EACCES) && !opened:
			opened = true
			if err := chmodDir(dir, name); err != nil {
				return err
			}
		default:
			r.moved++
			return err
		}
	}
}

// batch is how many names are read at once: a directory may hold millions.
const batch = 4096

// entries reads up to a batch of the names in an open directory, from its
// start.
func entries(dir int) ([]string, error) {
	fd, err := unix.Openat(dir, ".", openDir, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "directory")
	defer f.Close()
	names, err := f.Readdirnames(batch)
	if len(names) > 0 {
		return names, nil
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return nil, nil
}
