package fstree

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Move renames the tree at src to dst, on the same file system. Without
// privileges a directory must be writable by its owner to be moved, as its
// ".." changes; it is made so and put back afterwards.
func Move(src, dst string) error {
	err := unix.Rename(src, dst)
	if errors.Is(err, unix.EACCES) {
		err = moveReadOnly(src, dst)
	}
	if err != nil {
		return fmt.Errorf("renaming '%s' to '%s': %w", src, dst, err)
	}
	return nil
}

func moveReadOnly(src, dst string) error {
	fd, err := OpenAt(unix.AT_FDCWD, src, openName|unix.O_DIRECTORY, 0)
	if err != nil {
		return unix.EACCES // not a directory: the fault is not its mode
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	mode := st.Mode & 07777
	if mode&0o200 != 0 {
		return unix.EACCES
	}
	if err := unix.Chmod(procPath(fd), mode|0o200); err != nil {
		return err
	}
	err = unix.Rename(src, dst)
	return errors.Join(err, unix.Chmod(procPath(fd), mode))
}
