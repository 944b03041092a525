package nar

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/fstree"
)

// RestoreCanonical is Restore with the metadata of store objects (nar spec,
// section 6), given to each file as it is made: a second walk would cost as
// much again. exact tells that all is as it must be. Otherwise the file system
// gave something another owner than this process has, or extended attributes
// that are not among those to keep, and finalise.Canonicalise has to follow.
func RestoreCanonical(r io.Reader, dest string, keepXattrs []string) (exact bool, err error) {
	c := &canonical{uid: uint32(unix.Geteuid()), keep: keepXattrs}
	err = restore(r, dest, c)
	return err == nil && !c.strange, err
}

// A kind is what the rules that a system has for new files can depend on:
// what is true of the first file of a kind is true of all in the tree.
type kind uint8

const (
	plainFile kind = iota
	executableFile
	directory
	symlink
	kinds
)

func kindOf(executable bool) kind {
	if executable {
		return executableFile
	}
	return plainFile
}

// mode is the permissions that a file of the kind ends with.
func (k kind) mode() uint32 {
	if k == plainFile {
		return 0o444
	}
	return 0o555
}

// canonical gives files that this process has just made their metadata.
type canonical struct {
	uid     uint32
	keep    []string
	seen    [kinds]bool // the first one has been looked at
	masked  [kinds]bool // and had other permissions than it was made with
	strange bool        // and an owner or attributes that it must not have
	names   [1 << 10]byte
}

func (c *canonical) file(fd int, k kind) error {
	if err := c.look(fd, k); err != nil {
		return err
	}
	if c.masked[k] {
		if err := unix.Fchmod(fd, k.mode()); err != nil {
			return err
		}
	}
	return fstree.SetTimes(fd, &storeTimes)
}

// directory comes after its entries have been made, since these change its
// time and need its permissions.
func (c *canonical) directory(fd int) error {
	if err := c.look(fd, directory); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, directory.mode()); err != nil {
		return err
	}
	return fstree.SetTimes(fd, &storeTimes)
}

func (c *canonical) symlink(dir int, name string) error {
	if !c.seen[symlink] {
		c.seen[symlink] = true
		var st unix.Stat_t
		if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		path := "/proc/self/fd/" + strconv.Itoa(dir) + "/" + name // no such call takes a descriptor
		size, err := unix.Llistxattr(path, c.names[:])
		if err := c.judge(st.Uid, size, err); err != nil {
			return err
		}
	}
	return unix.UtimesNanoAt(dir, name, storeTimes[:], unix.AT_SYMLINK_NOFOLLOW)
}

// look finds out once what the system makes of files of a kind.
func (c *canonical) look(fd int, k kind) error {
	if c.seen[k] {
		return nil
	}
	c.seen[k] = true
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	c.masked[k] = st.Mode&07777 != k.mode()
	size, err := unix.Flistxattr(fd, c.names[:])
	return c.judge(st.Uid, size, err)
}

// judge takes the owner of a file and what a listing of its attributes gave.
func (c *canonical) judge(uid uint32, size int, err error) error {
	switch {
	case errors.Is(err, unix.ENOTSUP):
		size = 0
	case errors.Is(err, unix.ERANGE):
		c.strange = true
		return nil
	case err != nil:
		return err
	}
	c.strange = c.strange || uid != c.uid
	for name := range bytes.SplitSeq(bytes.TrimSuffix(c.names[:size], []byte{0}), []byte{0}) {
		if len(name) > 0 && !slices.Contains(c.keep, string(name)) {
			c.strange = true
		}
	}
	return nil
}

// storeTimes leave the time of access alone.
var storeTimes = [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: 1}}
