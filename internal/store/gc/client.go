package gc

import (
	"bytes"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/storepath"
)

const (
	maxClients = 256  // others wait to be accepted
	maxLine    = 4096 // bytes; who sends longer ones is hung up on
	acceptWait = 100  // milliseconds to wait after a connection could not be taken
)

// A client is one connection of a process that adds temporary roots.
type client struct {
	fd    int
	pid   int32
	buf   [maxLine]byte
	held  int
	waits string // hash part that is being deleted; "" if it is our turn to read
}

// run answers clients until the server is stopped. No client can make others
// wait.
func (v *server) run() {
	defer close(v.done)
	defer func() {
		for _, c := range v.clients {
			unix.Close(c.fd)
		}
	}()
	full := false // no connection could be taken the last time
	var fds []unix.PollFd
	for !v.isStopping() {
		timeout := -1
		fds = v.pollSet(fds[:0])
		if full {
			fds[1].Fd, timeout = -1, acceptWait
		}
		if _, err := unix.Poll(fds, timeout); err != nil && err != unix.EINTR {
			return // only for want of memory; clients will ask for the lock again
		}
		v.drainWake()
		v.attend(fds[2:])
		full = fds[1].Revents != 0 && !v.accept()
	}
}

// pollSet is the wake counter, the listener, and the clients in order.
func (v *server) pollSet(fds []unix.PollFd) []unix.PollFd {
	listener := v.listener
	if len(v.clients) >= maxClients {
		listener = -1
	}
	fds = append(fds, unix.PollFd{Fd: int32(v.wake), Events: unix.POLLIN}, unix.PollFd{Fd: int32(listener), Events: unix.POLLIN})
	for _, c := range v.clients {
		p := unix.PollFd{Fd: int32(c.fd), Events: unix.POLLIN}
		if c.waits != "" {
			p.Events = 0 // what else it sends can wait too
		}
		fds = append(fds, p)
	}
	return fds
}

func (v *server) drainWake() {
	var count [8]byte
	_, _ = unix.Read(v.wake, count[:])
}

// attend serves the clients that polled describes, and drops those that are
// done.
func (v *server) attend(polled []unix.PollFd) {
	stay := v.clients[:0]
	for i, c := range v.clients {
		if v.serveClient(c, polled[i].Revents) {
			stay = append(stay, c)
		} else {
			unix.Close(c.fd)
		}
	}
	clear(v.clients[len(stay):])
	v.clients = stay
}

// serveClient returns false when it is to be hung up on.
func (v *server) serveClient(c *client, events int16) bool {
	if c.waits != "" {
		if v.isDeleting(c.waits) {
			return events&(unix.POLLHUP|unix.POLLERR) == 0
		}
		c.waits = ""
		if !c.answer() {
			return false
		}
	} else if events != 0 && !c.receive() {
		return false
	}
	return v.lines(c)
}

// receive reads what there is. An empty read is the end.
func (c *client) receive() bool {
	n, err := unix.Read(c.fd, c.buf[c.held:])
	if err == unix.EAGAIN || err == unix.EINTR {
		return true
	}
	c.held += max(n, 0)
	return err == nil && n > 0
}

// lines handles the complete lines, up to one that has to wait.
func (v *server) lines(c *client) bool {
	for c.waits == "" {
		end := bytes.IndexByte(c.buf[:c.held], '\n')
		if end < 0 {
			return c.held < len(c.buf)
		}
		// Nix answers also what is no path, so that its client does not hang
		p, err := v.dir.Parse(string(c.buf[:end]))
		c.held = copy(c.buf[:], c.buf[end+1:c.held])
		if err == nil && v.keepFor(c, p) {
			return true
		}
		if !c.answer() {
			return false
		}
	}
	return true
}

func (v *server) keepFor(c *client, p storepath.Path) (wait bool) {
	if wait = v.keep(p.HashPart(), c.pid); wait {
		c.waits = p.HashPart()
	}
	return wait
}

// answer fails if the client has gone, or never reads answers.
func (c *client) answer() bool {
	_, err := unix.SendmsgN(c.fd, []byte("1"), nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
	return err == nil
}

// accept takes one connection; false if that is impossible for now.
func (v *server) accept() bool {
	fd, _, err := unix.Accept4(v.listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	switch err {
	case nil:
	case unix.EAGAIN, unix.EINTR, unix.ECONNABORTED:
		return true
	default:
		return false
	}
	c := &client{fd: fd}
	if cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
		c.pid = cred.Pid
	}
	v.clients = append(v.clients, c)
	return true
}
