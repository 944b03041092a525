package main

import (
	"errors"
	"fmt"

	"gobuild/internal/goal"
)

// A usageError is a mistake in the command line.
type usageError struct {
	command string
	err     error
}

func (e *usageError) Error() string {
	return fmt.Sprintf("%v\nTry '%s --help' for more information.", e.err, e.command)
}

func (e *usageError) Unwrap() error { return e.err }

// exitCode maps an error to the exit status: 0 for none, 100 and its
// refinements for failed builds, 1 for anything else.
func exitCode(err error) int {
	var f *goal.Failure
	switch {
	case err == nil:
		return 0
	case errors.As(err, &f):
		return f.ExitCode
	}
	return 1
}
