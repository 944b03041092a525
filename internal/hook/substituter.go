package hook

import (
	"fmt"
	"path"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/storepath"
	"gobuild/internal/worker/proc"
)

// A Substituter is a program that fetches store paths.
type Substituter struct {
	Path string
	Env  []string
}

// StartQuery starts the program as one to be asked. The descriptors are the
// caller's: input does not block, replies and stderr are read ends.
func (s *Substituter) StartQuery() (p *proc.Process, input, replies, stderr int, err error) {
	var pipes [3]proc.Pipe
	for i := range pipes {
		if pipes[i], err = proc.NewPipe(); err != nil {
			closeAll(pipes[:i])
			return nil, -1, -1, -1, err
		}
	}
	in, out, log := pipes[0], pipes[1], pipes[2]
	if err = unix.SetNonblock(in.R, false); err == nil {
		err = unix.SetNonblock(in.W, true)
	}
	if err == nil {
		p, err = s.start([]string{"--query"}, in.R, out.W, log.W)
	}
	if err != nil {
		closeAll(pipes[:])
		return nil, -1, -1, -1, err
	}
	proc.Close(in.R, out.W, log.W)
	return p, in.W, out.R, log.R, nil
}

// StartFetch has the program make the tree of a store path at dest, which
// must not exist. The descriptors are read ends: of what says the expected
// hash, and of the log.
func (s *Substituter) StartFetch(p storepath.Path, dest string) (process *proc.Process, result, log int, err error) {
	out, err := proc.NewPipe()
	if err != nil {
		return nil, -1, -1, err
	}
	errs, err := proc.NewPipe()
	if err != nil {
		closeAll([]proc.Pipe{out})
		return nil, -1, -1, err
	}
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		process, err = s.start([]string{"--substitute", string(p), dest}, null, out.W, errs.W)
		proc.Close(null)
	}
	if err != nil {
		closeAll([]proc.Pipe{out, errs})
		return nil, -1, -1, err
	}
	proc.Close(out.W, errs.W)
	return process, out.R, errs.R, nil
}

func (s *Substituter) start(args []string, in, out, errs int) (*proc.Process, error) {
	p, err := proc.Start(proc.Command{
		Path: s.Path, Argv: append([]string{path.Base(s.Path)}, args...), Env: s.Env, Files: []int{in, out, errs},
		Attr: syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM},
	})
	if err != nil {
		return nil, fmt.Errorf("starting the substituter '%s': %w", s.Path, err)
	}
	return p, nil
}

// OptionsVariable tells substituters of the settings that were given.
const OptionsVariable = "_NIX_OPTIONS"

// PackOptions is the value of OptionsVariable.
func PackOptions(settings []Setting) (string, error) {
	var b strings.Builder
	for _, s := range settings {
		if strings.ContainsAny(s.Name, "=\n") {
			return "", fmt.Errorf("illegal option name '%s'", s.Name)
		}
		if strings.Contains(s.Value, "\n") {
			return "", fmt.Errorf("illegal option value '%s'", s.Value)
		}
		b.WriteString(s.Name + "=" + s.Value + "\n")
	}
	return b.String(), nil
}

// ParseHash reads the first line of a fetch's result: ALGORITHM:HASH, or
// nothing when the substituter does not know what to expect.
func ParseHash(line string) (d digest.Digest, known bool, err error) {
	line = strings.TrimRight(line, " \t\r")
	if line == "" {
		return d, false, nil
	}
	name, text, ok := strings.Cut(line, ":")
	if !ok {
		return d, false, fmt.Errorf("bad hash from substituter: %s", clip([]byte(line)))
	}
	algorithm, err := digest.ParseAlgorithm(name)
	if err != nil {
		return d, false, fmt.Errorf("unknown hash algorithm in '%s' from substituter", clip([]byte(line)))
	}
	if d, err = digest.ParseBare(algorithm, text); err != nil {
		return d, false, fmt.Errorf("bad hash from substituter: %w", err)
	}
	return d, true, nil
}
