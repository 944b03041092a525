// Command gobuild-net does for gobuild what needs a network, or code that is
// slow to start: gobuild carries it along, and starts it as a child.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"gobuild/internal/builtin"
	"gobuild/internal/builtin/builders"
	"gobuild/internal/cache/fetch"
	"gobuild/internal/cache/upload"
	"gobuild/internal/cache/wire"
)

// jobs are what this program can be started for: its first argument names one
// of them. An error ends the program with its message and exit status 1.
var jobs = map[string]func(args []string) error{
	builtin.Job: builders.Main,
	"substitute": func([]string) error {
		signal.Ignore(syscall.SIGPIPE) // it ends with its input, and leaves nothing behind
		return fetch.Serve(os.Stdin, os.Stdout, os.Getenv)
	},
	wire.UploadJob: func([]string) error {
		// Whatever ends it, no half-written file stays in the cache.
		signal.Ignore(syscall.SIGPIPE)
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
		defer stop()
		return upload.Serve(ctx, os.Stdin, os.Stdout, os.Getenv)
	},
}

func main() {
	// The HTTP client writes what strange servers send to the standard logger.
	log.SetOutput(io.Discard)
	if len(os.Args) < 2 || jobs[os.Args[1]] == nil {
		fmt.Fprintf(os.Stderr, "error: gobuild-net is started by gobuild, with one of these jobs: %s\n",
			strings.Join(slices.Sorted(maps.Keys(jobs)), ", "))
		os.Exit(2)
	}
	if err := jobs[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "error: %v\n", err)
		os.Exit(1)
	}
}
