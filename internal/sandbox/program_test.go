package sandbox

import (
	"errors"
	"path"
	"testing"

	"golang.org/x/sys/unix"

	"gobuild/internal/worker/proc"
)

// A builder can be a program that only the engine has. It gets the files that
// it is given and no other descriptor, not even that of itself.
func TestProgram(t *testing.T) {
	h := newHost(t)
	h.policy.Paths = nil // nothing to execute inside
	program, err := unix.Open(DefaultShell(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close(program)
	var files []int
	for _, text := range []string{"first", "second"} {
		fd, err := MemoryFile([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		defer proc.Close(fd)
		files = append(files, fd)
	}
	for _, sandboxed := range []bool{true, false} {
		w := h.world(t, func(b *Build) { b.Sandboxed = sandboxed })
		script := `read a <&5; read b <&6; echo $a $b $A; for fd in /proc/self/fd/*; do echo ${fd##*/}; done`
		if !sandboxed {
			script = "cd /; " + script
		}
		for _, fd := range files {
			if _, err := unix.Seek(fd, 0, 0); err != nil {
				t.Fatal(err)
			}
		}
		o := w.run(t, Command{Path: "builtin:test", Argv: []string{"busybox", "sh", "-c", script}, Env: []string{"A=env"},
			Program: program, Files: files})
		// 3 is the directory that is being listed
		if want := "first second env\n0\n1\n2\n3\n5\n6\n"; o.err != nil || !o.status.OK() || o.log != want {
			t.Errorf("sandboxed %t: %v, %v, the builder said %q, want %q", sandboxed, o.err, o.status, o.log, want)
		}
	}
	w := h.world(t, nil)
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close(null)
	o := w.run(t, Command{Path: "builtin:test", Argv: []string{path.Base(t.Name())}, Program: null})
	if exec := (*ExecError)(nil); !errors.As(o.err, &exec) || exec.Path != "builtin:test" {
		t.Errorf("what is no program: %v", o.err)
	}
}
