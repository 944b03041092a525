package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"gobuild/internal/goal"
	"gobuild/internal/remote/buildhook"
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

// checkUsage makes what commands say about their arguments usage errors.
func checkUsage(c *cobra.Command) {
	check := c.Args
	if check == nil {
		check = cobra.ArbitraryArgs
	}
	c.SuggestionsMinimumDistance = 2
	c.Args = func(c *cobra.Command, args []string) error {
		err := check(c, args)
		if err == nil {
			return nil
		}
		if c.HasAvailableSubCommands() && len(args) > 0 {
			err = unknownCommand(c, args[0])
		}
		return &usageError{c.CommandPath(), err}
	}
	for _, sub := range c.Commands() {
		checkUsage(sub)
	}
}

func unknownCommand(c *cobra.Command, name string) error {
	if like := c.SuggestionsFor(name); len(like) > 0 {
		return fmt.Errorf("unknown command '%s'; did you mean '%s'?", name, like[0])
	}
	return fmt.Errorf("unknown command '%s'", name)
}

// exitCode maps an error to the exit status: 0 for none, 100 and its
// refinements for failed builds, 1 for anything else.
func exitCode(err error) int {
	var f *goal.Failure
	var hook *buildhook.Failure
	switch {
	case err == nil:
		return 0
	case errors.As(err, &f):
		return f.ExitCode
	case errors.As(err, &hook):
		return hook.Status
	}
	return 1
}
