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
// then the orphans that this makes. They must not be watched by anybody.
func KillOrphans(setting string) {
	marker := append([]byte{0}, setting...)
	marker = append(marker, 0)
	for range orphanRounds {
		killed := false
		for _, pid := range children() {
			env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
			if err != nil || !bytes.Contains(append([]byte{0}, env...), marker) {
				continue
			}
			_ = unix.Kill(pid, unix.SIGKILL)
			_, _ = unix.Wait4(pid, nil, 0, nil)
			killed = true
		}
		if !killed {
			return
		}
	}
}

// children are the processes whose parent we are.
func children() []int {
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
	var pids []int
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if stat, err := os.ReadFile("/proc/" + name + "/stat"); err == nil && parentOf(string(stat)) == self {
			pids = append(pids, pid)
		}
	}
	return pids
}

// parentOf reads the parent from a process's stat line: the second field after
// the name, which is in parentheses and may contain anything.
func parentOf(stat string) string {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return ""
	}
	return fields[1]
}
