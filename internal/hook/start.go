package hook

import (
	"fmt"
	"path"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/worker/proc"
)

// A Program is a build hook as it is configured.
type Program struct {
	Protocol Protocol
	Path     string // absolute
	Argv     []string
	Env      []string
	Settings []Setting // all there are; for Binary
}

// NewBinary is the program of the setting build-hook, with its arguments.
func NewBinary(file string, args []string, verbosity int, env []string, settings []Setting) *Program {
	argv := append([]string{path.Base(file)}, args...)
	return &Program{
		Protocol: Binary, Path: file, Argv: append(argv, strconv.Itoa(verbosity)), Env: env, Settings: settings,
	}
}

// TextOptions are what a hook of the original engine is told as arguments.
type TextOptions struct {
	System  string
	Silence time.Duration // 0: no limit, as for Timeout
	Timeout time.Duration
	Trace   bool // print a build trace
}

// NewText is the program of $NIX_BUILD_HOOK.
func NewText(file string, o TextOptions, env []string) *Program {
	trace := "0"
	if o.Trace {
		trace = "1"
	}
	return &Program{
		Protocol: Text, Path: file, Env: env,
		Argv: []string{file, o.System, seconds(o.Silence), trace, seconds(o.Timeout)},
	}
}

func seconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }

// A Process is a running hook. The descriptors are the caller's to close.
type Process struct {
	*proc.Process
	Input   int // write end, which does not block
	Replies int // read end: for Replies
	Builder int // read end: what the builder says, once a build was accepted
}

// Start starts a hook.
func Start(p *Program) (*Process, error) {
	var pipes [3]proc.Pipe
	for i := range pipes {
		var err error
		if pipes[i], err = proc.NewPipe(); err != nil {
			closeAll(pipes[:i])
			return nil, err
		}
	}
	requests, replies, builder := pipes[0], pipes[1], pipes[2]
	process, err := start(p, requests, replies, builder)
	if err != nil {
		closeAll(pipes[:])
		return nil, fmt.Errorf("starting the build hook '%s': %w", p.Path, err)
	}
	proc.Close(requests.R, replies.W, builder.W)
	return &Process{Process: process, Input: requests.W, Replies: replies.R, Builder: builder.R}, nil
}

func closeAll(pipes []proc.Pipe) {
	for _, p := range pipes {
		proc.Close(p.R, p.W)
	}
}

func start(p *Program, requests, replies, builder proc.Pipe) (*proc.Process, error) {
	// The hook's end is to block, as programs expect, and ours is not.
	if err := unix.SetNonblock(requests.R, false); err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(requests.W, true); err != nil {
		return nil, err
	}
	files := []int{requests.R, replies.W, replies.W, -1, builder.W}
	if p.Protocol == Binary {
		// What ssh has said, for a hook that could not connect. The descriptor
		// is one of its own, for ours must not block.
		own, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", builder.R), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		defer proc.Close(own)
		files = append(files, own)
	}
	return proc.Start(proc.Command{
		Path: p.Path, Argv: p.Argv, Env: p.Env, Dir: "/", Files: files,
		// Whatever becomes of us, a hook shall not go on unheard.
		Attr: syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM},
	})
}
