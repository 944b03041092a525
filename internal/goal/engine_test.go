package goal

import (
	"compress/bzip2"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gobuild/internal/activity"
	"gobuild/internal/store/drv"
	"gobuild/internal/store/storepath"
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
