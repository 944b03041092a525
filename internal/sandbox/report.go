package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"gobuild/internal/worker/proc"
)

// A Report says how the set-up of a builder goes. Whoever started the builder
// polls FD, gives what comes to Feed, and asks End at end of file or when the
// process has ended. Without privileges the first process ends at once, after
// it has named its successor: what is left in FD must be read before it is
// reaped.
type Report struct {
	fd       int
	own      int // a copy of fd while a successor is awaited, else -1
	plan     *plan
	path     string // of the builder, for messages
	rest     []byte // an incomplete record
	ready    bool
	failed   bool
	step     int
	errno    syscall.Errno
	diagnose func(facility, error) string
}

// reportFD is the init's descriptor for it.
const reportFD = 4

// FD is the read end, which does not block. The caller of Start closes it.
func (r *Report) FD() int { return r.fd }

// Feed takes what was read from FD. A pid above 0 is that of the process to
// follow from now on: give it to proc.Process.Adopt.
func (r *Report) Feed(data []byte) (pid int) {
	r.rest = append(r.rest, data...)
	for len(r.rest) > 0 {
		size := recordSize(r.rest[0])
		if len(r.rest) < size {
			break
		}
		switch r.rest[0] {
		case 'P':
			pid = int(int32(binary.NativeEndian.Uint32(r.rest[1:])))
			r.done()
		case 'R':
			r.ready = true
		case 'E':
			r.failed = true
			r.step = int(int32(binary.NativeEndian.Uint32(r.rest[1:])))
			r.errno = syscall.Errno(binary.NativeEndian.Uint32(r.rest[5:]))
		}
		r.rest = r.rest[size:]
	}
	return pid
}

func recordSize(kind byte) int {
	switch kind {
	case 'P':
		return 5
	case 'E':
		return 9
	}
	return 1
}

// End says at end of file how it went: nil means that the builder was executed.
// Otherwise it is an *ExecError or a *SetupError, and the process has ended or
// is about to.
func (r *Report) End() error {
	r.done()
	if !r.failed && r.ready {
		return nil
	}
	if !r.failed {
		return &SetupError{Step: "starting the builder", Err: errors.New("the process died before it could execute it")}
	}
	if r.step < 0 || r.step >= len(r.plan.steps) {
		return &SetupError{Step: "reading the plan", Err: r.errno}
	}
	s := &r.plan.steps[r.step]
	if s.needs == needsBuilder {
		return &ExecError{Path: r.path, Err: r.errno}
	}
	return &SetupError{Step: s.doing(), Err: r.errno, Hint: r.diagnose(s.needs, r.errno)}
}

// Settle finds out which process the builder is, if that is still open, and
// makes p follow it. It must be called before p is killed: else p's successor
// would live on unknown. It may block for the moment that the init takes.
func (r *Report) Settle(p *proc.Process) error {
	defer r.done()
	buf := make([]byte, 64)
	for r.own >= 0 && !r.failed {
		n, err := unix.Read(r.own, buf)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(r.own), Events: unix.POLLIN}}, -1)
		case err != nil:
			return fmt.Errorf("reading how the set-up of a builder went: %w", err)
		case n == 0:
			return nil
		default:
			if pid := r.Feed(buf[:n]); pid > 0 {
				return p.Adopt(pid)
			}
		}
	}
	return nil
}

// done drops the private copy of the descriptor.
func (r *Report) done() {
	proc.Close(r.own)
	r.own = -1
}
