package store

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/storepath"
)

// errCollectorGone means that the collection has not begun to listen, or has
// ended: ask for the lock again.
var errCollectorGone = errors.New("no collector answers")

// tellCollector names paths to a running collection and returns when it has
// promised to keep them, or has finished deleting those that it was at.
func (s *Store) tellCollector(paths []storepath.Path) error {
	fd, err := s.dialCollector()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, p := range paths {
		if err := tellOne(fd, p); err != nil {
			return err
		}
	}
	return nil
}

// dialCollector connects without package net, which would watch the socket
// from a goroutine.
func (s *Store) dialCollector() (int, error) {
	dir, err := unix.Open(s.state("gc-socket"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, collectorError(err)
	}
	defer unix.Close(dir)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("connecting to the garbage collector: %w", err)
	}
	// by descriptor: a state directory's name may be longer than a socket's
	addr := &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(dir) + "/socket"}
	if err := retryEINTR(func() error { return unix.Connect(fd, addr) }); err != nil {
		unix.Close(fd)
		return -1, collectorError(err)
	}
	return fd, nil
}

// tellOne sends one line and waits for the answer, the byte "1".
func tellOne(fd int, p storepath.Path) error {
	for rest := []byte(p + "\n"); len(rest) > 0; {
		n, err := unix.SendmsgN(fd, rest, nil, nil, unix.MSG_NOSIGNAL)
		if err != nil && err != unix.EINTR {
			return collectorError(err)
		}
		rest = rest[max(n, 0):]
	}
	var answer [1]byte
	n := 0
	err := retryEINTR(func() (err error) {
		n, err = unix.Read(fd, answer[:])
		return err
	})
	switch {
	case err != nil:
		return collectorError(err)
	case n == 0:
		return errCollectorGone
	case answer[0] != '1':
		return fmt.Errorf("the garbage collector answered %q for '%s'", answer[0], p)
	}
	return nil
}

func retryEINTR(op func() error) error {
	for {
		if err := op(); err != unix.EINTR {
			return err
		}
	}
}

func collectorError(err error) error {
	switch err {
	case unix.ECONNREFUSED, unix.ENOENT, unix.EPIPE, unix.ECONNRESET:
		return errCollectorGone
	}
	return fmt.Errorf("talking to the garbage collector: %w", err)
}
