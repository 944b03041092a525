package buildhook

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gobuild/internal/activity"
	"gobuild/internal/protocol"
	"gobuild/internal/remote"
	"gobuild/internal/remote/sshtest"
	"gobuild/internal/store"
	"gobuild/internal/store/drv"
	"gobuild/internal/store/fstree"
	"gobuild/internal/store/pathlock"
	"gobuild/internal/store/storepath"
)

// A lab is a store with a hook for it, and an engine that is a script.
type lab struct {
	*testing.T
	store    *store.Store
	cfg      store.Config
	far      string // address of a store for real Nix, with the same directory
	machines []remote.Machine
	options  Options

	messages []string // "level text"
	replies  bytes.Buffer
	log      bytes.Buffer
}

// system is what the lab's derivations are for; real Nix builds it here.
const system = "x86_64-linux"

func newLab(t *testing.T) *lab {
	t.Helper()
	dirs := make([]string, 2)
	for i := range dirs {
		var err error
		if dirs[i], err = os.MkdirTemp("/dev/shm", "buildhook-"); err != nil {
			dirs[i] = t.TempDir()
		}
		t.Cleanup(func() { _, _ = fstree.RemoveAll(dirs[i]) })
	}
	far, near := dirs[0], dirs[1]
	l := &lab{T: t, far: "local?store=" + far + "/store&state=" + far + "/var&log=" + far + "/log"}
	l.cfg = store.Config{Dir: storepath.Dir(far + "/store"), RealDir: near + "/store", StateDir: near + "/var", WAL: true}
	var err error
	if l.store, err = store.Open(l.cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.store.Close() })
	l.options = Options{
		LoadDir: near + "/load", MaxJobs: 1, Platforms: []string{system},
		Dialing: remote.Dialing{Dir: l.cfg.Dir, Env: os.Environ(), Patience: time.Minute, SSH: remote.SSH{Options: []string{"-F", "none"}}},
		Open:    func() (*store.Store, error) { return store.Open(l.cfg) },
	}
	return l
}

// needNix makes real Nix the far side of the lab, or skips the test.
func (l *lab) needNix() {
	l.Helper()
	if _, err := exec.LookPath("nix-store"); err != nil {
		if os.Getenv(sshtest.RequireVar) == "1" {
			l.Fatal("nix-store is not installed")
		}
		l.Skip("skipped: nix-store is not installed")
	}
	conf := l.TempDir()
	text := "sandbox = false\nbuild-users-group =\nsubstituters =\nbuilders =\nsystem-features = kvm\n"
	if err := os.WriteFile(conf+"/nix.conf", []byte(text), 0o644); err != nil {
		l.Fatal(err)
	}
	l.options.Dialing.Env = append(os.Environ(), "NIX_CONF_DIR="+conf, "NIX_USER_CONF_FILES=", "HOME="+conf)
}

// add gives the lab a machine.
func (l *lab) add(uri string) *remote.Machine {
	l.machines = append(l.machines, remote.Machine{URI: uri, Systems: []string{system}, MaxJobs: 1, Speed: float64(10 - len(l.machines))})
	return &l.machines[len(l.machines)-1]
}

// script is the address of a machine that a shell script plays.
func (l *lab) script(text string) string {
	l.Helper()
	file := filepath.Join(l.TempDir(), "script")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		l.Fatal(err)
	}
	return "ssh://h?transport=/bin/sh%20" + file
}

// playing is the address of a machine that says the same whatever it hears, and
// does something when it has heard so many bytes.
func (l *lab) playing(answer []byte, then string) string {
	l.Helper()
	file := filepath.Join(l.TempDir(), "answer")
	if err := os.WriteFile(file, append(encoded(0x5452eecb, 0x207), answer...), 0o644); err != nil {
		l.Fatal(err)
	}
	return l.script("cat " + file + "; " + then)
}

