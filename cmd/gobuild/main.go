// Command gobuild realises derivations in a store that it can share with Nix.
package main

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

func main() {
	if run, ok := childRows[second(os.Args)]; ok {
		os.Exit(run(os.Args[2:]))
	}
	// Signals go to the thread that sleeps in the event loop, and builders are
	// children of that thread, with which they die.
	runtime.LockOSThread()
	unix.Umask(0o022) // what the store is made of is for everybody to read
	os.Exit(run(commandLine(os.Args), os.Stdin, os.Stdout, os.Stderr, os.Getenv))
}

func second(args []string) string {
	if len(args) < 2 {
		return ""
	}
	return args[1]
}
