package goal

import (
	"compress/bzip2"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/activity"
	"gobuild/internal/store"
	"gobuild/internal/store/digest"
	"gobuild/internal/store/drv"
	"gobuild/internal/store/finalise"
	"gobuild/internal/store/pathlock"
	"gobuild/internal/store/storepath"
	"gobuild/internal/worker"
)

// wantStatuses compares the statuses of results.
func (l *lab) wantStatuses(results []BuildResult, want ...Status) {
	l.Helper()
	got := make([]Status, len(results))
	for i, r := range results {
		got[i] = r.Status
		if r.Status.OK() != (r.Err == nil) {
			l.Errorf("result %d is %v with the error %v", i, r.Status, r.Err)
		}
	}
	if !slices.Equal(got, want) {
		l.Errorf("statuses %v, want %v\n%s", got, want, l.sink)
	}
}

// log is the log of a derivation.
func (l *lab) log(p storepath.Path) string {
	l.Helper()
	f, err := os.Open(LogFile(l.opt.LogDir, p, l.opt.CompressLog))
	if err != nil {
		l.Fatal(err)
	}
	defer f.Close()
	in := io.Reader(f)
	if l.opt.CompressLog {
		in = bzip2.NewReader(f)
	}
	text, err := io.ReadAll(in)
	if err != nil {
		l.Fatalf("reading the log of '%s': %v", p, err)
	}
	return string(text)
}

func TestEngineBuildsInOrder(t *testing.T) {
	l := newLab(t)
	a := l.drv("a", "echo making a; echo a > $out")
	b := l.drv("b", "read x < "+string(l.out(a, "out"))+"; echo $x b > $out", l.needs(a))
	c := l.drv("c", "read x < "+string(l.out(b, "out"))+"; echo $x c > $out", l.needs(b))
	results := l.realise(c, a)
	l.wantStatuses(results, Built, Built)
	if results[0].Path != c || results[1].Path != a || results[0].Outputs["out"] != l.out(c, "out") {
		t.Errorf("results are not those of the targets, in order: %+v", results)
	}
	if r := results[0]; r.Started.IsZero() || r.Stopped.Before(r.Started) {
		t.Errorf("built from %v to %v", r.Started, r.Stopped)
	}
	if got := l.read(l.out(c, "out")); got != "a b c\n" {
		t.Errorf("c is %q", got)
	}
	if got := l.log(a); got != "making a\n" {
		t.Errorf("the log of a is %q", got)
	}
	info, err := l.store.Info(l.out(c, "out"))
	if err != nil || info.Deriver != c || !info.Ultimate {
		t.Errorf("registered as %+v, %v", info, err)
	}
	l.wantClean()

	again := l.realise(a, c, a)
	l.wantStatuses(again, AlreadyValid, AlreadyValid, AlreadyValid)
	if !again[1].Started.IsZero() {
		t.Error("what was valid was built")
	}
	l.wantClean()
}

// TestEngineReports wants the events that programs rely on, in the order in
// which Nix has them.
func TestEngineReports(t *testing.T) {
	l := newLab(t)
	l.sink.level = activity.Info
	l.opt.MaxJobs = 1
	good := l.drv("good", `echo '@nix {"action":"setPhase","phase":"installPhase"}'; echo > $out`)
	bad := l.drv("bad", "echo no; exit 3", l.needs(good))
	top := l.drv("top", "echo > $out", l.needs(bad))
	l.fails(top)
	want := strings.Join([]string{
		"start 102 ", "start 104 ", "start 103 ",
		"result 105 of 104 [0 3 0 0]", "result 105 of 103 [0 0 0 0]",
		"start 105 building '" + string(good) + "'",
		"result 105 of 104 [0 3 1 0]", "result 105 of 103 [0 0 0 0]",
		"result 104 of 105 [installPhase]",
		"result 105 of 104 [1 3 0 0]", "result 105 of 103 [0 0 0 0]", "stop 105",
		"start 105 building '" + string(bad) + "'",
		"result 105 of 104 [1 3 1 0]", "result 105 of 103 [0 0 0 0]",
		"result 101 of 105 [no]",
		"failure builder for '" + string(bad) + "' failed with exit code 3",
		"result 105 of 104 [1 2 0 1]", "result 105 of 103 [0 0 0 0]", "stop 105",
		"result 105 of 104 [1 1 0 1]", "result 105 of 103 [0 0 0 0]",
		"stop 103", "stop 104", "stop 102",
	}, "\n")
	if got := l.sink.String(); got != want {
		t.Errorf("events:\n%s\nwant:\n%s", got, want)
	}
}

