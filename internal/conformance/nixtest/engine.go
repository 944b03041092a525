package nixtest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// limit bounds one run of an engine; none of the suite's builds takes a tenth of it.
const limit = 60 * time.Second

// A Request is one call of an engine.
type Request struct {
	Targets []string // derivations, also with !outputs, or store paths
	Args    []string // flags that both engines know
	Env     []string // on top of what the store needs
}

// A Result is what a run said.
type Result struct {
	Exit   int // -1 if killed by a signal
	Stdout string
	Stderr string
}

// An Engine realises store paths.
type Engine struct {
	Name    string
	command func(s *Store, r Request) []string
	add     func(s *Store) []string // the command that adds paths
}

// Nix is the real one.
func Nix(tools Tools) Engine {
	return Engine{Name: "nix", command: func(s *Store, r Request) []string {
		args := append([]string{tools.NixStore}, s.storeArgs()...)
		args = append(args, "--realise")
		args = append(args, r.Args...)
		return append(args, r.Targets...)
	}, add: func(s *Store) []string {
		return append(append([]string{tools.NixStore}, s.storeArgs()...), "--add")
	}}
}

// Gobuild is this project's program; the only place that knows its command line.
func Gobuild(t testing.TB) Engine {
	t.Helper()
	if os.Getenv(EngineVar) == "nix" {
		e := Nix(FindTools(t))
		e.Name = "nix in gobuild's place"
		return e
	}
	bin := gobuildBinary(t)
	return Engine{Name: "gobuild", command: func(s *Store, r Request) []string {
		args := []string{bin, "realise"}
		if s.Mode != Plain {
			args = append(args, "--root", s.Root)
		}
		args = append(args, r.Args...)
		return append(args, r.Targets...)
	}, add: func(s *Store) []string {
		args := []string{bin, "add"}
		if s.Mode != Plain {
			args = append(args, "--root", s.Root)
		}
		return args
	}}
}

var buildOnce = sync.OnceValues(func() (string, error) {
	if bin := os.Getenv(BinaryVar); bin != "" {
		return filepath.Abs(bin)
	}
	dir, err := os.MkdirTemp("", "gobuild-under-test-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "gobuild")
	cmd := exec.Command("go", "build", "-o", bin, "./cmd/gobuild")
	cmd.Dir = Tree()
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.New("building gobuild: " + err.Error() + "\n" + string(out))
	}
	return bin, nil
})

func gobuildBinary(t testing.TB) string {
	t.Helper()
	bin, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// Discard removes the program that the tests built; call it after the last test.
func Discard() {
	if bin, err := buildOnce(); err == nil && os.Getenv(BinaryVar) == "" {
		os.RemoveAll(filepath.Dir(bin))
	}
}

// Tree is the root of the source tree.
func Tree() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "../../..")
}

// Start begins a run; Wait collects it.
func (e Engine) Start(t testing.TB, s *Store, r Request) *Running {
	t.Helper()
	return e.start(t, s, e.command(s, r), r.Env)
}

// Add copies a file or tree to a store.
func (e Engine) Add(t testing.TB, s *Store, path string, flags []string) Result {
	t.Helper()
	return e.start(t, s, append(append(e.add(s), flags...), path), nil).Wait(t)
}

// Command starts any program with the environment of an engine that works on the store.
func Command(t testing.TB, s *Store, args []string) *Running {
	t.Helper()
	if s.Mode != Plain {
		args = append(slices.Clone(args), "--store", s.Root)
	}
	return Engine{Name: args[0]}.start(t, s, args, nil)
}

// Run runs any program with that environment, as it is.
func Run(t testing.TB, s *Store, args []string) Result {
	t.Helper()
	return Engine{Name: args[0]}.start(t, s, args, nil).Wait(t)
}

// Program is the gobuild to test, for commands that do not realise.
func Program(t testing.TB) string { return gobuildBinary(t) }

func (e Engine) start(t testing.TB, s *Store, args, env []string) *Running {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	run := &Running{name: e.Name, cancel: cancel, ctx: ctx}
	run.cmd = exec.CommandContext(ctx, args[0], args[1:]...)
	run.cmd.Env = s.env(env)
	run.cmd.Stdout, run.cmd.Stderr = &run.stdout, &run.stderr
	run.cmd.Dir = s.Root
	// A group of its own: an interrupt for the engine must not reach the test.
	run.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// Only for a builder that outlives its engine and holds the pipe.
	run.cmd.WaitDelay = 5 * time.Second
	if err := run.cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", e.Name, err)
	}
	return run
}

// Run starts an engine and waits for it.
func (e Engine) Run(t testing.TB, s *Store, r Request) Result {
	t.Helper()
	return e.Start(t, s, r).Wait(t)
}

// A Running is an engine at work.
type Running struct {
	name           string
	cmd            *exec.Cmd
	ctx            context.Context
	cancel         context.CancelFunc
	stdout, stderr bytes.Buffer
}

// Signal sends a signal to the engine alone.
func (r *Running) Signal(sig syscall.Signal) error { return r.cmd.Process.Signal(sig) }

// Pid is the engine's process.
func (r *Running) Pid() int { return r.cmd.Process.Pid }

// Wait returns the run's result; a run over the time limit fails the test.
func (r *Running) Wait(t testing.TB) Result {
	t.Helper()
	defer r.cancel()
	err := r.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		t.Fatalf("running %s: %v", r.name, err)
	}
	if r.ctx.Err() != nil {
		t.Errorf("%s did not end within %v", r.name, limit)
	}
	return Result{Exit: r.cmd.ProcessState.ExitCode(), Stdout: r.stdout.String(), Stderr: r.stderr.String()}
}
