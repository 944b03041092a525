package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// innerVar tells this program that it runs in a mount namespace of its own.
const innerVar = "GOBUILD_BENCH_INNER"

// inNewMountNamespace runs this program again where it may mount a tmpfs that goes away with it. /dev/shm will not do for
// sandboxed builds: a sandbox has its own.
func inNewMountNamespace() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), innerVar+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return cmd.ProcessState.ExitCode()
}

// workDir makes the directory for everything.
func workDir(base string) (string, error) {
	if base != "" {
		return os.MkdirTemp(base, "bench-")
	}
	if os.Getenv(innerVar) == "" {
		return os.MkdirTemp("/dev/shm", "bench-")
	}
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return "", fmt.Errorf("making mounts private: %w", err)
	}
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return "", err
	}
	if err := unix.Mount("bench", dir, "tmpfs", 0, "size=75%,nr_inodes=2m,mode=0755"); err != nil {
		return "", fmt.Errorf("mounting a tmpfs: %w", err)
	}
	return dir, nil
}

// removeWorkDir removes what workDir made.
func removeWorkDir(dir string) error {
	// Not mounted is fine: then it is a directory in /dev/shm.
	_ = unix.Unmount(dir, unix.MNT_DETACH)
	return removeTree(dir)
}

// allowLongCommandLines raises the limit that follows from the stack's: 50,000 targets are more than usual.
func allowLongCommandLines() error {
	var stack unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_STACK, &stack); err != nil {
		return fmt.Errorf("reading the limit of the stack: %w", err)
	}
	stack.Cur = min(64<<20, stack.Max)
	if err := unix.Setrlimit(unix.RLIMIT_STACK, &stack); err != nil {
		return fmt.Errorf("raising the limit of the stack: %w", err)
	}
	return nil
}

// fileSystem names the kind of file system, as far as it matters.
func fileSystem(dir string) string {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err == nil && fs.Type == unix.TMPFS_MAGIC {
		return "tmpfs"
	}
	return "not in memory"
}