// TestEngineReportsAFailureOnce has a target fail that another target needs.
func TestEngineReportsAFailureOnce(t *testing.T) {
	for _, keepGoing := range []bool{false, true} {
		l := newLab(t)
		l.opt.KeepGoing = keepGoing
		bad := l.drv("bad", "exit 1")
		top := l.drv("top", "echo > $out", l.needs(bad))
		_, failure := l.fails(bad, top)
		want, errs := "build of '"+string(bad)+"' failed", 1
		if keepGoing {
			want, errs = "build of '"+string(bad)+"', '"+string(top)+"' failed", 2
			if bad > top {
				want = "build of '" + string(top) + "', '" + string(bad) + "' failed"
			}
		}
		if failure.Error() != want || failure.ExitCode != 100 {
			t.Errorf("keep-going %v: failed with %d: %v, want %s", keepGoing, failure.ExitCode, failure, want)
		}
		if len(l.sink.failures) != errs {
			t.Errorf("keep-going %v: reported %v", keepGoing, l.sink.failures)
		}
		l.wantClean()
	}
}

func TestEngineKeepsGoing(t *testing.T) {
	l := newLab(t)
	l.opt.KeepGoing = true
	bad := l.drv("bad", "exit 1")
	worse := l.drv("worse", "exit 2")
	good := l.drv("good", "echo > $out")
	top := l.drv("top", "echo > $out", l.needs(bad, worse, good))
	results, failure := l.fails(top, good)
	l.wantStatuses(results, DependencyFailed, Built)
	if want := "2 dependencies of derivation '" + string(top) + "' failed to build"; failure.Error() != want {
		t.Errorf("failed with %q, want %q", failure, want)
	}
	if failure.ExitCode != 100 {
		t.Errorf("exit code %d", failure.ExitCode)
	}
	l.wantClean()
}

// TestEngineStopsAtAFailure abandons a builder that runs for ever.
func TestEngineStopsAtAFailure(t *testing.T) {
	l := newLab(t)
	slow := l.drv("slow", "echo > $out; sleep 1000 & sleep 1000")
	bad := l.drv("bad", "while ! [ -e "+string(l.out(slow, "out"))+" ]; do :; done; exit 1")
	results, _ := l.fails(slow, bad)
	l.wantStatuses(results, MiscFailure, PermanentFailure)
	if want := "building of '" + string(slow) + "' was not finished"; results[0].Err.Error() != want {
		t.Errorf("the abandoned build: %v, want %s", results[0].Err, want)
	}
	if l.valid(l.out(slow, "out")) {
		t.Error("an abandoned build's output is valid")
	}
	l.wantNoLocks()
	l.wantClean()
}

// wantNoLocks tries all locks in the store.
func (l *lab) wantNoLocks() {
	l.Helper()
	files, _ := filepath.Glob(l.store.RealDir() + "/*.lock")
	for _, name := range files {
		f, ok, err := pathlock.LockFile(name, pathlock.Exclusive, pathlock.Try)
		if err != nil || !ok {
			l.Errorf("'%s' is still locked: %v", name, err)
			continue
		}
		f.Close()
	}
}

const (
	helloHash = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03" // SHA-256 of "hello\n"
	helloSRI  = "sha256-WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM="
)

// TestEngineBuildsOneOutputOnce has two derivations make the same fixed output.
func TestEngineBuildsOneOutputOnce(t *testing.T) {
	l := newLab(t)
	l.sink.level = activity.Debug
	made := func(how string) storepath.Path {
		return l.drv("hello", "echo "+how+"; echo hello > $out", fixed("sha256", helloHash))
	}
	a, b, c := made("one way"), made("another way"), made("a third way")
	if a == b || l.out(a, "out") != l.out(b, "out") {
		t.Fatalf("'%s' and '%s' are not two ways to one path", a, b)
	}
	l.opt.MaxJobs = 3
	results := l.realise(a, b, c)
	statuses := []Status{results[0].Status, results[1].Status, results[2].Status}
	slices.Sort(statuses)
	if !slices.Equal(statuses, []Status{Built, AlreadyValid, AlreadyValid}) {
		t.Errorf("statuses %v", statuses)
	}
	if waited := strings.Count(l.sink.String(), "is locked by another goal"); waited < 2 {
		t.Errorf("%d goals waited for another\n%s", waited, l.sink)
	}
	if built := strings.Count(l.sink.String(), "start 105"); built != 1 {
		t.Errorf("built %d times", built)
	}
	l.wantClean()
}

