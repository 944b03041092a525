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

// clearSetID takes the set-id bits off the files of a tree that will be open to
// everybody: whoever ran such a file would be the build user. The filter stops
// chmod, but a file can be created with them. dir stays the caller's.
func clearSetID(dir int) error { return clearBelow(dir, 0) }

func clearBelow(dir, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("it is more than %d directories deep", maxDepth)
	}
	fd, err := unix.Openat(dir, ".", openDir, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "directory")
	defer f.Close()
	for {
		names, err := f.Readdirnames(batch)
		for _, name := range names {
			if err := clearEntry(dir, name, depth); err != nil {
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

func clearEntry(dir int, name string, depth int) error {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer proc.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return clearBelow(fd, depth+1)
	case unix.S_IFREG:
		if st.Mode&setIDBits != 0 {
			// an O_PATH descriptor cannot be given to fchmod
			return unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), st.Mode&0o777)
		}
	}
	return nil
}
