package sandbox

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// A facility is what a step needs of the machine beyond the ordinary.
type facility uint8

const (
	needsNothing facility = iota
	needsNamespaces
	needsUserNamespace
	needsUserMap
	needsProc
	needsMount
	needsIDs
	needsFilter
	needsBuilder
)

// diagnose says what is missing when a step failed, and how to provide it; ""
// if the error says it all.
func diagnose(needs facility, err error) string {
	return diagnoseFrom(needs, err, func(name string) string {
		text, _ := os.ReadFile(name)
		return strings.TrimSpace(string(text))
	})
}

// diagnoseFrom is diagnose with the kernel's settings read by read, which
// returns "" for one that does not exist.
func diagnoseFrom(needs facility, err error, read func(string) string) string {
	switch needs {
	case needsUserNamespace, needsUserMap:
		return noUserNamespace(err, read)
	case needsNamespaces:
		return noNamespaces(err, read)
	case needsProc:
		if errors.Is(err, unix.EPERM) {
			return "a fresh /proc may not be mounted because parts of the one here are masked, as containers do: run the container with an unmasked /proc (systempaths=unconfined)"
		}
	case needsMount:
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
			return "mounting is forbidden here: allow CAP_SYS_ADMIN and the mount system calls, or check the rules of the security module"
		}
	case needsIDs:
		if errors.Is(err, unix.EINVAL) {
			return "this user id does not exist in the user namespace that this program runs in: map it, or use another build user"
		}
		if errors.Is(err, unix.EPERM) {
			return "changing the user needs CAP_SETUID and CAP_SETGID"
		}
	case needsFilter:
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
			return "the kernel cannot filter system calls (CONFIG_SECCOMP_FILTER); 'filter-syscalls = false' does without"
		}
		if errors.Is(err, unix.EACCES) {
			return "with 'allow-new-privileges' a filter can be loaded by root only"
		}
	}
	return ""
}

func noUserNamespace(err error, read func(string) string) string {
	switch {
	case errors.Is(err, unix.ENOSPC) || read("/proc/sys/user/max_user_namespaces") == "0":
		return "user namespaces are not enabled; set the sysctl user.max_user_namespaces above 0"
	case read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
		return "user namespaces are for root only here; set the sysctl kernel.unprivileged_userns_clone to 1"
	case read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
		return "AppArmor restricts user namespaces; give this program a profile that allows 'userns', or set the sysctl kernel.apparmor_restrict_unprivileged_userns to 0"
	case errors.Is(err, unix.EINVAL):
		return "the kernel has no user namespaces (CONFIG_USER_NS)"
	case errors.Is(err, unix.EPERM):
		return "user namespaces are forbidden here; a container must allow the system call 'unshare' with CLONE_NEWUSER, and a changed root directory forbids them"
	}
	return ""
}

func noNamespaces(err error, read func(string) string) string {
	switch {
	case errors.Is(err, unix.EPERM) && !hasSysAdmin(read("/proc/self/status")):
		return "root lacks the capability CAP_SYS_ADMIN here; run the container with it, or build as an ordinary user"
	case errors.Is(err, unix.EPERM):
		return "making namespaces is forbidden here; allow the system calls 'clone' and 'unshare' with namespace flags"
	case errors.Is(err, unix.ENOSPC):
		return "too many namespaces; raise the sysctls user.max_{pid,mnt,net,ipc,uts,cgroup}_namespaces"
	case errors.Is(err, unix.EINVAL):
		return "the kernel lacks a kind of namespace (CONFIG_PID_NS, CONFIG_NET_NS, CONFIG_IPC_NS, CONFIG_UTS_NS)"
	}
	return ""
}

// hasSysAdmin reads the effective capabilities of a process's status.
func hasSysAdmin(status string) bool {
	for line := range strings.Lines(status) {
		if hex, ok := strings.CutPrefix(line, "CapEff:"); ok {
			var caps uint64
			for _, c := range strings.TrimSpace(hex) {
				caps = caps<<4 | uint64(strings.IndexRune("0123456789abcdef", c)&15)
			}
			return caps&(1<<unix.CAP_SYS_ADMIN) != 0
		}
	}
	return false
}
