package fstree

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Flags of every open: nothing here follows a link in the last component,
// waits for a pipe's other end, or takes a terminal.
const (
	openRead = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	openDir  = openRead | unix.O_DIRECTORY
	openName = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
)

// OpenAt is openat, tried again when a signal interrupts it.
func OpenAt(dir int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags, mode)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// An Entry is one name in a directory.
type Entry struct {
	Name string
	Type uint8 // unix.DT_*, DT_UNKNOWN where the file system does not tell
}

// list appends entries of the open directory, in the kernel's order, until
// there are no more or at least limit of them are new. It reports whether it
// saw the end. buf is scratch space.
func list(fd int, buf []byte, entries []Entry, limit int) ([]Entry, bool, error) {
	start := len(entries)
	for len(entries)-start < limit {
		n, err := unix.Getdents(fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return entries, false, err
		}
		if n == 0 {
			return entries, true, nil
		}
		entries = parseDirents(buf[:n], entries)
	}
	return entries, false, nil
}

// parseDirents reads linux_dirent64 records: inode 8, offset 8, length 2,
// type 1, name and NUL. All names share one string.
func parseDirents(buf []byte, entries []Entry) []Entry {
	const nameAt = 19
	text := string(buf)
	for pos := 0; pos+nameAt <= len(buf); {
		size := int(binary.NativeEndian.Uint16(buf[pos+16:]))
		if size < nameAt || pos+size > len(buf) {
			break
		}
		end := pos + nameAt + max(0, bytes.IndexByte(buf[pos+nameAt:pos+size], 0))
		if name := text[pos+nameAt : end]; name != "." && name != ".." {
			entries = append(entries, Entry{Name: name, Type: buf[pos+18]})
		}
		pos += size
	}
	return entries
}

// procPath names an open descriptor, for the calls that exist by path only.
func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// SetTimes is futimens: it works on the descriptor itself.
func SetTimes(fd int, times *[2]unix.Timespec) error {
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(times)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// addMode gives an object that may not be opened more permissions, without
// following a link. It returns what the object was before.
func addMode(dir int, name string, bits uint32) (unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := OpenAt(dir, name, openName, 0)
	if err != nil {
		return st, err
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, &st); err != nil {
		return st, err
	}
	if t := st.Mode & unix.S_IFMT; t != unix.S_IFDIR && t != unix.S_IFREG {
		return st, unix.ELOOP
	}
	return st, unix.Chmod(procPath(fd), st.Mode&07777|bits)
}

// split opens the directory that path lies in. The way there is trusted; only
// the last component is not.
func split(path string) (dir int, base string, err error) {
	parent, base := cut(path)
	dir, err = OpenAt(unix.AT_FDCWD, parent, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return dir, base, err
}
