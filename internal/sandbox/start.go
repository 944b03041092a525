package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"gobuild/internal/worker/proc"
)

func (w *World) start(c Command, logW int) (*proc.Process, *Report, error) {
	if err := checkStrings(c); err != nil {
		return nil, nil, err
	}
	s, err := w.survey(c)
	if err != nil {
		return nil, nil, err
	}
	return run(w.policy.initProgram(), s.plan(), s, logW)
}

// checkStrings refuses what cannot be an argument of execve.
func checkStrings(c Command) error {
	for _, list := range [][]string{{c.Path, c.Dir}, c.Argv, c.Env} {
		for _, s := range list {
			if strings.IndexByte(s, 0) >= 0 {
				return fmt.Errorf("cannot execute '%s': an argument or environment variable contains a NUL character",
					strings.ReplaceAll(c.Path, "\x00", ""))
			}
		}
	}
	return nil
}

// run starts an init, which is in the given program, with a plan.
func run(program string, pl *plan, s *survey, logW int) (*proc.Process, *Report, error) {
	planFD, err := MemoryFile(pl.encode())
	if err != nil {
		return nil, nil, err
	}
	defer proc.Close(planFD)
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("opening '/dev/null': %w", err)
	}
	defer proc.Close(null)
	pipe, err := proc.NewPipe()
	if err != nil {
		return nil, nil, err
	}
	defer proc.Close(pipe.W)
	p, err := proc.Start(proc.Command{
		Path: program, Argv: []string{"gobuild", "__init"}, Env: []string{},
		Files: append([]int{null, logW, logW, planFD, pipe.W}, s.command.descriptors()...),
		Attr:  syscall.SysProcAttr{Cloneflags: s.cloneFlags()},
	})
	if err != nil {
		proc.Close(pipe.R)
		return nil, nil, startError(err)
	}
	p.LeadsGroup()
	r := &Report{fd: pipe.R, own: -1, plan: pl, path: s.command.Path, diagnose: diagnose}
	if s.rootless && s.sandboxed {
		if r.own, err = unix.FcntlInt(uintptr(pipe.R), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			r.own = pipe.R
			_ = r.Settle(p)
			p.Kill()
			_, _ = p.Wait()
			return nil, nil, fmt.Errorf("duplicating a descriptor: %w", err)
		}
	}
	return p, r, nil
}

func startError(err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return err
	}
	return &SetupError{Step: "starting the builder's first process", Err: err, Hint: diagnose(needsNamespaces, err)}
}

// MemoryFile makes a file of data that has no name, to be read from its start,
// for the caller to close. A pipe would block when there is much.
func MemoryFile(data []byte) (int, error) {
	fd, err := unix.MemfdCreate("gobuild", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("creating a memory file: %w", err)
	}
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err != nil && err != unix.EINTR {
			proc.Close(fd)
			return -1, fmt.Errorf("writing a memory file: %w", err)
		}
		data = data[max(n, 0):]
	}
	if _, err := unix.Seek(fd, 0, 0); err != nil {
		proc.Close(fd)
		return -1, fmt.Errorf("rewinding a memory file: %w", err)
	}
	return fd, nil
}

// Describe prints what Start would have the init do, a system call per line.
func (w *World) Describe(c Command) (string, error) {
	s, err := w.survey(c)
	if err != nil {
		return "", err
	}
	return s.plan().String(), nil
}

// KillUser starts a process that kills all processes of a user, and then exits
// with code 0. Only builds outside a sandbox need it: the processes of a
// sandbox die with the first of them.
func (p *Policy) KillUser(uid uint32) (*proc.Process, error) {
	if uid == 0 {
		return nil, errors.New("refusing to kill the processes of root")
	}
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening '/dev/null': %w", err)
	}
	defer proc.Close(null)
	child, err := proc.Start(proc.Command{
		Path: p.initProgram(), Argv: []string{"gobuild", "__killuser", fmt.Sprint(uid)}, Env: []string{}, Files: []int{null, null, null}})
	if err != nil {
		return nil, fmt.Errorf("killing the processes of user %d: %w", uid, err)
	}
	return child, nil
}
