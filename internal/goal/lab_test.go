package goal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gobuild/internal/activity"
	"gobuild/internal/builtin"
	"gobuild/internal/logzip"
	"gobuild/internal/sandbox"
	"gobuild/internal/store"
	"gobuild/internal/store/drv"
	"gobuild/internal/store/finalise"
	"gobuild/internal/store/storepath"
)

// TestMain makes the test program its own child jobs, as the real one is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if job, ok := childJobs[os.Args[1]]; ok {
			// Not os.Exit: with the race detector that sleeps for a second.
			syscall.Exit(job(os.Args[2:]))
		}
	}
	os.Exit(m.Run())
}

var childJobs = map[string]func(args []string) int{
	FinaliseChild: func([]string) int { return finalise.Main() },
	logzip.Child:  func([]string) int { return logzip.Main() },
	HashChild:     func([]string) int { return finalise.HashMain() },
	RemoveChild:   RemoveMain,
	builtin.Job:   func([]string) int { return fakeBuiltinMain() },
	fakeNetChild:  func([]string) int { return fakeNetMain() },
	fakeHookChild: fakeHookMain,
}

// A lab is a store in a directory of its own, with what engines on it need.
type lab struct {
	testing.TB
	dir   string
	cfg   store.Config
	store *store.Store
	opt   Options
	sink  *recorder
	runs  int // engines made

	sources func() []Source // for the next engine; nil: none
}

// newLab makes a lab whose engines build without a sandbox: as root under user
// ids that nobody has, else as the user that we are.
func newLab(t testing.TB) *lab {
	t.Helper()
	runtime.LockOSThread() // builders die with the thread that started them
	dir, err := os.MkdirTemp("", "goal-test-")
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err == nil {
		err = os.Chmod(dir, 0o755) // builders pass through
	}
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{TB: t, dir: dir, sink: newRecorder()}
	t.Cleanup(func() {
		if err := sandbox.RemoveTree(dir); err != nil {
			t.Error(err)
		}
	})
	l.cfg = store.Config{
		Dir: storepath.Dir(dir + "/store"), StateDir: dir + "/var", LogDir: dir + "/log", WAL: true,
		Warn: func(line string) { t.Log("warning: " + line) },
	}
	l.opt = Options{
		MaxJobs: 2, PollInterval: 10 * time.Millisecond, LogLines: 10, LogDir: l.cfg.LogDir, KeepLog: true, CompressLog: true,
		System: "test-system", Mode: SandboxOff, StrictFixed: true, Getenv: func(string) string { return "" },
		Sandbox: &sandbox.Policy{StoreDir: string(l.cfg.Dir), StateDir: l.cfg.StateDir, FilterSyscalls: true},
	}
	if os.Geteuid() == 0 {
		// not the ids of another engine on this machine: one may be killing them
		l.opt.Users = &sandbox.Users{StateDir: l.cfg.StateDir, StartID: 1610612736 + uint32(os.Getpid()%1000)*8*65536, Count: 8 * 65536}
		gid, err := l.opt.Users.GID()
		if err != nil {
			t.Fatal(err)
		}
		l.cfg.BuildGroup = int(gid)
	}
	l.store = l.open()
	return l
}

// open opens the store once more.
func (l *lab) open() *store.Store {
	l.Helper()
	s, err := store.Open(l.cfg)
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { s.Close() })
	return s
}

// sandboxed makes the lab's engines isolate their builders.
func (l *lab) sandboxed() {
	l.Helper()
	shell := sandbox.DefaultShell()
	if shell == "" {
		l.Skip("skipped: no static busybox here to be the shell in the sandbox")
	}
	if err := sandbox.Probe(); err != nil {
		l.Skipf("skipped: no sandbox here: %v", err)
	}
	l.opt.Mode = SandboxOn
	l.opt.Sandbox.Paths = []sandbox.Bind{{Target: "/bin/sh", Source: shell}}
	for _, name := range []string{"sleep", "mkdir", "dd", "env", "cat", "ln", "touch"} {
		l.opt.Sandbox.Paths = append(l.opt.Sandbox.Paths, sandbox.Bind{Target: "/bin/" + name, Source: shell})
	}
}