// elsewhere makes a path valid as another process would.
func elsewhere(s *store.Store, p, deriver storepath.Path, contents string) error {
	name := s.RealPath(p)
	if err := os.WriteFile(name, []byte(contents), 0o444); err != nil {
		return err
	}
	if err := os.Chtimes(name, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		return err
	}
	found, err := finalise.HashAndScan(name, nil)
	if err != nil {
		return err
	}
	return s.Register([]store.Info{{Path: p, NarHash: found.NarHash, NarSize: uint64(found.NarSize), Deriver: deriver, Ultimate: true}})
}

// TestEngineWaitsForALock has somebody else hold the lock on an output, who
// then gives up or has made it.
func TestEngineWaitsForALock(t *testing.T) {
	for _, made := range []bool{false, true} {
		l := newLab(t)
		d := l.drv("x", "echo built here > $out")
		out := l.out(d, "out")
		lock, ok, err := pathlock.Acquire([]string{l.store.RealPath(out)}, pathlock.Try)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		other, asked := l.open(), 0
		l.opt.Interrupted = func() error {
			if asked++; asked != 8 {
				return nil
			}
			if !l.sink.has("start 111 waiting for lock on '" + string(out) + "'") {
				t.Errorf("nothing is said of the wait:\n%s", l.sink)
			}
			if made {
				if err := elsewhere(other, out, d, "built elsewhere\n"); err != nil {
					t.Error(err)
				}
			}
			lock.Release(pathlock.Disposal(made))
			return nil
		}
		results := l.realise(d)
		want, text := Built, "built here\n"
		if made {
			want, text = AlreadyValid, "built elsewhere\n"
		}
		l.wantStatuses(results, want)
		if got := l.read(out); got != text {
			t.Errorf("the output is %q, want %q", got, text)
		}
		if n := strings.Count(l.sink.String(), "start 111"); n != 1 {
			t.Errorf("the wait was announced %d times", n)
		}
		l.wantClean()
		l.wantNoLocks()
	}
}

// TestEngineWaitsForASlotAgain has the only slot taken while a goal waits for a
// lock, which it waited for with the slot in hand.
func TestEngineWaitsForASlotAgain(t *testing.T) {
	l := newLab(t)
	l.opt.MaxJobs = 1
	marks := l.dir + "/marks" // for builders of any user
	must(t, errors.Join(os.Mkdir(marks, 0o777), os.Chmod(marks, 0o777)))
	running := marks + "/running"
	first := l.drv("a", "test ! -e "+running+" && echo > $out")
	second := l.drv("b", "echo > "+running+" || exit 1; sleep 0.3; rm "+running+"; echo > $out")
	lock, ok, err := pathlock.Acquire([]string{l.store.RealPath(l.out(first, "out"))}, pathlock.Try)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	l.opt.Interrupted = func() error {
		_, isRunning := os.Lstat(running)
		_, hasRun := os.Lstat(l.store.RealPath(l.out(second, "out")))
		if lock != nil && (isRunning == nil || hasRun == nil) {
			lock.Release(pathlock.Delete)
			lock = nil
		}
		return nil
	}
	l.wantStatuses(l.realise(first, second), Built, Built)
}

// TestEngineFailsWaitingForALock ends a wait by an error.
func TestEngineFailsWaitingForALock(t *testing.T) {
	l := newLab(t)
	d := l.drv("x", "echo > $out")
	name := l.store.RealPath(l.out(d, "out")) + pathlock.Suffix
	lock, ok, err := pathlock.LockFile(name, pathlock.Exclusive, pathlock.Try)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	asked := 0
	l.opt.Interrupted = func() error {
		if asked++; asked == 5 { // what is no file cannot be locked
			lock.Remove()
			if err := os.Symlink("nowhere", name); err != nil {
				t.Error(err)
			}
		}
		return nil
	}
	results, _ := l.fails(d)
	l.wantStatuses(results, MiscFailure)
	os.Remove(name)
	l.wantClean()
}

