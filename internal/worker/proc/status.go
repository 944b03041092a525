package proc

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Status is how a process ended and what it used.
type Status struct {
	Wait  unix.WaitStatus
	Usage unix.Rusage
}

// OK tells whether the process exited with code 0.
func (s Status) OK() bool { return s.Wait.Exited() && s.Wait.ExitStatus() == 0 }

// String is the predicate that follows the process's name in a message.
func (s Status) String() string {
	switch {
	case s.OK():
		return "succeeded"
	case s.Wait.Exited():
		return fmt.Sprintf("failed with exit code %d", s.Wait.ExitStatus())
	case s.Wait.Signaled():
		return fmt.Sprintf("failed due to signal %d (%s)", int(s.Wait.Signal()), signalName(s.Wait.Signal()))
	}
	return "died abnormally"
}

// signalName is the C library's description, which messages have always had.
func signalName(sig unix.Signal) string {
	if name, ok := signalNames[sig]; ok {
		return name
	}
	return fmt.Sprintf("Unknown signal %d", int(sig))
}

var signalNames = map[unix.Signal]string{
	unix.SIGHUP: "Hangup", unix.SIGINT: "Interrupt", unix.SIGQUIT: "Quit", unix.SIGILL: "Illegal instruction",
	unix.SIGTRAP: "Trace/breakpoint trap", unix.SIGABRT: "Aborted", unix.SIGBUS: "Bus error",
	unix.SIGFPE: "Floating point exception", unix.SIGKILL: "Killed", unix.SIGUSR1: "User defined signal 1",
	unix.SIGSEGV: "Segmentation fault", unix.SIGUSR2: "User defined signal 2", unix.SIGPIPE: "Broken pipe",
	unix.SIGALRM: "Alarm clock", unix.SIGTERM: "Terminated", unix.SIGSTKFLT: "Stack fault",
	unix.SIGCHLD: "Child exited", unix.SIGCONT: "Continued", unix.SIGSTOP: "Stopped (signal)",
	unix.SIGTSTP: "Stopped", unix.SIGTTIN: "Stopped (tty input)", unix.SIGTTOU: "Stopped (tty output)",
	unix.SIGURG: "Urgent I/O condition", unix.SIGXCPU: "CPU time limit exceeded",
	unix.SIGXFSZ: "File size limit exceeded", unix.SIGVTALRM: "Virtual timer expired",
	unix.SIGPROF: "Profiling timer expired", unix.SIGWINCH: "Window changed", unix.SIGIO: "I/O possible",
	unix.SIGPWR: "Power failure", unix.SIGSYS: "Bad system call",
}
