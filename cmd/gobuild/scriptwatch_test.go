package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"gobuild/internal/store/storepath"

	"github.com/rogpeppe/go-internal/testscript"
)

func storeDir(ts *testscript.TestScript) storepath.Dir {
	dir, err := storepath.ParseDir(ts.Getenv("NIX_STORE_DIR"))
	ts.Check(err)
	return dir
}

// untilDeadline leaves some time to report what a run that takes too long has
// done.
func untilDeadline(d time.Time) time.Duration { return time.Until(d) - 5*time.Second }

// maxrssMain runs a program and fails if it, or a process that it waited for,
// has used more memory than allowed:
//
//	maxrss MEBIBYTES program [args...]
func maxrssMain() {
	limit, err := strconv.ParseInt(os.Args[1], 10, 64)
	if err != nil {
		fatal(err)
	}
	cmd := exec.Command(os.Args[2], os.Args[3:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	used := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss / 1024
	fmt.Fprintf(os.Stderr, "maxrss: %d MiB\n", used)
	if used > limit {
		os.Exit(99)
	}
	os.Exit(exitStatus(err))
}

// signalMain runs a program and sends it a signal, either after a time or when
// it has printed some text:
//
//	signal NAME after=DURATION|at=TEXT program [args...]
//
// It ends as the program does.
func signalMain() {
	sig := map[string]syscall.Signal{
		"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL,
	}[os.Args[1]]
	how, what, _ := strings.Cut(os.Args[2], "=")
	cmd := exec.Command(os.Args[3], os.Args[4:]...)
	cmd.Stdout = os.Stdout
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fatal(err)
	}
	watch := &signaller{cmd: cmd, sig: sig}
	if how == "at" {
		watch.text = []byte(what)
	} else {
		after, err := time.ParseDuration(what)
		if err != nil {
			fatal(err)
		}
		time.AfterFunc(after, func() { _ = cmd.Process.Signal(sig) })
	}
	_, _ = io.Copy(io.MultiWriter(os.Stderr, watch), stderr)
	os.Exit(exitStatus(cmd.Wait()))
}

// A signaller sends its signal when the text has come by.
type signaller struct {
	cmd  *exec.Cmd
	sig  syscall.Signal
	text []byte // nil when it has been sent
	seen []byte
}

func (s *signaller) Write(p []byte) (int, error) {
	if s.text != nil {
		s.seen = append(s.seen, p...)
		if bytes.Contains(s.seen, s.text) {
			s.text = nil
			if err := s.cmd.Process.Signal(s.sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
				fatal(err)
			}
		}
	}
	return len(p), nil
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(98)
}
