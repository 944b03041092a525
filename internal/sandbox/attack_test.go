package sandbox

import (
	"bytes"
	"embed"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

//go:embed testdata/*.c
var attacks embed.FS

// loadFilter loads a filter into all threads of this process.
func loadFilter(program []byte) error {
	fprog := struct {
		n       uint16
		program unsafe.Pointer
	}{uint16(len(program) / 8), unsafe.Pointer(&program[0])}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&fprog)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return errno
	}
	return nil
}

// compile builds a static C program from testdata, which builders find at
// /attack.
func (h *host) compile(t *testing.T, source string) {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("skipped: no C compiler")
	}
	program := filepath.Join(h.policy.StateDir, "attack")
	text, err := attacks.ReadFile("testdata/" + source)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(gcc, "-static", "-O1", "-o", program, "-x", "c", "-")
	cmd.Stdin = bytes.NewReader(text)
	cmd.Dir = h.policy.StateDir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("compiling %s: %v\n%s", source, err, out)
	}
	h.policy.Paths = append(h.policy.Paths, Bind{Target: "/attack", Source: program})
}

// TestSetIDIsRefused tries every way of making a set-id file or an extended
// attribute that the filter knows of.
func TestSetIDIsRefused(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("skipped: the program is for x86_64")
	}
	h := newHost(t)
	h.compile(t, "setid.c")
	o := h.once(t, true, Command{Path: "/attack", Argv: []string{"attack"}})
	if o.err != nil || !o.status.OK() {
		t.Fatalf("%v, %v\n%s", o.err, o.status, o.log)
	}
	for line := range strings.Lines(o.log) {
		fields := strings.Fields(line) // name, error number, and the one wanted
		if len(fields) != 3 || fields[1] != fields[2] {
			t.Errorf("%s", line)
		}
	}
	if n := strings.Count(o.log, "\n"); n < 30 {
		t.Errorf("only %d attempts:\n%s", n, o.log)
	}
	h.policy.FilterSyscalls = false
	o = h.once(t, true, Command{Path: "/attack", Argv: []string{"attack"}})
	if !strings.Contains(o.log, "chmod 0 1\n") {
		t.Errorf("without a filter nothing changes, so this test shows nothing:\n%s", o.log)
	}
}

// TestAbstractSockets has a builder on the host's network connect to an
// abstract Unix socket of the host.
func TestAbstractSockets(t *testing.T) {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 || abi < 6 {
		t.Skip("skipped: this kernel cannot restrict abstract Unix sockets")
	}
	h := newHost(t)
	h.compile(t, "abstract.c")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	name := filepath.Base(filepath.Dir(h.policy.StoreDir))
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: "@" + name}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 5); err != nil {
		t.Fatal(err)
	}
	for _, network := range []bool{true, false} {
		w := h.world(t, func(b *Build) { b.Network = network })
		o := w.run(t, Command{Path: "/attack", Argv: []string{"attack", name}})
		want := "connect: Connection refused\n" // in another network there is no such socket
		if network {
			want = "connect: Operation not permitted\n"
		}
		if o.err != nil || o.log != want {
			t.Errorf("network %v: %v, %q", network, o.err, o.log)
		}
		if err := w.Remove(); err != nil {
			t.Fatal(err)
		}
	}
}
