package proc

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// AdoptOrphans makes this process the parent of its descendants' orphans, so
// that none of them gets out of sight.
func AdoptOrphans() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("adopting orphaned processes: %w", err)
	}
	return nil
}

// orphanRounds bounds the hunt: each round finds the children of those killed
// in the one before.
const orphanRounds = 100

// KillOrphans kills and reaps the children of this process that have the given
// setting, "NAME=value", in the environment that they were started with, and
// then the orphans that this makes. Those that have ended, whatever their
// setting, are reaped. Children that are watched by somebody are left alone.
func KillOrphans(setting string, watched func(pid int) bool) {
	marker := append([]byte{0}, setting...)
	marker = append(marker, 0)
	for range orphanRounds {
		killed := false
		for _, c := range children() {
			if watched(c.pid) || !c.ended && !startedWith(c.pid, marker) {
				continue
			}
			_ = unix.Kill(c.pid, unix.SIGKILL)
			_, _ = unix.Wait4(c.pid, nil, 0, nil)
			killed = true
		}
		if !killed {
			return
		}
	}
}

// startedWith tells whether a process's environment has a marker. That of one
// that has ended is empty.
func startedWith(pid int, marker []byte) bool {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return err == nil && bytes.Contains(append([]byte{0}, env...), marker)
}

// ReapGroup reaps those of the process's group that have become children of
// this process. The process must have been killed, with its group, and reaped.
func (p *Process) ReapGroup() {
	if !p.done || !p.group {
		return
	}
	for {
		if _, err := unix.Wait4(-p.pid, nil, 0, nil); err != nil && err != unix.EINTR {
			return // there are none
		}
	}
}

// A child is a process whose parent we are.
type child struct {
	pid   int
	ended bool // and not reaped
}

func children() []child {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil
	}
	self := strconv.Itoa(os.Getpid())
	var all []child
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue
		}
		if state, parent := stateAndParent(string(stat)); parent == self {
			all = append(all, child{pid, state == "Z"})
		}
	}
	return all
}

// stateAndParent reads a process's stat line: the first two fields after the
// name, which is in parentheses and may contain anything.
func stateAndParent(stat string) (state, parent string) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return "", ""
	}
	return fields[0], fields[1]
}