// drv adds a derivation whose builder is a shell with a script. In the script
// there is a PATH to the usual programs.
func (l *lab) drv(name, script string, edits ...func(*drv.Derivation)) storepath.Path {
	l.Helper()
	d := &drv.Derivation{
		Name: name, Outputs: []drv.Output{{ID: "out"}}, Platform: "test-system",
		Builder: "/bin/sh", Args: []string{"-c", "PATH=/bin:/usr/bin\n" + script},
		Env: []drv.EnvVar{{Name: "name", Value: name}},
	}
	for _, edit := range edits {
		edit(d)
	}
	slices.SortFunc(d.Env, func(a, b drv.EnvVar) int { return strings.Compare(a.Name, b.Name) })
	if err := d.FillOutputs(l.store.Dir(), drv.NewHasher(l.store.Derivation)); err != nil {
		l.Fatal(err)
	}
	p, err := l.store.AddDerivation(d)
	if err != nil {
		l.Fatal(err)
	}
	return p
}

// needs makes a derivation depend on all outputs of others.
func (l *lab) needs(inputs ...storepath.Path) func(*drv.Derivation) {
	return func(d *drv.Derivation) {
		for _, p := range inputs {
			in, err := l.store.Derivation(p)
			if err != nil {
				l.Fatal(err)
			}
			d.InputDrvs = append(d.InputDrvs, drv.Input{Path: p, Outputs: in.OutputIDs()})
		}
		slices.SortFunc(d.InputDrvs, func(a, b drv.Input) int { return strings.Compare(string(a.Path), string(b.Path)) })
	}
}

// env sets variables of a derivation, given as name and value.
func env(pairs ...string) func(*drv.Derivation) {
	return func(d *drv.Derivation) {
		for i := 0; i < len(pairs); i += 2 {
			d.Env = append(d.Env, drv.EnvVar{Name: pairs[i], Value: pairs[i+1]})
		}
	}
}

// outputs gives a derivation other outputs than "out"; sorted.
func outputs(ids ...string) func(*drv.Derivation) {
	return func(d *drv.Derivation) {
		d.Outputs = nil
		for _, id := range ids {
			d.Outputs = append(d.Outputs, drv.Output{ID: id})
		}
	}
}

// fixed makes the output one with known contents.
func fixed(methodAlgo, hash string) func(*drv.Derivation) {
	return func(d *drv.Derivation) { d.Outputs = []drv.Output{{ID: "out", MethodAlgo: methodAlgo, Hash: hash}} }
}

// out is the path of an output.
func (l *lab) out(p storepath.Path, id string) storepath.Path {
	l.Helper()
	d, err := l.store.Derivation(p)
	if err != nil {
		l.Fatal(err)
	}
	o, ok := d.Output(id)
	if !ok {
		l.Fatalf("'%s' has no output '%s'", p, id)
	}
	return o.Path
}

// read is the contents of a file in the store.
func (l *lab) read(p storepath.Path) string {
	l.Helper()
	text, err := os.ReadFile(l.store.RealPath(p))
	if err != nil {
		l.Fatal(err)
	}
	return string(text)
}

// engine makes an engine on the lab's store.
func (l *lab) engine() *Engine {
	l.Helper()
	if l.sources != nil {
		l.opt.Sources = l.sources()
	}
	e, err := New(l.store, l.opt, l.sink)
	if err != nil {
		l.Fatal(err)
	}
	l.runs++
	e.lastID += activity.ID(l.runs) << 20 // as if each were a process of its own
	l.Cleanup(func() {
		if err := e.Close(); err != nil {
			l.Error(err)
		}
	})
	return e
}

// targets wants all outputs of some paths.
func targets(paths ...storepath.Path) []Target {
	all := make([]Target, len(paths))
	for i, p := range paths {
		all[i].Path = p
	}
	return all
}

