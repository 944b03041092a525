package sandbox

import (
	"fmt"
	"strings"
	"syscall"
)

// A SetupError means that the machine could not make the environment of a
// build. The derivation is not at fault.
type SetupError struct {
	Step string // what failed, in words
	Err  error  // usually a syscall.Errno
	Hint string // what is missing and how to provide it; may be empty
}

func (e *SetupError) Error() string {
	text := fmt.Sprintf("setting up the build environment: %s: %v", e.Step, e.Err)
	if e.Hint != "" {
		text += "; " + e.Hint
	}
	return text
}

func (e *SetupError) Unwrap() error { return e.Err }

// An ExecError means that everything was ready and the kernel refused to
// execute the builder: the derivation is at fault.
type ExecError struct {
	Path string
	Err  syscall.Errno
}

func (e *ExecError) Error() string {
	text := e.Err.Error() // as the C library puts it, but for the first letter
	return fmt.Sprintf("executing '%s': %s", e.Path, strings.ToUpper(text[:1])+text[1:])
}

func (e *ExecError) Unwrap() error { return e.Err }