// TestEngineRewrites rebuilds one of two outputs without a sandbox: the other
// one, which is valid, must not be touched.
func TestEngineRewrites(t *testing.T) {
	l := newLab(t)
	d := l.drv("two", `
echo "$dev" > "$dev"
{ echo "$dev"; [ "$(cat "$textPath")" = "$dev and $out" ] && echo told; [ "$1" = "$dev" ] && echo told; } > "$out"
echo "$dev"`,
		outputs("dev", "out"),
		env("passAsFile", "text", "text", storepath.Placeholder("dev")+" and "+storepath.Placeholder("out")),
		func(d *drv.Derivation) { d.Args = append(d.Args, "sh", storepath.Placeholder("dev")) })
	out, dev := l.out(d, "out"), l.out(d, "dev")
	l.realise(d)
	if got, want := l.read(out), string(dev)+"\ntold\ntold\n"; got != want {
		t.Errorf("first made %q, want %q", got, want)
	}
	var before, after unix.Stat_t
	if err := unix.Lstat(l.store.RealPath(dev), &before); err != nil {
		t.Fatal(err)
	}
	if err := l.store.Invalidate(out); err != nil {
		t.Fatal(err)
	}
	l.wantStatuses(l.realise(d), Built)
	if err := unix.Lstat(l.store.RealPath(dev), &after); err != nil || before.Ino != after.Ino || before.Ctim != after.Ctim {
		t.Errorf("the valid output was touched: %+v, then %+v, %v", before, after, err)
	}
	if got, want := l.read(out), string(dev)+"\ntold\ntold\n"; got != want {
		t.Errorf("then made %q, want %q", got, want)
	}
	scratch, err := l.store.Dir().Scratch(d, dev)
	if err != nil {
		t.Fatal(err)
	}
	if got := l.log(d); got != string(scratch)+"\n" {
		t.Errorf("the builder was told %q, want %q", got, scratch)
	}
	refs, err := l.store.References(out)
	if err != nil || !slices.Equal(refs, []storepath.Path{dev}) {
		t.Errorf("references %v, %v", refs, err)
	}
	if !l.sink.has("message 1 rewriting hashes in '" + string(out) + "'; cross fingers") {
		t.Errorf("no warning:\n%s", l.sink)
	}
	l.wantClean()
}

// TestEngineGivesPlaceholders wants the outputs' paths in place of what stands
// for them.
func TestEngineGivesPlaceholders(t *testing.T) {
	l := newLab(t)
	o, d := storepath.Placeholder("out"), storepath.Placeholder("dev")
	p := l.drv("plain", "echo > "+d+"; echo $var > "+o, outputs("dev", "out"), env("var", "a"+d+"b"))
	s := l.drv("structured", "cat .attrs.json .attrs.sh > "+o, func(x *drv.Derivation) { x.Env = nil }, env("__json", `{"list":["`+o+`"]}`))
	l.realise(p, s)
	if got, want := l.read(l.out(p, "out")), "a"+string(l.out(p, "dev"))+"b\n"; got != want {
		t.Errorf("plain: %q, want %q", got, want)
	}
	path := string(l.out(s, "out"))
	want := `{"list":["` + path + `"],"outputs":{"out":"` + path + `"}}declare -a list=('` + path + "' )\ndeclare -A outputs=(['out']='" + path + "' )\n"
	if got := l.read(l.out(s, "out")); got != want {
		t.Errorf("structured: %q, want %q", got, want)
	}
}

// TestEngineWidensWantedOutputs wants two outputs of one derivation, by two
// targets.
func TestEngineWidensWantedOutputs(t *testing.T) {
	l := newLab(t)
	d := l.drv("two", "echo > $out; echo > $dev; echo > $doc", outputs("dev", "doc", "out"))
	results, err := l.engine().Realise([]Target{{Path: d, Outputs: []string{"dev"}}, {Path: d, Outputs: []string{"out"}}})
	if err != nil {
		t.Fatal(err)
	}
	l.wantStatuses(results, Built, Built)
	for i, id := range []string{"dev", "out"} {
		if outs := results[i].Outputs; len(outs) != 1 || outs[id] != l.out(d, id) {
			t.Errorf("result %d has the outputs %v, want '%s'", i, outs, id)
		}
	}
	if n := strings.Count(l.sink.String(), "start 105"); n != 1 {
		t.Errorf("built %d times", n)
	}
	if err := l.store.Invalidate(l.out(d, "dev")); err != nil {
		t.Fatal(err)
	}
	results, err = l.engine().Realise([]Target{{Path: d, Outputs: []string{"out"}}})
	if err != nil {
		t.Fatal(err)
	}
	l.wantStatuses(results, AlreadyValid)
	e := l.engine()
	results, err = e.Realise([]Target{{Path: d, Outputs: []string{"out"}}, {Path: d}})
	if err != nil {
		t.Fatal(err)
	}
	l.wantStatuses(results, Built, Built)
	if len(results[0].Outputs) != 1 || len(results[1].Outputs) != 3 {
		t.Errorf("outputs %v and %v", results[0].Outputs, results[1].Outputs)
	}
	l.wantClean()
}

