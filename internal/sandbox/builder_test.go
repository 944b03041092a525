package sandbox

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"gobuild/internal/worker/proc"
)

// must runs a script to its successful end and returns what it said.
func (w *World) must(t testing.TB, script string) string {
	t.Helper()
	o := w.run(t, shell(script))
	if o.err != nil || !o.status.OK() {
		t.Fatalf("%v, %v\n%s", o.err, o.status, o.log)
	}
	return o.log
}

// input puts a file, or a directory with one, into the store.
func (h *host) input(t *testing.T, name, contents string) Input {
	t.Helper()
	p := filepath.Join(h.policy.StoreDir, name)
	if dir, ok := strings.CutSuffix(name, "/file"); ok {
		if err := os.Mkdir(filepath.Join(h.policy.StoreDir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(h.policy.StoreDir, dir), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(p, []byte(contents), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(p, 0o666); err != nil {
		t.Fatal(err)
	}
	p = strings.TrimSuffix(p, "/file")
	return Input{Logical: p, Real: p}
}

func TestInputs(t *testing.T) {
	h := newHost(t)
	dir, file, hidden := h.input(t, "dir/file", "in a directory"), h.input(t, "plain", "alone"), h.input(t, "hidden", "secret")
	link := Input{Logical: filepath.Join(h.policy.StoreDir, "link"), Real: filepath.Join(h.policy.StoreDir, "link")}
	if err := os.Symlink("plain", link.Real); err != nil {
		t.Fatal(err)
	}
	w := h.world(t, func(b *Build) { b.Inputs = []Input{dir, file, link, file} })
	log := w.must(t, `cd `+h.policy.StoreDir+`; cat dir/file plain link; echo; readlink link; ls
		for f in plain dir/file dir/new; do (echo bad >$f) 2>/dev/null && echo written $f; done
		echo result >out; mkdir outdir; ln -s x outlink; mv plain moved 2>/dev/null && echo moved; rm -rf dir 2>/dev/null; true`)
	if want := "in a directoryalonealone\nplain\ndir\nlink\nplain\n"; log != want {
		t.Errorf("the builder saw %q, want %q", log, want)
	}
	for in, want := range map[string]string{dir.Real + "/file": "in a directory", file.Real: "alone", hidden.Real: "secret", w.OutputPath("out"): "result\n"} {
		if text, err := os.ReadFile(in); err != nil || string(text) != want {
			t.Errorf("'%s' contains %q, want %q (%v)", in, text, want, err)
		}
	}
	final := filepath.Join(h.policy.StoreDir, "out")
	if err := os.Rename(w.OutputPath("out"), final); err != nil {
		t.Errorf("an output cannot be moved into the store: %v", err)
	}
}

func TestStoreElsewhere(t *testing.T) {
	h := newHost(t)
	in := h.input(t, "plain", "text")
	h.policy.RealStoreDir, h.policy.StoreDir = h.policy.StoreDir, "/logical/store"
	in.Logical = "/logical/store/plain"
	h.policy.Paths = append(h.policy.Paths, Bind{Target: "/data", Source: in.Logical})
	w := h.world(t, func(b *Build) { b.Inputs = []Input{in} })
	if log := w.must(t, "cat /logical/store/plain /data; ls /logical/store; echo x >/logical/store/out"); log != "texttextplain\n" {
		t.Errorf("the builder saw %q", log)
	}
	if _, err := os.Stat(filepath.Join(h.policy.RealStoreDir, drv+".chroot", "store", "out")); err != nil {
		t.Error(err)
	}
}

// An input that is a file, and that a sandbox path leads to as well, must not
// be truncated by making a mount point of it.
func TestInputFileIsAlsoASandboxPath(t *testing.T) {
	h := newHost(t)
	in := h.input(t, "plain", "text")
	h.policy.Paths = append(h.policy.Paths, Bind{Target: in.Logical, Source: in.Logical}, Bind{Target: "/data", Source: in.Logical})
	w := h.world(t, func(b *Build) { b.Inputs = []Input{in} })
	if log := w.must(t, "cat /data "+in.Logical); log != "texttext" {
		t.Errorf("the builder saw %q", log)
	}
	if text, err := os.ReadFile(in.Real); err != nil || string(text) != "text" {
		t.Errorf("the store path contains %q now (%v)", text, err)
	}
}

func TestBinds(t *testing.T) {
	h := newHost(t)
	dir := filepath.Join(h.policy.StateDir, "host")
	for _, d := range []string{"inner", "other"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"file": "file", "other/file": "other", "inner/file": "inner"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"link": "file", "escape": "/etc", "slash": "/", "links": "d"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	bind := func(target, source string) Bind { return Bind{Target: target, Source: filepath.Join(dir, source)} }
	optional := func(b Bind) Bind { b.Optional = true; return b }
	for _, c := range []struct {
		name   string
		binds  []Bind
		script string
		want   string // what the builder says, or if it starts with "!", an error
	}{
		{"file", []Bind{bind("/a/b/c", "file")}, "cat /a/b/c", "file"},
		{"directory", []Bind{bind("/d", "")}, "cat /d/file /d/link", "filefile"},
		{"a link is made anew", []Bind{bind("/l", "link"), bind("/file", "file")}, "readlink /l; cat /l", "file\nfile"},
		{"missing", []Bind{bind("/x", "missing")}, "true", "!an item of 'sandbox-paths' that may be missing ends in '?'"},
		{"missing and optional", []Bind{optional(bind("/x", "missing"))}, "ls -d /x 2>/dev/null || echo none", "none\n"},
		{"a later one wins", []Bind{bind("/x", "file"), bind("/x", "other/file")}, "cat /x", "other"},
		{"inside another", []Bind{bind("/d", ""), bind("/d/inner", "other"), bind("/d/file", "inner/file")}, "cat /d/inner/file /d/file", "otherinner"},
		{"inside another, not there", []Bind{bind("/d", ""), bind("/d/new", "other")}, "true", "!no such file or directory"},
		{"inside another, file not there", []Bind{bind("/d", ""), bind("/d/new", "file")}, "true", "!no such file or directory"},
		{"through a link of the host", []Bind{bind("/d", ""), bind("/d/escape/hosts", "file")}, "cat /etc/hosts", "!no such file or directory"},
		{"through a link to the root", []Bind{bind("/d", ""), bind("/d/slash/bin/sh", "file")}, "true", "!executing"},
		{"through a link in the sandbox", []Bind{bind("/slash", "slash"), bind("/slash/bin/x", "file")}, "true", "!no such file or directory"},
		{"inside a link to another", []Bind{bind("/bin2", "links"), bind("/bin2/file", "other/file"), bind("/d", "")}, "cat /d/file /d/inner/file", "otherinner"},
		{"proc is the sandbox's own", []Bind{{Target: "/proc", Source: "/proc"}}, "echo /proc/[0-9]*", "/proc/1\n"},
		{"hosts replaced", []Bind{bind("/etc/hosts", "file")}, "cat /etc/hosts", "file"},
		{"device replaced", []Bind{bind("/dev/full", "file")}, "cat /dev/full", "file"},
		{"tmp replaced", []Bind{bind("/tmp", "")}, "true", "!no such file or directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := h.world(t, func(b *Build) { b.Binds = c.binds }).run(t, shell(c.script))
			if want, isError := strings.CutPrefix(c.want, "!"); isError {
				if o.err == nil || !strings.Contains(o.err.Error(), want) {
					t.Errorf("error %v, want %q in it", o.err, want)
				}
			} else if o.err != nil || !o.status.OK() || o.log != want {
				t.Errorf("%v, %v, %q; want %q", o.err, o.status, o.log, want)
			}
		})
	}
	if _, err := os.Lstat(filepath.Join(dir, "new")); !os.IsNotExist(err) {
		t.Errorf("a mount point was made in a directory of the host: %v", err)
	}
}

func TestWholeDev(t *testing.T) {
	h := newHost(t)
	h.policy.Paths = append(h.policy.Paths, Bind{Target: "/dev", Source: "/dev"})
	if log := h.world(t, nil).must(t, "echo x >/dev/null; ls /dev/shm; echo end"); log != "end\n" {
		t.Errorf("the builder saw %q", log)
	}
}

func TestNetwork(t *testing.T) {
	h := newHost(t)
	w := h.world(t, func(b *Build) { b.Network = true })
	got := sections(w.must(t, lookAround))
	checkNamespaces(t, got["ns"], []string{"cgroup", "ipc", "mnt", "pid", "user", "uts"})
	if !strings.Contains(got["etc"], "# /etc/nsswitch.conf\nhosts: files dns\nservices: files\n") {
		t.Errorf("nsswitch.conf is missing:\n%s", got["etc"])
	}
	for _, name := range []string{"/etc/hosts", "/etc/resolv.conf", "/etc/services"} {
		if bound := strings.Contains(got["mountinfo"], " "+name+" "); bound != exists(name) {
			t.Errorf("'%s' is bound: %v", name, bound)
		}
	}
}

// What the test's own process leaves open, ignores and blocks is not the
// builder's.
func TestNothingIsInherited(t *testing.T) {
	var fds [2]int
	if err := unix.Pipe(fds[:]); err != nil {
		t.Fatal(err)
	}
	defer proc.Close(fds[0], fds[1])
	signal.Ignore(syscall.SIGHUP, syscall.SIGUSR1)
	defer signal.Reset(syscall.SIGHUP, syscall.SIGUSR1)
	h := newHost(t)
	for _, sandboxed := range []bool{true, false} {
		o := h.once(t, sandboxed, Command{Path: "/bin/busybox", Argv: []string{"ls", "-l", "/proc/self/fd"}})
		var open []string
		for line := range strings.Lines(o.log) {
			if file, target, ok := strings.Cut(strings.TrimSpace(line), " -> "); ok {
				target, _, _ = strings.Cut(target, ":")
				open = append(open, file[strings.LastIndexByte(file, ' ')+1:]+" "+target)
			}
		}
		if got := strings.Join(open, ", "); got != "0 /dev/null, 1 pipe, 2 pipe" || o.err != nil { // 3, of ls itself, has gone
			t.Errorf("sandboxed %v: open are %q, %v\n%s", sandboxed, got, o.err, o.log)
		}
		o = h.once(t, sandboxed, Command{Path: "/bin/busybox", Argv: []string{"grep", "SigIgn", "/proc/self/status"}})
		if o.log != "SigIgn:\t0000000000000000\n" {
			t.Errorf("sandboxed %v: %q", sandboxed, o.log)
		}
		want, err := exec.Command("/bin/sh", "-c", "ulimit -n").Output()
		if err != nil {
			t.Fatal(err)
		}
		if got := h.once(t, sandboxed, Command{Path: "/bin/busybox", Argv: []string{"sh", "-c", "ulimit -n"}}).log; got != string(want) {
			t.Errorf("sandboxed %v: limit of open files %q, want %q", sandboxed, got, want)
		}
	}
}

func TestFailures(t *testing.T) {
	h := newHost(t)
	for _, sandboxed := range []bool{true, false} {
		var execErr *ExecError
		o := h.once(t, sandboxed, Command{Path: "/missing", Argv: []string{"missing"}})
		if !errors.As(o.err, &execErr) || o.err.Error() != "executing '/missing': No such file or directory" || o.status.Wait.ExitStatus() != 189 {
			t.Errorf("a missing builder: %v, %v", o.err, o.status)
		}
		var setup *SetupError
		o = h.once(t, sandboxed, Command{Path: "/bin/sh", Dir: "/nowhere"})
		if !errors.As(o.err, &setup) || !errors.Is(o.err, unix.ENOENT) || !strings.Contains(o.err.Error(), "'/nowhere'") {
			t.Errorf("a missing directory: %v", o.err)
		}
		o = h.once(t, sandboxed, Command{Path: "/bin/sh", Argv: []string{"sh"}, Env: []string{"A=\x00B"}})
		if o.err == nil || !strings.Contains(o.err.Error(), "NUL") {
			t.Errorf("a NUL in the environment: %v", o.err)
		}
		o = h.once(t, sandboxed, Command{Path: "/bin/sh", Argv: []string{"sh", "-c", "exit 3"}})
		if o.err != nil || o.status.String() != "failed with exit code 3" {
			t.Errorf("a failing builder: %v, %v", o.err, o.status)
		}
	}
}

// A process that its builder leaves behind holds the log open: the test ends
// only if it dies with the builder.
func TestLeftoversDie(t *testing.T) {
	w := newHost(t).world(t, nil)
	if log := w.must(t, "(trap '' TERM HUP; setsid sleep 1000) & echo started"); log != "started\n" {
		t.Errorf("the builder said %q", log)
	}
}

func TestKillUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: needs root")
	}
	h := newHost(t)
	w := h.world(t, func(b *Build) { b.Sandboxed = false })
	log, err := proc.NewPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close(log.R)
	p, r, err := w.Start(Command{Path: "/bin/busybox", Argv: []string{"sh", "-c", "setsid sleep 1000 & echo started; exit 0"}}, log.W)
	proc.Close(log.W)
	if err != nil {
		t.Fatal(err)
	}
	if err := finish(t, p, r); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	killer, err := new(Policy).KillUser(h.user.UID)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := killer.Wait(); err != nil || !st.OK() {
		t.Errorf("killing: %v, %v", st, err)
	}
	if got := readAll(t, log.R); got != "started\n" { // ends only when the last one is dead
		t.Errorf("the builder said %q", got)
	}
	if _, err := new(Policy).KillUser(0); err == nil {
		t.Error("root's processes could be killed")
	}
}

func TestBuildDirIsPrivate(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: needs root to look as somebody else")
	}
	h := newHost(t)
	for _, sandboxed := range []bool{true, false} {
		w := h.world(t, func(b *Build) { b.Sandboxed = sandboxed })
		o := w.run(t, Command{Path: "/bin/busybox", Argv: []string{"sh", "-c", "echo x >f; chmod 777 . f"}})
		if o.err != nil || !o.status.OK() {
			t.Fatalf("%v, %v, %s", o.err, o.status, o.log)
		}
		cmd := exec.Command("/bin/busybox", "cat", filepath.Join(w.BuildDir(), "f"))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 60124, Gid: 60124}}
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "Permission denied") {
			t.Errorf("sandboxed %v: somebody else reads %q, %v", sandboxed, out, err)
		}
	}
}

