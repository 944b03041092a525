package ui

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFindTerminal(t *testing.T) {
	pty, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminal: %v", err)
	}
	defer pty.Close()
	if err := unix.IoctlSetWinsize(int(pty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: 71, Row: 9}); err != nil {
		t.Fatal(err)
	}
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, c := range []struct {
		out            *os.File
		name, value    string
		is, colour     bool
		format, hidden string
	}{
		{pty, "", "", true, true, barWithLogs, bar},
		{pty, "NO_COLOR", "1", true, false, barWithLogs, bar},
		{pty, "TERM", "dumb", false, false, rawWithLogs, raw},
		{pty, "IN_SYSTEMD", "1", false, false, rawWithLogs, raw},
		{file, "", "", false, false, rawWithLogs, raw},
	} {
		o := Options{Out: c.out, Env: func(name string) string {
			if name == c.name {
				return c.value
			}
			return ""
		}}
		found := findTerminal(&o)
		if found.is != c.is || found.colour != c.colour {
			t.Errorf("%s=%s: %+v", c.name, c.value, found)
		}
		if found.is && found.columns() != 71 {
			t.Errorf("%d columns", found.columns())
		}
		if got := pick(o, found); got != c.format {
			t.Errorf("%s=%s: format %s", c.name, c.value, got)
		}
		o.HideBuildOutput = true
		if got := pick(o, found); got != c.hidden {
			t.Errorf("%s=%s without logs: format %s", c.name, c.value, got)
		}
	}
}
