// Package pathlock takes advisory locks, flock(2) as other users of a store
// take them, on store paths, on build users and on any other lock file
// (database spec, section 6).
//
// A lock belongs to the open file: two locks on one file exclude each other
// within a process too. Nothing here is safe for concurrent use.
package pathlock

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Suffix is appended to a path to name its lock file.
const Suffix = ".lock"

// fileMode keeps others from holding up the store by locking its files.
const fileMode = 0o600

// staleMark is what the remover of a lock file writes into it, for those who
// opened the file before its removal and wait for it.
const staleMark = "d"

// Wait says what to do about a lock that somebody else holds.
type Wait bool

// The two ways to take a lock.
const (
	Try   Wait = false // give up at once
	Block Wait = true  // sleep until it is free
)

// Kind is what a lock permits others.
type Kind int

// The kinds of locks.
const (
	Shared    Kind = unix.LOCK_SH
	Exclusive Kind = unix.LOCK_EX
)

// Disposal says what becomes of lock files when their locks are released.
type Disposal bool

// The fates of lock files. Delete is right once the paths are valid: nobody
// will want to lock them again.
const (
	Keep   Disposal = false
	Delete Disposal = true
)

// A Lock holds the exclusive locks of a set of paths, all or none. The zero
// value holds nothing.
type Lock struct{ files []*File }

// Acquire locks every one of paths, in sorted order, so that two callers never
// wait for each other. paths are real locations, without the suffix; duplicates
// are fine. When somebody else holds a lock, Try releases what was taken and
// returns false.
func Acquire(paths []string, wait Wait) (*Lock, bool, error) {
	l := &Lock{}
	for _, p := range slices.Compact(slices.Sorted(slices.Values(paths))) {
		f, ok, err := acquireLive(p+Suffix, wait)
		if err != nil || !ok {
			l.Release(Keep)
			return nil, false, err
		}
		l.files = append(l.files, f)
	}
	return l, true, nil
}

// acquireLive locks the file that is at name now, not one that was removed
// while we waited for it.
func acquireLive(name string, wait Wait) (*File, bool, error) {
	for {
		f, ok, err := LockFile(name, Exclusive, wait)
		if err != nil || !ok {
			return nil, false, err
		}
		stale, err := f.Stale()
		if err != nil {
			f.Close()
			return nil, false, err
		}
		if !stale {
			return f, true, nil
		}
		f.dropIfNamed()
	}
}

// Release gives all locks back; the Lock then holds nothing and may be
// released again.
func (l *Lock) Release(d Disposal) {
	if l == nil {
		return
	}
	for _, f := range l.files {
		if d == Delete {
			f.Remove()
		} else {
			f.Close()
		}
	}
	l.files = nil
}

// A File is an open, locked lock file.
type File struct {
	name string
	fd   int
}

// LockFile opens the lock file, creating it if need be, and locks it. It
// returns false if somebody else holds the lock and wait is Try.
func LockFile(name string, kind Kind, wait Wait) (*File, bool, error) {
	fd, err := open(name)
	if err != nil {
		return nil, false, fmt.Errorf("opening lock file '%s': %w", name, err)
	}
	ok, err := LockFD(fd, kind, wait)
	if err != nil || !ok {
		unix.Close(fd)
		if err != nil {
			err = fmt.Errorf("locking '%s': %w", name, err)
		}
		return nil, false, err
	}
	return &File{name: name, fd: fd}, true, nil
}

func open(name string) (int, error) {
	for {
		fd, err := unix.Open(name, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, fileMode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// FD is the descriptor, which stays the File's own.
func (f *File) FD() int { return f.fd }

// Name is the file name given to LockFile.
func (f *File) Name() string { return f.name }

// Stale tells whether somebody removed the file before it was locked here.
func (f *File) Stale() (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return false, fmt.Errorf("getting status of lock file '%s': %w", f.name, err)
	}
	return st.Size != 0, nil
}

// dropIfNamed closes a stale file, and unlinks it if its name still leads to
// it: something other than Remove wrote to it, and everybody would retry for
// ever.
func (f *File) dropIfNamed() {
	var open, named unix.Stat_t
	if unix.Fstat(f.fd, &open) == nil && unix.Lstat(f.name, &named) == nil &&
		open.Dev == named.Dev && open.Ino == named.Ino {
		_ = unix.Unlink(f.name)
	}
	f.Close()
}

// Close unlocks and leaves the file in place.
func (f *File) Close() {
	if f.fd >= 0 {
		unix.Close(f.fd)
		f.fd = -1
	}
}

// Remove unlinks the file, tells those who wait for it, and unlocks. A file
// that cannot be unlinked stays good for the next who locks it.
func (f *File) Remove() {
	if f.fd >= 0 && unix.Unlink(f.name) == nil {
		unix.Write(f.fd, []byte(staleMark)) // a waiter that misses this locks a nameless file, as it would without us
	}
	f.Close()
}

// LockFD locks or converts the lock of an open file or directory. A failed
// conversion may lose the lock held before.
func LockFD(fd int, kind Kind, wait Wait) (bool, error) {
	op := int(kind)
	if wait == Try {
		op |= unix.LOCK_NB
	}
	for {
		switch err := unix.Flock(fd, op); {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EWOULDBLOCK):
			return false, nil
		case err != unix.EINTR:
			return false, err
		}
	}
}

// UnlockFD drops the lock of an open file.
func UnlockFD(fd int) { _ = unix.Flock(fd, unix.LOCK_UN) }