// TestEngineStatuses ends builds in every way.
func TestEngineStatuses(t *testing.T) {
	for name, tc := range map[string]struct {
		script string
		edits  []func(*drv.Derivation)
		opt    func(*Options)
		want   Status
		code   int
		err    string // with D and O for the derivation and its output
	}{
		"exit code":  {script: "exit 7", want: PermanentFailure, code: 100, err: "builder for 'D' failed with exit code 7"},
		"a signal":   {script: "kill -9 $$", want: PermanentFailure, code: 100, err: "builder for 'D' failed due to signal 9 (Killed)"},
		"no builder": {edits: []func(*drv.Derivation){func(d *drv.Derivation) { d.Builder = "/nonexistent" }}, want: PermanentFailure, code: 100, err: "builder for 'D' failed with exit code 1"},
		"no output":  {script: ":", want: OutputRejected, code: 1, err: "builder for 'D' failed to produce output path for output 'out' at 'O'"},
		"open output": {
			script: "echo > $out; chmod 666 $out", want: OutputRejected, code: 1,
			err: "suspicious ownership or permission on 'O' for output 'out'; rejecting this build output",
		},
		"fixed, but fails": {script: "exit 1", edits: []func(*drv.Derivation){fixed("sha256", helloHash)}, want: TransientFailure, code: 1, err: "builder for 'D' failed with exit code 1"},
		"another hash": {
			script: "echo hallo > $out", edits: []func(*drv.Derivation){fixed("sha256", helloHash)}, want: OutputRejected, code: 102,
			err: "hash mismatch in fixed-output derivation 'D':\n  specified: " + helloSRI + "\n     got:    sha256-YiyzNxwaCAluqsVk+1mszNofzb4Tqd0QtIbmRjyMJSU=",
		},
		"a disallowed reference": {
			script: "echo $out > $out", edits: []func(*drv.Derivation){env("disallowedReferences", "out")}, want: OutputRejected, code: 1,
			err: "output 'O' is not allowed to refer to the following paths:\n  O",
		},
		"too quiet": {
			script: "sleep 1000", opt: func(o *Options) { o.Silence = 1 }, want: TimedOut, code: 101,
			err: "building of 'D^*' from .drv file timed out after 0 seconds of silence",
		},
		"too slow": {
			script: "while :; do echo; done", opt: func(o *Options) { o.Timeout = 1 }, want: TimedOut, code: 101,
			err: "building of 'D^*' from .drv file timed out after 0 seconds",
		},
		"too loud": {
			script: "while :; do echo; done", opt: func(o *Options) { o.MaxLogSize = 100 }, want: LogLimitExceeded, code: 1,
			err: "building of 'D^*' from .drv file killed after writing more than 100 bytes of log output",
		},
		"bad attribute": {
			edits: []func(*drv.Derivation){env("exportReferencesGraph", "one")}, want: InputRejected, code: 100,
			err: "odd number of tokens in 'exportReferencesGraph': 'one'",
		},
		"unknown builtin": {
			edits: []func(*drv.Derivation){func(d *drv.Derivation) { d.Builder = "builtin:nothing" }}, want: PermanentFailure, code: 100,
			err: "builder for 'D' failed with exit code 1",
		},
		"another system": {
			edits: []func(*drv.Derivation){func(d *drv.Derivation) { d.Platform = "elsewhere" }}, want: MiscFailure, code: 1,
			err: "a 'elsewhere' with features {} is required to build 'D', but I am a 'test-system' with features {}",
		},
		"a feature": {
			edits: []func(*drv.Derivation){env("requiredSystemFeatures", "b a")}, opt: func(o *Options) { o.Features = []string{"c"} },
			want: MiscFailure, code: 1,
			err: "a 'test-system' with features {a, b} is required to build 'D', but I am a 'test-system' with features {c}",
		},
		"read-only": {
			script: "echo > $out", opt: func(o *Options) { o.ReadOnly = true }, want: MiscFailure, code: 1,
			err: "cannot build derivation 'D' - no write access to the Nix store",
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.opt.BuildTrace = true
			if tc.opt != nil {
				tc.opt(&l.opt)
			}
			d := l.drv("x", tc.script, tc.edits...)
			results, failure := l.fails(d)
			l.wantStatuses(results, tc.want)
			want := strings.ReplaceAll(strings.ReplaceAll(tc.err, "'D", "'"+string(d)), "  O", "  "+string(l.out(d, "out")))
			want = strings.ReplaceAll(want, "'O'", "'"+string(l.out(d, "out"))+"'")
			if failure.Error() != want || failure.ExitCode != tc.code {
				t.Errorf("failed with %d: %q, want %d: %q", failure.ExitCode, failure, tc.code, want)
			}
			started, failed := strings.Count(l.sink.String(), "@ build-started"), strings.Count(l.sink.String(), "@ build-failed")
			if refused := "@ build-failed " + string(d) + " " + string(l.out(d, "out")) + " 0 "; tc.want == InputRejected && !strings.Contains(l.sink.String(), refused) {
				t.Errorf("the build trace lacks %q:\n%s", refused, l.sink)
			}
			if failed > 1 || started > failed {
				t.Errorf("the build trace says that %d builds started and %d failed:\n%s", started, failed, l.sink)
			}
			l.wantNoLocks()
			l.wantClean()
		})
	}
}

