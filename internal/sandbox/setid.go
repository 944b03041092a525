package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"gobuild/internal/worker/proc"
)

// maxDepth bounds a walk that holds a descriptor for each level.
const maxDepth = 256

// An Owner is whom a build directory that is kept is for.
type Owner struct{ UID, GID uint32 }

// A handover makes the files of a builder fit to be read by everybody: it takes
// the set-id bits off, for whoever ran such a file would be the build user, and
// may give them to somebody. The filter stops chmod, but a file can be created
// with those bits.
//
// Nothing is done by name. Whoever still holds a directory of the builder's
// open may exchange what is in it at any moment, and what has come there from
// elsewhere is not the builder's.
type handover struct {
	from uint32 // the builder
	to   *Owner // nil: the files stay the builder's
}

// below does all that is in dir, which stays the caller's.
func (h handover) below(dir, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("it is more than %d directories deep", maxDepth)
	}
	fd, err := unix.Openat(dir, ".", openDir, 0)
	if errors.Is(err, unix.EACCES) { // closed by the builder, to an engine that is not root
		if err := unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", dir), 0o700); err != nil {
			return err
		}
		fd, err = unix.Openat(dir, ".", openDir, 0)
	}
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "directory")
	defer f.Close()
	for {
		names, err := f.Readdirnames(batch)
		for _, name := range names {
			if err := h.entry(dir, name, depth); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (h handover) entry(dir int, name string, depth int) error {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil // moved away meanwhile
	}
	if err != nil {
		return err
	}
	defer proc.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Uid != h.from {
		return nil
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err := h.below(fd, depth+1); err != nil {
			return err
		}
	}
	if err := h.give(fd); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&setIDBits != 0 {
		// an O_PATH descriptor cannot be given to fchmod
		return unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), st.Mode&0o777)
	}
	return nil
}

// give changes the owner of the very thing that is open.
func (h handover) give(fd int) error {
	if h.to == nil {
		return nil
	}
	return unix.Fchownat(fd, "", int(h.to.UID), int(h.to.GID), unix.AT_EMPTY_PATH)
}
