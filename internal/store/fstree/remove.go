package fstree

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// removeBatch bounds the names held per directory while deleting.
const removeBatch = 4096

// RemoveAll deletes what is at path, whatever its permissions, and returns the
// bytes of disk space that this frees: files that have other names count
// nothing. A path that does not exist is no error. It does not go through
// symbolic links or into other mounts, and a directory that somebody moves
// meanwhile makes it fail, not delete elsewhere. Only the way to the last
// component of path is trusted.
func RemoveAll(path string) (freed int64, err error) {
	dir, base, err := split(path)
	if errors.Is(err, unix.ENOENT) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("opening the directory of '%s': %w", path, err)
	}
	defer unix.Close(dir)
	r := &remover{top: path}
	defer r.dirs.Close()
	if err := r.entry(dir, Entry{Name: base}); err != nil {
		return r.freed, err
	}
	for len(r.pending) > 0 {
		if err := r.step(dir, base); err != nil {
			return r.freed, err
		}
	}
	return r.freed, nil
}

type remover struct {
	top     string
	dirs    Descent
	pending []batch
	buf     []byte
	freed   int64
}

// A batch is what is still to be deleted of a directory, as far as its names
// have been read.
type batch struct {
	entries []Entry
	next    int
	all     bool // entries reach to the directory's end
}

// step deletes one entry, or reads more, or deletes the emptied directory.
func (r *remover) step(topDir int, topName string) error {
	b := &r.pending[len(r.pending)-1]
	if b.next < len(b.entries) {
		e := b.entries[b.next]
		b.next++
		return r.entry(r.dirs.FD(), e)
	}
	if !b.all {
		return r.fill(b)
	}
	name := topName
	if r.dirs.Depth() > 1 {
		name = r.dirs.levels[r.dirs.Depth()-1].name
	}
	if err := r.dirs.Leave(); err != nil {
		return fmt.Errorf("deleting '%s': %w", r.top, err)
	}
	r.pending = r.pending[:len(r.pending)-1]
	dir := topDir
	if r.dirs.Depth() > 0 {
		dir = r.dirs.FD()
	}
	return r.rmdir(dir, name)
}

// entry deletes a file, or goes down into a directory.
func (r *remover) entry(dir int, e Entry) error {
	if e.Type == unix.DT_DIR {
		err := r.enter(dir, e.Name)
		if !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP) {
			return err
		} // else somebody has just put something else there
	}
	var st unix.Stat_t
	err := r.access(dir, func() error { return unix.Fstatat(dir, e.Name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case err != nil:
		return r.fail("getting status of", e.Name, err)
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return r.enter(dir, e.Name)
	}
	return r.unlink(dir, e.Name, &st)
}

func (r *remover) enter(dir int, name string) error {
	fd, err := r.open(dir, name)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return r.fail("opening", name, err)
	}
	if r.dirs.Depth() >= maxOpen {
		_ = unix.Fchmod(fd, 0o700) // the way back up leads through it
	}
	if err := r.dirs.Enter(fd, name); err != nil {
		return r.fail("opening", name, err)
	}
	r.pending = append(r.pending, batch{})
	return r.fill(&r.pending[len(r.pending)-1])
}

func (r *remover) unlink(dir int, name string, st *unix.Stat_t) error {
	err := r.access(dir, func() error { return unix.Unlinkat(dir, name, 0) })
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return r.fail("deleting", name, err)
	}
	if err == nil && st.Nlink == 1 {
		r.freed += st.Blocks * 512
	}
	return nil
}

func (r *remover) rmdir(dir int, name string) error {
	err := r.access(dir, func() error { return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR) })
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return r.fail("deleting", name, err)
	}
	return nil
}

// open opens a directory in the same mount, with permission to read it.
func (r *remover) open(dir int, name string) (int, error) {
	how := unix.OpenHow{Flags: openDir, Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS}
	open := func() (int, error) {
		for {
			fd, err := unix.Openat2(dir, name, &how)
			switch {
			case errors.Is(err, unix.EINTR):
				continue
			case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM): // old kernel, or filtered
				return OpenAt(dir, name, openDir, 0)
			}
			return fd, err
		}
	}
	fd, err := open()
	if errors.Is(err, unix.EACCES) {
		// Either this directory or the one it lies in denies us.
		err = r.access(dir, func() error {
			_, err := addMode(dir, name, 0o700)
			return err
		})
		if err != nil {
			return -1, err
		}
		fd, err = open()
	}
	return fd, err
}

// access runs do; if that is denied it gives the owner full access to the
// directory, unless that is the one the whole tree lies in, and runs it again.
func (r *remover) access(dir int, do func() error) error {
	err := do()
	if !errors.Is(err, unix.EACCES) || r.dirs.Depth() == 0 {
		return err
	}
	var st unix.Stat_t
	if unix.Fstat(dir, &st) != nil || unix.Fchmod(dir, st.Mode&07777|0o700) != nil {
		return err
	}
	return do()
}

// fill reads the next names. Deleting moves the entries that are left in some
// file systems, so reading starts anew each time.
func (r *remover) fill(b *batch) error {
	if r.buf == nil {
		r.buf = make([]byte, 32<<10)
	}
	fd := r.dirs.FD()
	if b.entries != nil {
		if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
			return fmt.Errorf("reading a directory in '%s': %w", r.top, err)
		}
	}
	entries, all, err := list(fd, r.buf, b.entries[:0], removeBatch)
	if err != nil {
		return fmt.Errorf("reading a directory in '%s': %w", r.top, err)
	}
	*b = batch{entries: entries, all: all}
	return nil
}

func (r *remover) fail(doing, name string, err error) error {
	path := r.top
	if d := r.dirs.Depth(); d > 0 {
		path = r.dirs.path(r.top, d, name)
	}
	return fmt.Errorf("%s '%s': %w", doing, strings.ToValidUTF8(path, "?"), err)
}
