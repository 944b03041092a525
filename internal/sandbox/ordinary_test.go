package sandbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"gobuild/internal/worker/proc"
)

// helperRole makes the test binary play a part in another process.
const helperRole = "SANDBOX_TEST_ROLE"

// The user whom the tests run as a second time.
const ordinaryID = 60123

func TestMain(m *testing.M) {
	switch os.Getenv(helperRole) {
	case "engine":
		playEngine()
	case "masked":
		playMasked()
	case "forbidden":
		playForbidden()
	}
	os.Exit(m.Run())
}

// as has a command run as the ordinary user.
func as(id uint32, cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
	return cmd
}

// role is the test binary in another part.
func role(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), helperRole+"="+name, "TMPDIR=/tmp")
	return cmd
}

// TestAsOrdinaryUser runs the tests of this package again without privileges.
func TestAsOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: this is an ordinary user")
	}
	golden, err := filepath.Abs("../../testdata/golden/sandbox")
	if err != nil {
		t.Fatal(err)
	}
	cmd := as(ordinaryID, role("", "-test.run=^Test", "-test.skip=^TestPlan", "-test.v"))
	cmd.Env = append(cmd.Env, goldenDir+"="+golden, "GOCOVERDIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "skipped:") {
			t.Log(strings.TrimSpace(line))
		}
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: TestSandboxLooksAsRecorded") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestParentDeath kills an engine and expects its builder to die: it holds the
// log open.
func TestParentDeath(t *testing.T) {
	for _, kind := range []string{"sandboxed", "unsandboxed"} {
		h := newHost(t)
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := role("engine", kind, h.policy.StoreDir, h.policy.StateDir)
		cmd.Stdout, cmd.Stderr = w, os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		w.Close()
		buf := make([]byte, 3)
		if _, err := r.Read(buf); err != nil || string(buf) != "up\n" {
			t.Fatalf("the builder said %q, %v", buf, err)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if n, err := r.Read(buf); n != 0 || err == nil {
			t.Errorf("%s: read %q after the engine's death", kind, buf[:n])
		}
		r.Close()
	}
}

// playEngine starts a builder that writes to the standard output, and stays.
func playEngine() {
	runtime.LockOSThread()
	p := Policy{StoreDir: os.Args[2], StateDir: os.Args[3], FilterSyscalls: true, Paths: []Bind{{Target: "/bin/busybox", Source: "/bin/busybox"}}}
	b := &Build{DrvBase: drv, Sandboxed: os.Args[1] == "sandboxed"}
	if os.Geteuid() == 0 {
		b.User = &User{UID: ordinaryID + 1, GID: ordinaryID + 1}
	}
	w, err := NewWorld(&p, b)
	if err == nil {
		_, _, err = w.Start(Command{Path: "/bin/busybox", Argv: []string{"sh", "-c", "echo up; sleep 1000"}}, 1)
	}
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	proc.Close(1)
	select {}
}

func TestMissingFacilities(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: needs root to take facilities away")
	}
	for _, c := range []struct {
		role string
		id   uint32
		want string
	}{
		{"masked", ordinaryID, "mounting a process file system on '/proc': operation not permitted; a fresh /proc may not be mounted because parts of the one here are masked"},
		{"forbidden", ordinaryID, "making a user namespace and others inside it: operation not permitted; user namespaces are forbidden here"},
		{"forbidden", 0, "making namespaces: operation not permitted; making namespaces is forbidden here"},
	} {
		cmd := role(c.role)
		if c.role == "masked" {
			cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
		} else {
			as(c.id, cmd)
		}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%s as user %d: %v, %q; want %q in it", c.role, c.id, err, out, c.want)
		}
	}
}

// tellProbe prints what Probe says.
func tellProbe() {
	if err := Probe(); err != nil {
		os.Stdout.WriteString(err.Error())
	}
	os.Exit(0)
}

// playMasked covers a part of /proc, as containers do, and becomes an ordinary
// user.
func playMasked() {
	runtime.LockOSThread()
	err := unix.Mount("none", "/proc/sys", "tmpfs", 0, "")
	if err == nil {
		err = syscall.Setresgid(ordinaryID, ordinaryID, ordinaryID)
	}
	if err == nil {
		err = syscall.Setresuid(ordinaryID, ordinaryID, ordinaryID)
	}
	if err != nil {
		os.Stdout.WriteString(err.Error())
		os.Exit(1)
	}
	tellProbe()
}

// playForbidden refuses the system call unshare to itself.
func playForbidden() {
	runtime.LockOSThread()
	program := encodeFilter([]instruction{
		{code: opLoad, k: offsetNr},
		{code: opIfEqual, jf: 1, k: unix.SYS_UNSHARE},
		{code: opReturn, k: verdictPerm},
		{code: opReturn, k: verdictAllow},
	})
	if err := loadFilter(program); err != nil {
		os.Stdout.WriteString(err.Error())
		os.Exit(1)
	}
	tellProbe()
}
