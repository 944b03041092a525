package sandbox

import (
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/worker/proc"
)

// staleAge keeps off directories that are just being made.
const staleAge = time.Minute

// Stale lists the build directories of engines that died before they could
// remove them: nobody holds their locks. Kept directories of failed builds are
// not among them; their mode tells them apart.
func (p *Policy) Stale(now time.Time) []string {
	entries, err := os.ReadDir(p.buildDir())
	if err != nil {
		return nil
	}
	var stale []string
	for _, e := range entries {
		name := path.Join(p.buildDir(), e.Name())
		if isBuildDir(e.Name()) && abandoned(name, now) {
			stale = append(stale, name)
		}
	}
	return stale
}

// isBuildDir knows the names that makeWrapper gives, "nix-<pid>-<n>".
func isBuildDir(name string) bool {
	rest, ok := strings.CutPrefix(name, "nix-")
	pid, n, found := strings.Cut(rest, "-")
	_, pidErr := strconv.Atoi(pid)
	_, nErr := strconv.Atoi(n)
	return ok && found && pidErr == nil && nErr == nil
}

func abandoned(name string, now time.Time) bool {
	fd, err := unix.Open(name, openDir, 0)
	if err != nil {
		return false
	}
	defer proc.Close(fd)
	var st syscall.Stat_t
	if syscall.Fstat(fd, &st) != nil || int(st.Uid) != os.Geteuid() || st.Mode&0o007 != 0 {
		return false
	}
	if now.Sub(time.Unix(st.Ctim.Sec, st.Ctim.Nsec)) < staleAge {
		return false
	}
	return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil
}
