// Package proc holds child processes as passive values: a pid, a pidfd and
// descriptors. It never reads, waits or decides; the event loop tells it to.
// Nothing here is safe for concurrent use.
package proc

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Pipe is two raw descriptors, both close-on-exec. Whoever makes it closes
// them.
type Pipe struct{ R, W int }

// NewPipe makes a pipe whose read end does not block.
func NewPipe() (Pipe, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return Pipe{-1, -1}, fmt.Errorf("creating a pipe: %w", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		Close(fds[0], fds[1])
		return Pipe{-1, -1}, fmt.Errorf("creating a pipe: %w", err)
	}
	return Pipe{fds[0], fds[1]}, nil
}

// Close closes descriptors, passing over negative ones.
func Close(fds ...int) {
	for _, fd := range fds {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// A Command says what to start.
type Command struct {
	Path  string // executed as it is, without a search
	Argv  []string
	Env   []string
	Dir   string // "" stays where the parent is
	Files []int  // the child's descriptors 0, 1, 2, …; negative leaves one closed
	Attr  syscall.SysProcAttr
}

// Self is the running program's own file, for starting it again as a child.
const Self = "/proc/self/exe"

// A Process is a started child. It must be reaped.
type Process struct {
	pid    int
	pidfd  int
	group  bool
	done   bool
	status Status
}

// Start starts a child; on return it has executed the program or failed to.
func Start(c Command) (*Process, error) {
	files := make([]uintptr, len(c.Files))
	for i, fd := range c.Files {
		files[i] = ^uintptr(0)
		if fd >= 0 {
			files[i] = uintptr(fd)
		}
	}
	pidfd := -1
	c.Attr.PidFD = &pidfd
	pid, err := syscall.ForkExec(c.Path, c.Argv, &syscall.ProcAttr{Dir: c.Dir, Env: c.Env, Files: files, Sys: &c.Attr})
	if err != nil {
		return nil, err
	}
	if pidfd < 0 {
		if pidfd, err = unix.PidfdOpen(pid, 0); err != nil {
			_ = unix.Kill(pid, unix.SIGKILL)
			_, _ = unix.Wait4(pid, nil, 0, nil)
			return nil, fmt.Errorf("opening a process descriptor (Linux 5.3 or newer is needed): %w", err)
		}
	}
	return &Process{pid: pid, pidfd: pidfd, group: c.Attr.Setsid || c.Attr.Setpgid}, nil
}

// Adopt replaces the process by pid, a child of ours that the first one made
// before it ends. PidFD changes; the first one is reaped along the way.
func (p *Process) Adopt(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("opening a descriptor of process %d: %w", pid, err)
	}
	_, _ = unix.Wait4(p.pid, nil, 0, nil) // it ends at once after its report
	Close(p.pidfd)
	p.pid, p.pidfd = pid, fd
	return nil
}

// LeadsGroup records that the process has made itself the leader of a session
// or group, so that Kill reaches all of it.
func (p *Process) LeadsGroup() { p.group = true }

// Pid is the process id, for messages.
func (p *Process) Pid() int { return p.pid }

// PidFD becomes readable when the process ends. It is closed by Reap.
func (p *Process) PidFD() int { return p.pidfd }

// Kill sends SIGKILL to the process and, when it leads a group, to its group.
func (p *Process) Kill() { p.Signal(unix.SIGKILL) }

// Signal sends sig as Kill does.
func (p *Process) Signal(sig unix.Signal) {
	if p.done {
		return
	}
	if p.group {
		_ = unix.Kill(-p.pid, sig)
	}
	_ = unix.PidfdSendSignal(p.pidfd, sig, nil, 0)
}

// Reap collects the exit status if the process has ended; it never blocks.
func (p *Process) Reap() (Status, bool, error) { return p.reap(unix.WNOHANG) }

// Wait collects the exit status and blocks until there is one. It is for
// children that have just been killed.
func (p *Process) Wait() (Status, error) {
	st, _, err := p.reap(0)
	return st, err
}

func (p *Process) reap(flags int) (Status, bool, error) {
	if p.done {
		return p.status, true, nil
	}
	var ws unix.WaitStatus
	var ru unix.Rusage
	for {
		pid, err := unix.Wait4(p.pid, &ws, flags, &ru)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return Status{}, false, fmt.Errorf("waiting for process %d: %w", p.pid, err)
		case pid == 0:
			return Status{}, false, nil
		}
		p.done, p.status = true, Status{Wait: ws, Usage: ru}
		Close(p.pidfd)
		p.pidfd = -1
		return p.status, true, nil
	}
}