// realise has a new engine realise paths and wants that to succeed.
func (l *lab) realise(paths ...storepath.Path) []BuildResult {
	l.Helper()
	results, err := l.engine().Realise(targets(paths...))
	if err != nil {
		l.Fatalf("realising: %v\n%s", err, l.sink)
	}
	return results
}

// fails is realise where a Failure is wanted.
func (l *lab) fails(paths ...storepath.Path) ([]BuildResult, *Failure) {
	l.Helper()
	results, err := l.engine().Realise(targets(paths...))
	var f *Failure
	if !errors.As(err, &f) {
		l.Fatalf("realising ended with %v, want a failure\n%s", err, l.sink)
	}
	return results, f
}

func (l *lab) valid(p storepath.Path) bool {
	l.Helper()
	valid, err := l.store.IsValid(p)
	if err != nil {
		l.Fatal(err)
	}
	return valid
}

// wantClean looks for what a run must not leave behind.
func (l *lab) wantClean() {
	l.Helper()
	entries, err := os.ReadDir(l.store.RealDir())
	if err != nil {
		l.Fatal(err)
	}
	for _, e := range entries {
		p, err := l.store.Dir().FromBase(e.Name())
		switch {
		case e.Name() == ".links", strings.HasSuffix(e.Name(), ".lock"):
		case err != nil || !l.valid(p):
			l.Errorf("left in the store: '%s'", e.Name())
		}
	}
	builds, _ := filepath.Glob(l.cfg.StateDir + "/builds/*")
	if len(builds) > 0 {
		l.Errorf("build directories are left: %v", builds)
	}
	if open := l.sink.open(); len(open) > 0 {
		l.Errorf("activities go on: %v", open)
	}
}

// A recorder is a sink that remembers.
type recorder struct {
	level    activity.Level
	events   []string
	failures []error
	running  map[activity.ID]string
	wrong    []string
	progress map[activity.ID][]string
	kinds    map[activity.ID]activity.Type
}

func newRecorder() *recorder {
	return &recorder{
		level: activity.Chatty, running: map[activity.ID]string{}, progress: map[activity.ID][]string{},
		kinds: map[activity.ID]activity.Type{},
	}
}

func (r *recorder) Verbosity() activity.Level { return r.level }

func (r *recorder) note(format string, args ...any) {
	r.events = append(r.events, fmt.Sprintf(format, args...))
}

func (r *recorder) Message(level activity.Level, text string) {
	if level <= r.level {
		r.note("message %d %s", level, text)
	}
}

func (r *recorder) Failure(err error) {
	r.failures = append(r.failures, err)
	r.note("failure %v", err)
}

func (r *recorder) Start(id activity.ID, _ activity.Level, t activity.Type, text string, _ activity.ID, _ ...any) {
	if _, again := r.kinds[id]; again || id == 0 {
		r.wrong = append(r.wrong, fmt.Sprintf("activity %d starts again", id))
	}
	r.running[id], r.kinds[id] = fmt.Sprintf("%d '%s'", t, text), t
	r.note("start %d %s", t, text)
}

func (r *recorder) Stop(id activity.ID) {
	if _, ok := r.running[id]; !ok {
		r.wrong = append(r.wrong, fmt.Sprintf("activity %d stops without having started", id))
	}
	delete(r.running, id)
	r.note("stop %d", r.kinds[id])
}

func (r *recorder) Result(id activity.ID, t activity.ResultType, fields ...any) {
	if _, ok := r.running[id]; !ok {
		r.wrong = append(r.wrong, fmt.Sprintf("a result %d of activity %d, which does not run", t, id))
	}
	if t != activity.SetExpected {
		r.note("result %d of %d %v", t, r.kinds[id], fields)
	}
}

// open are the activities that go on, and what was wrong with others.
func (r *recorder) open() []string {
	all := slices.Clone(r.wrong)
	for _, text := range r.running {
		all = append(all, text)
	}
	return all
}

// has tells whether an event begins with a text.
func (r *recorder) has(prefix string) bool {
	return slices.ContainsFunc(r.events, func(e string) bool { return strings.HasPrefix(e, prefix) })
}

func (r *recorder) String() string { return strings.Join(r.events, "\n") }