func TestSettleBeforeKill(t *testing.T) {
	h := newHost(t)
	for range 20 {
		w := h.world(t, nil)
		log, err := proc.NewPipe()
		if err != nil {
			t.Fatal(err)
		}
		p, r, err := w.Start(shell("sleep 1000"), log.W)
		proc.Close(log.W)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Settle(p); err != nil {
			t.Fatal(err)
		}
		p.Kill()
		readAll(t, log.R) // ends only when nobody is left
		proc.Close(log.R, r.FD())
		if st, err := p.Wait(); err != nil || st.OK() {
			t.Errorf("the builder ended: %v, %v", st, err)
		}
		if err := w.Remove(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestProbe(t *testing.T) {
	newHost(t)
	if err := Probe(); err != nil {
		t.Error(err)
	}
}

func TestPersonality(t *testing.T) {
	for _, c := range []struct {
		system, arch string
		linux26      bool
		want         uint64
	}{
		{"x86_64-linux", "amd64", false, 0x0040000},
		{"i686-linux", "amd64", false, 0x0040008},
		{"i686-linux", "386", false, 0x0040000},
		{"x86_64-linux", "amd64", true, 0x0060000},
		{"i686-linux", "amd64", true, 0x0060008},
		{"builtin", "amd64", true, 0x0040000},
		{"aarch64-linux", "arm64", true, 0x0040000},
		{"armv7l-linux", "arm64", false, 0x0040008},
		{"aarch64-linux", "arm64", false, 0x0040000},
		{"builtin", "amd64", false, 0x0040000},
	} {
		if got := personality(c.system, c.arch, c.linux26); got != c.want {
			t.Errorf("personality(%s on %s, %v) = %#x, want %#x", c.system, c.arch, c.linux26, got, c.want)
		}
	}
}
