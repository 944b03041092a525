package proc

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// sh starts a shell that writes to the pipe it returns.
func sh(t *testing.T, script string, env ...string) (*Process, Pipe) {
	t.Helper()
	out, err := NewPipe()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Start(Command{
		Path: "/bin/sh", Argv: []string{"sh", "-c", script}, Env: env,
		Files: []int{-1, out.W, 2}, Attr: syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	Close(out.W)
	t.Cleanup(func() { Close(out.R) })
	return p, out
}

// line waits for output.
func line(t *testing.T, p Pipe) string {
	t.Helper()
	if err := unix.SetNonblock(p.R, false); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	n, err := unix.Read(p.R, buf)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(buf[:n]))
}

func TestStatusTexts(t *testing.T) {
	for script, want := range map[string]string{
		"exit 0": "succeeded", "exit 3": "failed with exit code 3",
		"kill -9 $$": "failed due to signal 9 (Killed)", "kill -TERM $$": "failed due to signal 15 (Terminated)",
	} {
		p, _ := sh(t, script)
		st, err := p.Wait()
		if err != nil || st.String() != want {
			t.Errorf("%s: %v, %v, want %s", script, st, err, want)
		}
		again, done, err := p.Reap()
		if again != st || !done || err != nil {
			t.Errorf("%s: a second time %v, %v, %v", script, again, done, err)
		}
	}
}

func TestReapDoesNotBlockAndKillTakesTheGroup(t *testing.T) {
	p, out := sh(t, "sleep 1000 & echo $!; wait")
	child := line(t, out)
	if _, done, err := p.Reap(); done || err != nil {
		t.Fatalf("reaped a running process: %v, %v", done, err)
	}
	p.Kill()
	if st, err := p.Wait(); err != nil || st.Wait.Signal() != unix.SIGKILL {
		t.Fatalf("%v, %v", st, err)
	}
	// The pipe ends when the last of the group is gone.
	buf := make([]byte, 1)
	if n, err := unix.Read(out.R, buf); n != 0 || err != nil {
		t.Errorf("process %s of the group lives on: %d, %v", child, n, err)
	}
}

func TestStartError(t *testing.T) {
	_, err := Start(Command{Path: "/nonexistent", Argv: []string{"x"}})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestKillOrphans: processes that left their group are found by their
// environment, others are left alone.
func TestKillOrphans(t *testing.T) {
	if err := AdoptOrphans(); err != nil {
		t.Fatal(err)
	}
	p, out := sh(t, "setsid sh -c 'setsid sleep 1000 & sleep 1000' & echo started", "MARK=this", "PATH=/usr/bin:/bin")
	other, _ := sh(t, "exec sleep 1000", "MARK=other", "PATH=/usr/bin:/bin")
	line(t, out)
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	ended, _ := sh(t, "exit 3")
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(ended.PidFD()), Events: unix.POLLIN}}, 10_000); n != 1 || err != nil {
		t.Fatalf("a process does not end: %d, %v", n, err)
	}
	KillOrphans("MARK=this", func(pid int) bool { return pid == ended.Pid() })
	buf := make([]byte, 1)
	if n, err := unix.Read(out.R, buf); n != 0 || err != nil {
		t.Errorf("an orphan lives on: %d, %v", n, err)
	}
	if _, done, _ := other.Reap(); done {
		t.Error("a process with another environment was killed")
	}
	other.Kill()
	if _, err := other.Wait(); err != nil {
		t.Error(err)
	}
	if st, err := ended.Wait(); err != nil || st.Wait.ExitStatus() != 3 {
		t.Errorf("the status of a watched process was taken away: %v, %v", st, err)
	}
	if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
		t.Errorf("there are children: %d, %v", pid, err)
	}
}

// TestReapGroup has a process leave others of its group, which end with it.
func TestReapGroup(t *testing.T) {
	if err := AdoptOrphans(); err != nil {
		t.Fatal(err)
	}
	p, out := sh(t, "sleep 1000 & sh -c 'sleep 1000 & sleep 1000' & echo started; wait")
	line(t, out)
	p.ReapGroup() // too early: does nothing
	p.Kill()
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	p.ReapGroup()
	if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
		t.Errorf("there are children: %d, %v", pid, err)
	}
}

func TestStateAndParent(t *testing.T) {
	for stat, want := range map[string][2]string{
		"12 (sh) S 7 12": {"S", "7"}, "12 (a) b) (c) Z 8 1": {"Z", "8"}, "": {}, "12 (x)": {},
	} {
		if state, parent := stateAndParent(stat); [2]string{state, parent} != want {
			t.Errorf("%q: %q, %q, want %q", stat, state, parent, want)
		}
	}
}
