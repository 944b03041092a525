package sandbox

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"gobuild/internal/worker/proc"
)

// A host is a store and state directory to build in.
type host struct {
	policy Policy
	user   *User
}

// newHost makes one under a directory that builders can reach.
func newHost(t testing.TB) *host {
	t.Helper()
	runtime.LockOSThread() // the parent-death signal is per thread
	top, err := os.MkdirTemp("", "sandbox-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := RemoveTree(top); err != nil {
			t.Error(err)
		}
	})
	h := &host{policy: Policy{StoreDir: filepath.Join(top, "store"), StateDir: filepath.Join(top, "state"), FilterSyscalls: true}}
	for _, dir := range []string{top, h.policy.StoreDir, h.policy.StateDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if shell := DefaultShell(); shell != "" {
		h.policy.Paths = []Bind{{Target: "/bin/sh", Source: shell}, {Target: "/bin/busybox", Source: shell}}
	} else {
		t.Skip("skipped: no static busybox here")
	}
	if os.Geteuid() == 0 {
		// not the ids of another engine on this machine: one may be killing them
		us := Users{StateDir: h.policy.StateDir, StartID: 1<<30 + uint32(os.Getpid()%1024)*8*IDsPerBuild, Count: 8 * IDsPerBuild}
		u, ok, err := us.Acquire()
		if err != nil || !ok {
			t.Fatalf("Acquire: %v, %v", ok, err)
		}
		h.user = u
		t.Cleanup(u.Release)
	}
	return h
}

// drv is the base name of the derivation in tests.
const drv = "5df8izilj57a1rfzlh4a866007yphnrq-sbx.drv"

// world makes a world for a build as changed by edit.
func (h *host) world(t testing.TB, edit func(*Build)) *World {
	t.Helper()
	b := &Build{DrvBase: drv, Sandboxed: true, System: "x86_64-linux", User: h.user}
	if edit != nil {
		edit(b)
	}
	w, err := NewWorld(&h.policy, b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Remove(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func shell(script string) Command {
	return Command{Path: "/bin/sh", Argv: []string{"sh", "-c", script}, Env: []string{"PATH=/bin", "HOME=/homeless-shelter"}}
}

// busybox runs a program of busybox without a shell around it.
func busybox(argv ...string) Command {
	return Command{Path: "/bin/busybox", Argv: argv, Env: []string{"PATH=/bin"}}
}

// outcome is how a builder ended.
type outcome struct {
	log    string
	status proc.Status
	err    error // of the set-up
}

// run runs a builder to its end.
func (w *World) run(t testing.TB, c Command) outcome {
	t.Helper()
	log, err := proc.NewPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close(log.R)
	p, r, err := w.Start(c, log.W)
	proc.Close(log.W)
	if err != nil {
		return outcome{err: err}
	}
	o := outcome{err: finish(t, p, r)}
	o.log = readAll(t, log.R)
	if o.status, err = p.Wait(); err != nil {
		t.Fatal(err)
	}
	return o
}

// once builds in a world of its own.
func (h *host) once(t testing.TB, sandboxed bool, c Command) outcome {
	t.Helper()
	w := h.world(t, func(b *Build) { b.Sandboxed = sandboxed })
	o := w.run(t, c)
	if err := w.Remove(); err != nil {
		t.Error(err)
	}
	return o
}

// finish follows a report to its end.
func finish(t testing.TB, p *proc.Process, r *Report) error {
	t.Helper()
	defer proc.Close(r.FD())
	buf := make([]byte, 3) // records arrive in pieces
	for {
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(r.FD()), Events: unix.POLLIN}}, -1); err != nil && err != unix.EINTR {
			t.Fatal(err)
		}
		n, err := unix.Read(r.FD(), buf)
		switch {
		case err == unix.EINTR || err == unix.EAGAIN:
		case err != nil:
			t.Fatal(err)
		case n == 0:
			return r.End()
		default:
			if pid := r.Feed(buf[:n]); pid > 0 {
				if err := p.Adopt(pid); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func readAll(t testing.TB, fd int) string {
	t.Helper()
	var all bytes.Buffer
	buf := make([]byte, 4096)
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		case err != nil:
			t.Fatal(err)
		case n == 0:
			return all.String()
		default:
			all.Write(buf[:n])
		}
	}
}