// derivation adds one whose builder is a shell script with outputs out and doc.
func (l *lab) derivation(name, script string, inputs ...storepath.Path) (storepath.Path, *drv.Derivation) {
	l.Helper()
	d := &drv.Derivation{
		Name: name, Platform: system, Builder: "/bin/sh", Args: []string{"-c", script},
		Outputs: []drv.Output{{ID: "doc"}, {ID: "out"}}, Env: []drv.EnvVar{{Name: "doc"}, {Name: "out"}},
	}
	for _, p := range slices.Sorted(slices.Values(inputs)) {
		if p.IsDerivation() {
			d.InputDrvs = append(d.InputDrvs, drv.Input{Path: p, Outputs: []string{"out"}})
		} else {
			d.InputSrcs = append(d.InputSrcs, p)
		}
	}
	if err := d.FillOutputs(l.cfg.Dir, drv.NewHasher(l.store.Derivation)); err != nil {
		l.Fatal(err)
	}
	p, err := l.store.AddDerivation(d)
	if err != nil {
		l.Fatal(err)
	}
	return p, d
}

func try(p storepath.Path, willing int, features ...string) []byte {
	return encoded("try", willing, system, p, append([]string{}, features...))
}

// run lets the hook answer an engine that says all this.
func (l *lab) run(said ...[]byte) error {
	l.Helper()
	return l.serve(NewBinary(bytes.NewReader(slices.Concat(said...))))
}

func (l *lab) serve(asker Asker) error {
	o := l.options
	o.Machines, o.Reply, o.Log, o.Sink = l.machines, &l.replies, &l.log, l
	return Run(asker, &o)
}

func (l *lab) Message(level activity.Level, text string) {
	l.messages = append(l.messages, fmt.Sprintf("%d %s", level, text))
}
func (l *lab) Failure(err error) { l.messages = append(l.messages, "failure "+err.Error()) }
func (l *lab) Start(_ activity.ID, level activity.Level, _ activity.Type, text string, _ activity.ID, _ ...any) {
	l.messages = append(l.messages, fmt.Sprintf("%d %s...", level, text))
}
func (l *lab) Stop(activity.ID)                                {}
func (l *lab) Result(activity.ID, activity.ResultType, ...any) {}

func (l *lab) wantReplies(want string) {
	l.Helper()
	if got := l.replies.String(); got != want {
		l.Errorf("replied %q, want %q\n%s", got, want, strings.Join(l.messages, "\n"))
	}
	l.replies.Reset()
}

func (l *lab) wantMessage(parts ...string) {
	l.Helper()
	if !slices.ContainsFunc(l.messages, func(text string) bool {
		return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(text, part) })
	}) {
		l.Errorf("no message with %q in\n%s", parts, strings.Join(l.messages, "\n"))
	}
}

func (l *lab) wantValid(want bool, paths ...storepath.Path) {
	l.Helper()
	for _, p := range paths {
		valid, err := l.store.IsValid(p)
		if err != nil || valid != want {
			l.Errorf("'%s': valid is %v, %v", p, valid, err)
		}
	}
}

func (l *lab) wantStatus(err error, status int, text string) {
	l.Helper()
	var f *Failure
	if !errors.As(err, &f) || f.Status != status || !strings.Contains(err.Error(), text) {
		l.Errorf("%v (%+v), want status %d and '%s'", err, f, status, text)
	}
}

// down is what is known of a machine.
func (l *lab) down(m *remote.Machine) down {
	p := newPool(&Options{Machines: []remote.Machine{*m}, LoadDir: l.options.LoadDir, Now: time.Now}, false)
	return p.down(p.machines[0])
}

