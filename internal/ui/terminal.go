package ui

import (
	"io"

	"golang.org/x/sys/unix"
)

// A palette holds the escape sequences for kinds of text; without colours all
// are empty.
type palette struct {
	reset, failure, warning, bold, faint, good, busy string
}

var ansi = palette{
	reset:   "\x1b[0m",
	failure: "\x1b[31;1m",
	warning: "\x1b[35;1m",
	bold:    "\x1b[1m",
	faint:   "\x1b[2m",
	good:    "\x1b[32;1m",
	busy:    "\x1b[34;1m",
}

// A terminal is what is known of the output.
type terminal struct {
	is      bool // can move the cursor
	colour  bool
	columns func() int
}

// findTerminal judges the output. A "dumb" terminal is as good as a file, and
// the journal wants no colours.
func findTerminal(o *Options) terminal {
	t := terminal{columns: o.Columns}
	if t.columns == nil {
		fd, ok := descriptor(o.Out)
		if !ok {
			return terminal{}
		}
		t.columns = func() int { return columnsOf(fd) }
	}
	t.is = o.Env("TERM") != "dumb" && o.Env("IN_SYSTEMD") != "1"
	t.colour = t.is && o.Env("NO_COLOR") == ""
	return t
}

// descriptor is the output's file descriptor if that is a terminal.
func descriptor(w io.Writer) (int, bool) {
	f, ok := w.(interface{ Fd() uintptr })
	if !ok {
		return -1, false
	}
	fd := int(f.Fd())
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return fd, err == nil
}

func columnsOf(fd int) int {
	size, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}
