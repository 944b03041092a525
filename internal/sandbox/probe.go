package sandbox

import (
	"os"

	"golang.org/x/sys/unix"

	"gobuild/internal/worker/proc"
)

// Probe tries whether this machine can make a sandbox, and returns a
// *SetupError that names what is missing. It starts a process and waits for it,
// some milliseconds.
func Probe() error {
	s := &survey{rootless: os.Geteuid() != 0, sandboxed: true}
	s.identify(nil, new(Policy))
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer proc.Close(null)
	p, r, err := run(proc.Self, s.trial(), s, null)
	if err != nil {
		return err
	}
	defer proc.Close(r.FD())
	err = r.Settle(p)
	if _, waitErr := p.Wait(); err == nil {
		err = waitErr
	}
	if err != nil {
		return err
	}
	r.drain()
	return r.End()
}

// trial is a plan that makes the parts of a sandbox that may be forbidden, and
// nothing of what a builder needs.
func (s *survey) trial() *plan {
	p := &planner{survey: s}
	p.namespaces()
	p.mount("making mounts private", needsMount, null(), "/", null(), unix.MS_PRIVATE|unix.MS_REC, "MS_PRIVATE|MS_REC", null())
	p.mountProc("/proc")
	p.do("write", unix.SYS_WRITE, "reporting", num(reportFD), str("R"), num(1))
	p.do("exit_group", unix.SYS_EXIT_GROUP, "ending", num(0))
	return &p.plan
}

// drain feeds what an ended process has left in the report.
func (r *Report) drain() {
	buf := make([]byte, 64)
	for {
		n, err := unix.Read(r.fd, buf)
		if err == unix.EINTR {
			continue
		}
		if n <= 0 {
			return
		}
		r.Feed(buf[:n])
	}
}