// TestEngineMissing wants what is not there and cannot be had.
func TestEngineMissing(t *testing.T) {
	l := newLab(t)
	gone, err := l.store.Dir().FromBase("00000000000000000000000000000000-gone.drv")
	if err != nil {
		t.Fatal(err)
	}
	source, err := l.store.AddText("source", []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	d := l.drv("x", "echo > $out", func(d *drv.Derivation) { d.InputSrcs = []storepath.Path{source} })
	results, failure := l.fails(gone)
	l.wantStatuses(results, MiscFailure)
	if want := "cannot build missing derivation '" + string(gone) + "'"; failure.Error() != want {
		t.Errorf("got %q, want %q", failure, want)
	}
	results, failure = l.fails(l.out(d, "out"))
	l.wantStatuses(results, NoSubstituters)
	if want := "path '" + string(l.out(d, "out")) + "' is required, but there is no substituter that can build it"; failure.Error() != want {
		t.Errorf("got %q, want %q", failure, want)
	}
	results, err = l.engine().Realise(nil)
	if len(results) != 0 || err != nil {
		t.Errorf("nothing to realise: %v, %v", results, err)
	}
	l.opt.MaxJobs = 0
	l.realise(source)
	ok := l.drv("z", "echo > $out")
	if _, err := l.engine().Realise(targets(ok)); !errors.Is(err, worker.ErrNoJobs) {
		t.Errorf("without jobs: %v", err)
	}
	l.wantClean()
}

// TestEngineKeepsMismatch wants what a fixed output should not have been at
// the path that it deserves.
func TestEngineKeepsMismatch(t *testing.T) {
	l := newLab(t)
	wrong := l.drv("x", "echo hello > $out", fixed("sha256", strings.Repeat("0", 64)))
	right := l.drv("x", "echo hello > $out", fixed("sha256", helloHash))
	l.fails(wrong)
	if l.valid(l.out(wrong, "out")) {
		t.Error("the wrong contents are valid")
	}
	info, err := l.store.Info(l.out(right, "out"))
	if err != nil || info.CA.Digest != digest.Of(digest.SHA256, []byte("hello\n")) || info.Deriver != wrong {
		t.Errorf("kept as %+v, %v", info, err)
	}
	l.wantStatuses(l.realise(right), AlreadyValid)
	l.wantClean()
	l.wantNoLocks()
}

// TestEngineKeepsFailed wants the directory of a failed build to stay, and
// that only.
func TestEngineKeepsFailed(t *testing.T) {
	l := newLab(t)
	l.opt.KeepFailed = true
	good := l.drv("good", "echo > $out")
	bad := l.drv("bad", "echo here > trace; echo > $out; exit 1", l.needs(good))
	l.fails(bad)
	kept, _ := filepath.Glob(l.cfg.StateDir + "/builds/*/build/trace")
	if len(kept) != 1 {
		t.Fatalf("kept %v", kept)
	}
	dir := filepath.Dir(kept[0])
	if !l.sink.has("message 0 note: keeping build directory '" + dir + "'") {
		t.Errorf("nothing is said of '%s':\n%s", dir, l.sink)
	}
	if all, _ := filepath.Glob(l.cfg.StateDir + "/builds/*"); len(all) != 1 {
		t.Errorf("kept more: %v", all)
	}
}