func TestBuildsElsewhere(t *testing.T) {
	l := newLab(t)
	l.needNix()
	m := l.add(l.far)
	src, err := l.store.AddText("src", []byte("the source\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	depPath, dep := l.derivation("dep", "echo dep; echo "+string(src)+" >$out; echo >$doc", src)
	if err := l.run(try(depPath, 0), encoded([]string{string(src)}, []string{"doc", "out"})); err != nil {
		t.Fatal(err)
	}
	l.wantReplies("# accept\n" + m.URI + "\n")
	l.wantValid(true, dep.Outputs[0].Path, dep.Outputs[1].Path)
	l.wantMessage("4 connecting to '" + m.URI + "'...")
	l.wantMessage("3 copying path '" + string(src) + "' to '" + m.URI + "'...")
	l.wantMessage("3 copying path '" + string(dep.Outputs[1].Path) + "' from '" + m.URI + "'...")
	l.messages = nil

	out := dep.Outputs[1].Path
	p, d := l.derivation("top", "echo some log; echo more >&2; read x <"+string(out)+"; echo $x >$out; echo $out >$doc", depPath)
	var locked []string // as by the engine
	for _, o := range d.Outputs {
		locked = append(locked, l.store.RealPath(o.Path))
	}
	locks, _, err := pathlock.Acquire(locked, pathlock.Try)
	if err != nil {
		t.Fatal(err)
	}
	defer locks.Release(pathlock.Delete)
	closure := []string{string(src), string(out)}
	slices.Sort(closure)
	if err := l.run(try(p, 0), encoded(closure, []string{"out"})); err != nil {
		t.Fatal(err)
	}
	l.wantValid(true, d.Outputs[1].Path)
	l.wantValid(false, d.Outputs[0].Path) // nobody wanted it
	for _, text := range l.messages {
		if strings.HasPrefix(text, "3 ") && strings.Contains(text, " to '") {
			t.Errorf("there already: %s", text)
		}
	}
	if l.log.String() != "dep\nsome log\nmore\n" {
		t.Errorf("log %q", l.log.String())
	}
	info, err := l.store.Info(d.Outputs[1].Path)
	if err != nil || !slices.Equal(info.References, []storepath.Path{src}) || info.Deriver != p {
		t.Errorf("%+v, %v", info, err)
	}
}

func TestBuildsElsewhereInText(t *testing.T) {
	l := newLab(t)
	l.needNix()
	m := l.add(l.far)
	l.options.Trace = true
	src, err := l.store.AddText("src", []byte("the source\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	p, d := l.derivation("top", "echo some log; read x <"+string(src)+"; echo $x >$out; echo >$doc", src)
	said := fmt.Sprintf("0 %s %s \n%s %s \n%s %s \n", system, p, p, src, d.Outputs[0].Path, d.Outputs[1].Path)
	if err := l.serve(NewText(strings.NewReader(said))); err != nil {
		t.Fatal(err)
	}
	l.wantReplies("# accept\n")
	l.wantValid(true, d.Outputs[0].Path, d.Outputs[1].Path)
	l.wantMessage("3 building '" + string(p) + "' on '" + m.URI + "'")
	l.wantMessage("0 @ build-remote " + string(p) + " " + m.URI)
	if l.log.String() != "some log\n" {
		t.Errorf("log %q", l.log.String())
	}
	names, _ := filepath.Glob(l.options.LoadDir + "/" + system + "-local*-0")
	if len(names) != 1 {
		t.Errorf("locks of slots: %v", names)
	}
}

func TestAnswers(t *testing.T) {
	l := newLab(t)
	m := l.add("ssh://127.0.0.1:1")
	p, _ := l.derivation("x", "")
	seat, err := newPool(&Options{Machines: l.machines, LoadDir: l.options.LoadDir, Now: time.Now}, false).choose(&request{platform: system})
	if err != nil || seat.seat == nil {
		t.Fatal(err)
	}
	if err := l.run(try(p, 0), try(p, 1), try(p, 0), encoded("thanks")); err != nil {
		t.Fatal(err)
	}
	l.wantReplies("# postpone\n# decline\n# postpone\n")
	l.wantMessage("4 '" + string(p) + "' not on 'ssh://127.0.0.1:1': all 1 slots are taken")
	if n := len(l.messages); n != 2 { // and why it declines
		t.Errorf("%d messages: %q", n, l.messages)
	}
	seat.seat.lock.Close()

	m.Features = []string{"kvm"}
	l.messages = nil
	if err := l.run(try(p, 0, "big", "kvm")); err != nil {
		t.Fatal(err)
	}
	l.wantReplies("# decline\n")
	l.wantMessage("1 Failed to find a machine for remote build!\nderivation: " + p.Base() + "\nrequired (system, features): (" + system +
		", [big, kvm])\n1 available machines:\n(systems, maxjobs, supportedFeatures, mandatoryFeatures)\n([" + system + "], 1, [kvm], [])")

	l.machines = nil
	if err := l.run(try(p, 0)); err != nil {
		t.Fatal(err)
	}
	l.wantReplies("# decline-permanently\n")
	line := fmt.Sprintf("0 %s %s \n", system, p)
	if err := l.serve(NewText(strings.NewReader(line + line))); err != nil {
		t.Fatal(err)
	}
	l.wantReplies("# decline\n# decline\n")
}

func TestUnreachableMachines(t *testing.T) {
	l := newLab(t)
	l.needNix()
	dead := *l.add("ssh://127.0.0.1:1")
	talker := *l.add(l.script("echo '# accept' >&2; echo no_room >&2; exit 1"))
	l.add(l.far)
	p, d := l.derivation("x", "echo >$out; echo >$doc")
	if err := l.run(try(p, 1), encoded([]string{}, []string{"doc", "out"})); err != nil {
		t.Fatal(err)
	}
	l.wantReplies("# accept\n" + l.far + "\n")
	l.wantValid(true, d.Outputs[0].Path)
	l.wantMessage("1 cannot build on 'ssh://127.0.0.1:1': ", "Connection refused", "leaving it alone for 4s")
	for _, m := range []remote.Machine{dead, talker} {
		if d := l.down(&m); d.Failures != 1 || d.Reason == "" {
			t.Errorf("%s: %+v", m.URI, d)
		}
	}

	l.machines = l.machines[:2]
	l.messages = nil
	if err := l.run(try(p, 0), try(p, 1)); err != nil {
		t.Fatal(err)
	}
	l.wantReplies("# postpone\n# decline\n")
	l.wantMessage("4 '"+string(p)+"' not on 'ssh://127.0.0.1:1': it is left alone until", "after 1 failures", "Connection refused")
}

// TestTextOfMachinesIsNoReply: what a machine says must not answer for it.
func TestTextOfMachinesIsNoReply(t *testing.T) {
	l := newLab(t)
	l.add(l.script("echo no >&2; echo '# accept' >&2; exit 1"))
	p, _ := l.derivation("x", "")
	if err := l.serve(NewText(strings.NewReader(fmt.Sprintf("1 %s %s \n", system, p)))); err != nil {
		t.Fatal(err)
	}
	l.wantReplies("# decline\n")
	for _, text := range l.messages {
		if strings.Contains(text, "\n# ") {
			t.Errorf("message %q", text)
		}
	}
	l.wantMessage("no", "\n  # accept")
}

func TestLostMachines(t *testing.T) {
	l := newLab(t)
	l.needNix()
	// the greeting and no valid paths; it dies in the middle of the build
	dying := *l.add(l.playing(encoded(0), "head -c 300 >/dev/null; echo out_of_memory >&2; exit 9"))
	l.add(l.far)
	p, d := l.derivation("x", "echo built; echo >$out; echo >$doc")
	if err := l.run(try(p, 0), encoded([]string{}, []string{"doc", "out"})); err != nil {
		t.Fatal(err)
	}
	l.wantReplies("# accept\n" + dying.URI + "\n")
	l.wantValid(true, d.Outputs[0].Path, d.Outputs[1].Path)
	l.wantMessage("1 lost '"+dying.URI+"': building '"+string(p)+"'", "out_of_memory")
	l.wantMessage("3 building '" + string(p) + "' on '" + l.far + "' instead of")
	if d := l.down(&dying); d.Failures != 1 {
		t.Errorf("%+v", d)
	}

	if err := os.RemoveAll(l.options.LoadDir); err != nil {
		t.Fatal(err)
	}
	l.machines = l.machines[:1]
	q, _ := l.derivation("y", "")
	err := l.run(try(q, 0), encoded([]string{}, []string{"out"}))
	l.wantStatus(err, StatusRetry, "was lost, and no other is free")
}

func TestLostWhileFetching(t *testing.T) {
	l := newLab(t)
	built := encoded(0, 0, "", 1, 0, 5, 6, 0) // no valid paths; built
	l.add(l.playing(built, "head -c 300 >/dev/null; exit 9"))
	p, d := l.derivation("x", "")
	err := l.run(try(p, 0), encoded([]string{}, []string{"out"}))
	l.wantStatus(err, StatusRetry, "was lost")
	l.wantValid(false, d.Outputs[1].Path)
}

func TestFailedBuilds(t *testing.T) {
	for status, want := range map[protocol.BuildStatus]int{
		protocol.PermanentFailure: 100, protocol.OutputRejected: 100, protocol.LogLimitExceeded: 100, protocol.NotDeterministic: 100,
		protocol.CachedFailure: 100, protocol.TimedOut: 101,
		protocol.InputRejected: 1, protocol.TransientFailure: 1, protocol.MiscFailure: 1, protocol.DependencyFailed: 1, 99: 1,
	} {
		t.Run(status.String(), func(t *testing.T) {
			l := newLab(t)
			m := l.add(l.playing(encoded(0, int(status), "the reason", 0, 0, 0, 0, 0), "exec cat >/dev/null"))
			p, d := l.derivation("x", "")
			err := l.run(try(p, 0), encoded([]string{}, []string{"out"}))
			l.wantStatus(err, want, "build of '"+string(p)+"' on '"+m.URI+"' failed: the reason")
			l.wantValid(false, d.Outputs[1].Path)
			failures := 0
			if status == protocol.TransientFailure { // its disk is full
				failures = 1
				l.wantMessage("1 not building any more on '"+m.URI+"': it has run out of something", "leaving it alone for 4s")
			}
			if d := l.down(m); d.Failures != failures {
				t.Errorf("what is known of the machine: %+v", d)
			}
		})
	}
}

func TestJobsThatMakeNoSense(t *testing.T) {
	l := newLab(t)
	m := l.add(l.playing(encoded(0), "exec cat >/dev/null"))
	p, _ := l.derivation("x", "")
	missing := storepath.Path(l.cfg.Dir + "/1p0yc4lsjqcpykx26mkddwndd1ciqljd-missing")
	for want, said := range map[string][]byte{
		"has no output 'dev'":     slices.Concat(try(p, 0), encoded([]string{}, []string{"dev"})),
		"is not valid":            slices.Concat(try(p, 0), encoded([]string{string(missing)}, []string{"out"})),
		"reading what to build":   try(p, 0),
		"missing.drv' is not a d": slices.Concat(try(missing, 0), encoded([]string{}, []string{"out"})),
	} {
		if want == "missing.drv' is not a d" {
			want = "is not a derivation"
		}
		if err := l.run(said); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want '%s'", err, want)
		}
		l.wantReplies("# accept\n" + m.URI + "\n")
	}
}

func TestStoresThatCannotBeOpened(t *testing.T) {
	l := newLab(t)
	l.add(l.playing(nil, "exit"))
	l.options.Open = func() (*store.Store, error) { return nil, store.ErrReadOnly }
	p, _ := l.derivation("x", "")
	if err := l.run(try(p, 0)); err != nil {
		t.Fatal(err)
	}
	l.wantReplies("# decline-permanently\n")
	l.wantMessage("failure no write access to the store")
}

// TestEnded ends a build while its outputs come in.
func TestEnded(t *testing.T) {
	l := newLab(t)
	p, d := l.derivation("x", "")
	out := d.Outputs[1].Path
	archive := encoded("nix-archive-1", "(", "type", "regular", "contents", 1<<20)
	info := encoded(out, "", []string{}, 0, 1<<20+112, "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73", "", []string{}, "")
	mark := filepath.Join(t.TempDir(), "mark")
	if err := exec.Command("mkfifo", mark).Run(); err != nil {
		t.Fatal(err)
	}
	l.add(l.playing(slices.Concat(encoded(0, 0, "", 1, 0, 5, 6, 0), info, archive, make([]byte, 1000)), "echo >"+mark+"; exec sleep 1000"))
	l.add(l.far)
	l.options.Ender = &Ender{}
	ended := make(chan bool)
	go func() {
		_, _ = os.ReadFile(mark)
		ended <- l.options.Ender.End()
	}()
	err := l.run(try(p, 0), encoded([]string{}, []string{"out"}))
	l.wantStatus(err, StatusFailed, "interrupted")
	if !<-ended {
		t.Error("nothing was being built")
	}
	l.wantValid(false, out)
	entries, err := os.ReadDir(l.cfg.RealDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".drv") && e.Name() != ".links" {
			t.Errorf("left behind: %s", e.Name())
		}
	}
	if names, _ := filepath.Glob(l.options.LoadDir + "/*.down"); len(names) > 0 {
		t.Errorf("the machine is blamed: %v", names)
	}
	if l.options.Ender.End() {
		t.Error("something is still being built")
	}
}
