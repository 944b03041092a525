package goal

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"gobuild/internal/activity"
	"gobuild/internal/hook"
	"gobuild/internal/store/drv"
	"gobuild/internal/store/storepath"
	"gobuild/internal/worker"
)

// TestHookDeclines builds here, and asks one process about everything.
func TestHookDeclines(t *testing.T) {
	l := newLab(t)
	l.fakeHook("decline")
	l.opt.MaxJobs = 1
	a := l.drv("a", "echo a > $out", env("requiredSystemFeatures", ""))
	b := l.drv("b", "echo b > $out", l.needs(a))
	l.realise(b)
	if got, want := l.noted("requests"), fmt.Sprintf("1 test-system %s []\n1 test-system %s []\n", a, b); got != want {
		t.Errorf("requests\n%s, want\n%s", got, want)
	}
	if got := l.noted("processes"); countLines(got) != 1 {
		t.Errorf("hooks: %s", got)
	}
	if got := l.noted("settings"); got != "cores=2\nsystem=test-system\n" {
		t.Errorf("settings: %s", got)
	}
	l.wantEvents("message 3 thinking", "start 105 building '"+string(a)+"'", "message 3 thinking")
	l.wantNoProcess(t)
	l.wantClean()
}

// TestHookAccepts has all built elsewhere, in no slot.
func TestHookAccepts(t *testing.T) {
	l := newLab(t)
	l.fakeHook("accept valid")
	l.opt.MaxJobs, l.opt.BuildTrace = 0, true
	l.sink.level = activity.Talkative
	a := l.drv("a", "", outputs("dev", "out"))
	b := l.drv("b", "", l.needs(a), env("requiredSystemFeatures", "x y"))
	results := l.realise(b)
	if results[0].Status != Built || l.read(l.out(b, "out")) != "made elsewhere\n" {
		t.Errorf("%+v", results[0])
	}
	if got, want := l.noted("requests"), fmt.Sprintf("0 test-system %s []\n0 test-system %s [x y]\n", a, b); got != want {
		t.Errorf("requests\n%s, want\n%s", got, want)
	}
	want := fmt.Sprintf("[] [dev out]\n[%s %s] [out]\n", min(l.out(a, "dev"), l.out(a, "out")), max(l.out(a, "dev"), l.out(a, "out")))
	if got := l.noted("jobs"); got != want {
		t.Errorf("jobs\n%s, want\n%s", got, want)
	}
	out := l.out(a, "out")
	l.wantEvents("message 4 using hook to build path(s) '", "start 105 building '"+string(a)+"' on 'ssh://machine'",
		fmt.Sprintf("message 0 @ build-started %s %s test-system %s", a, out, LogFile(l.opt.LogDir, a, true)),
		"result 101 of 105 [said by the builder]", fmt.Sprintf("message 0 @ build-succeeded %s %s", a, out), "stop 105")
	if got := l.log(a); got != "said by the builder\n" {
		t.Errorf("log %q", got)
	}
	l.wantNoProcess(t)
	l.wantClean()
}

// TestHookPostpones asks again after a while, and when a hook's build has ended.
func TestHookPostpones(t *testing.T) {
	l := newLab(t)
	l.fakeHook("postpone", "postpone", "accept valid")
	l.opt.MaxJobs = 0
	a := l.drv("a", "")
	l.realise(a)
	if got := l.noted("requests"); countLines(got) != 3 {
		t.Errorf("requests\n%s", got)
	}
	l.wantEvents("start 111 waiting for a machine to build '"+string(a)+"'", "stop 111", "start 105 ")
	if n := strings.Count(l.sink.String(), "start 111"); n != 1 {
		t.Errorf("it was said %d times that there is no machine", n)
	}
	l.wantClean()
}

// TestHookDeclinesForGood asks nothing more after that.
func TestHookDeclinesForGood(t *testing.T) {
	l := newLab(t)
	l.fakeHook("decline-permanently")
	a := l.drv("a", "echo > $out")
	b := l.drv("b", "echo > $out")
	c := l.drv("c", "echo > $out", l.needs(a, b))
	l.realise(c)
	if got := l.noted("requests"); countLines(got) != 1 {
		t.Errorf("requests\n%s", got)
	}
	l.wantClean()
}

// TestHookFails looks at every way in which a hook can fail once it has
// accepted.
func TestHookFails(t *testing.T) {
	for action, want := range map[string]struct {
		status Status
		exit   int
		err    string // with D for the derivation
		trace  string
	}{
		"exit 1":   {MiscFailure, 1, "builder for 'D' failed with exit code 1", "hook-failed D O 256 "},
		"exit 100": {PermanentFailure, 100, "builder for 'D' failed with exit code 100", "build-failed D O 1 "},
		"exit 101": {TimedOut, 101, "builder for 'D' failed with exit code 101", "build-failed D O 1 "},
		"kill":     {MiscFailure, 1, "builder for 'D' failed due to signal 9 (Killed)", "hook-failed D O 9 "},
		"missing":  {MiscFailure, 1, "the build hook of 'D' succeeded, but the outputs 'O' are not valid", "hook-failed D O 0 "},
		"json":     {MiscFailure, 1, "builder for 'D' failed with exit code 1", "hook-failed D O 256 "},
		"loud":     {LogLimitExceeded, 1, "building of 'D^*' from .drv file killed after writing more than 100000 bytes of log output", "build-failed D O 1 "},
	} {
		t.Run(action, func(t *testing.T) {
			l := newLab(t)
			l.fakeHook("accept " + action)
			l.opt.BuildTrace, l.opt.MaxLogSize, l.opt.CacheFailure = true, 100_000, true
			d := l.drv("a", "")
			named := strings.NewReplacer("D", string(d), "O", string(l.out(d, "out")))
			results, f := l.fails(d)
			if results[0].Status != want.status || f.ExitCode != want.exit {
				t.Errorf("status %s, exit code %d", results[0].Status, f.ExitCode)
			}
			if got := f.Error(); got != named.Replace(want.err) {
				t.Errorf("error: %s", got)
			}
			l.wantEvents("message 0 @ " + named.Replace(want.trace))
			// Only what the builder did is: not what went wrong with the hook.
			failed, err := l.store.FailureOf(l.out(d, "out"))
			if onRecord := failed != nil; onRecord != (want.status == PermanentFailure) || err != nil {
				t.Errorf("it is on record: %v, %v", failed, err)
			}
			if l.valid(l.out(d, "out")) {
				t.Error("the output is valid")
			}
			l.wantNoProcess(t)
			l.wantClean()
		})
	}
}

// TestHookLost asks again about a build that was lost with its machine, but not
// for ever.
func TestHookLost(t *testing.T) {
	l := newLab(t)
	l.opt.MaxJobs = 0
	l.fakeHook("accept exit 75", "accept valid")
	a := l.drv("a", "")
	l.realise(a)
	l.wantEvents("start 105 ", "message 1 the machine that built '"+string(a)+"' was lost", "stop 105", "start 105 ",
		"result 105 of 104 [1 1 0 0]", "stop 105")
	l.wantClean()

	l.fakeHook("accept exit 75")
	b := l.drv("b", "")
	results, f := l.fails(b)
	if results[0].Status != MiscFailure || f.Error() != fmt.Sprintf("builder for '%s' failed with exit code 75", b) {
		t.Errorf("%+v, %v", results[0], f)
	}
	if got := countLines(l.noted("requests")); got != 2+1+maxLost {
		t.Errorf("asked %d times", got)
	}
	l.wantClean()
}

// TestHookJSON keeps what is reported of a builder elsewhere in its log, and
// does not count twice what is done there.
func TestHookJSON(t *testing.T) {
	l := newLab(t)
	l.fakeHook("accept json")
	d := l.drv("a", "")
	results, _ := l.fails(d)
	want := "said by the builder\n@nix {\"action\":\"setPhase\",\"phase\":\"phase one\"}\nline of JSON\n"
	if got := l.log(d); !sameLines(got, want) {
		t.Errorf("log\n%s, want\n%s", got, want)
	}
	tail := results[0].Err.(*BuildError).Tail
	if got := strings.Join(tail, "|"); got != "said by the builder|line of JSON" && got != "line of JSON|said by the builder" {
		t.Errorf("tail %q", tail)
	}
	l.wantEvents("start 105 building '", "start 105 building elsewhere", "result 104 of 105 [phase one]",
		"result 101 of 105 [line of JSON]", "message 0 not JSON", "stop 105")
	if n := strings.Count(l.sink.String(), "start 104"); n != 1 {
		t.Errorf("%d activities count builds", n)
	}
	l.wantClean()
}

// sameLines compares what came by two ways, whose order is nobody's business.
func sameLines(a, b string) bool {
	count := map[string]int{}
	for line := range strings.Lines(a) {
		count[line]++
	}
	for line := range strings.Lines(b) {
		count[line]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}

// TestHookDies builds here what a hook cannot even answer for.
func TestHookDies(t *testing.T) {
	l := newLab(t)
	l.fakeHook("die", "half", "die")
	l.opt.MaxJobs = 1
	var all []storepath.Path
	for i := range 6 {
		all = append(all, l.drv(fmt.Sprint(i), "echo > $out"))
	}
	l.realise(all...)
	if got := l.noted("requests"); countLines(got) != maxHookDeaths {
		t.Errorf("requests\n%s", got)
	}
	l.wantEvents("message 0 last words", "message 0 error: build hook died unexpectedly: failed with exit code 7",
		"message 0 error: not asking the build hook")
	l.wantClean()
}

func TestHookCannotBeStarted(t *testing.T) {
	l := newLab(t)
	l.opt.BuildHook = hook.NewBinary("/nonexistent/hook", nil, 3, nil, nil)
	a := l.drv("a", "echo > $out")
	l.realise(a)
	l.wantEvents("message 0 error: starting the build hook '/nonexistent/hook': ")
	l.wantClean()
}

// TestHookBadReply fails one goal, and trusts the process no more.
func TestHookBadReply(t *testing.T) {
	l := newLab(t)
	l.fakeHook("maybe", "decline")
	l.opt.KeepGoing, l.opt.MaxJobs = true, 1
	a, b := l.drv("a", "echo > $out"), l.drv("b", "echo > $out")
	_, f := l.fails(a, b)
	if got, want := f.Error(), fmt.Sprintf("asking the build hook about '%s': bad hook reply 'maybe'", a); got != want {
		t.Errorf("error: %s", got)
	}
	if !l.valid(l.out(b, "out")) || countLines(l.noted("processes")) != 2 {
		t.Errorf("the other was not built, or by the same hook: %s", l.noted("requests"))
	}
	l.wantNoProcess(t)
	l.wantClean()
}

// TestHookNotAsked is about builds for which this machine is the place.
func TestHookNotAsked(t *testing.T) {
	l := newLab(t)
	there := l.drv("there", "echo > $out")
	l.realise(there)
	l.fakeHook("accept exit 1")
	l.realise(l.drv("local", "echo > $out", env("preferLocalBuild", "1")))
	for _, mode := range []BuildMode{Check, Repair} {
		if mode == Repair {
			l.remove(l.out(there, "out"))
		}
		if results, err := l.in(mode, there); err != nil || results[0].Status != Built {
			t.Errorf("in mode %v: %v, %v", mode, results, err)
		}
	}
	if got := l.noted("requests"); got != "" {
		t.Errorf("requests\n%s", got)
	}
	// Without a slot of our own it is asked about that, too.
	l.opt.MaxJobs = 0
	l.fails(l.drv("other", "", env("preferLocalBuild", "1")))
	// And about what prefers a machine that this one is not.
	l.opt.MaxJobs = 1
	l.fails(l.drv("foreign", "", env("preferLocalBuild", "1"), func(d *drv.Derivation) { d.Platform = "other-system" }))
	if got := l.noted("requests"); countLines(got) != 2 {
		t.Errorf("requests\n%s", got)
	}
	l.wantClean()
}

// TestHookForeign wants a clear error when nobody can build something.
func TestHookForeign(t *testing.T) {
	l := newLab(t)
	l.fakeHook("decline")
	d := l.drv("a", "", func(d *drv.Derivation) { d.Platform = "other-system" })
	_, f := l.fails(d)
	want := fmt.Sprintf("a 'other-system' with features {} is required to build '%s', but I am a 'test-system' with features {}", d)
	if f.Error() != want {
		t.Errorf("error: %v", f)
	}
	l.wantClean()
}

// TestNoPlace is the end of a run in which neither the hook nor this machine
// builds.
func TestNoPlace(t *testing.T) {
	l := newLab(t)
	l.fakeHook("decline")
	l.opt.MaxJobs = 0
	_, err := l.engine().Realise(targets(l.drv("a", "")))
	if err == nil || err.Error() != "unable to start any build; remote machines may not have all required system features" {
		t.Errorf("got %v", err)
	}
	l.wantNoProcess(t)
	l.wantClean()
}

// TestHookSparesQuestions has many builds that can only be made here, one at a
// time, while the hook has no room: it is asked as often as something is built,
// and a few times more, not as often as somebody waits.
func TestHookSparesQuestions(t *testing.T) {
	l := newLab(t)
	l.fakeHook("willing decline postpone")
	l.opt.MaxJobs, l.opt.PollInterval = 1, time.Hour
	l.opt.KeepLog = false
	const n = 60
	var all []storepath.Path
	for i := range n {
		all = append(all, l.drv(fmt.Sprint(i), "echo > $out"))
	}
	l.realise(all...)
	requests := l.noted("requests")
	willing := strings.Count(requests, "1 test-system")
	if others := countLines(requests) - willing; willing != n || others > maxTries {
		t.Errorf("asked %d times with a slot and %d times without", willing, others)
	}
	asked := map[string]bool{}
	for line := range strings.Lines(requests) {
		if asked[line] {
			t.Errorf("asked again: %s", line)
		}
		asked[line] = true
	}
	if got := l.noted("processes"); countLines(got) != 1 {
		t.Errorf("hooks: %s", got)
	}
	l.wantClean()
}

// TestHookParallel starts as many hooks as builds are accepted, however many
// slots there are here.
func TestHookParallel(t *testing.T) {
	l := newLab(t)
	l.fakeHook("accept valid")
	l.opt.MaxJobs = 0
	var all []storepath.Path
	for i := range 12 {
		all = append(all, l.drv(fmt.Sprint(i), ""))
	}
	l.realise(all...)
	if got := l.noted("requests"); countLines(got) != len(all) {
		t.Errorf("requests\n%s", got)
	}
	l.wantNoProcess(t)
	l.wantClean()
}

// TestHookLeaks counts descriptors after builds elsewhere, of which some fail.
func TestHookLeaks(t *testing.T) {
	l := newLab(t)
	l.opt.MaxJobs, l.opt.KeepGoing = 1, true
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	l.realise(l.drv("first", "echo > $out")) // opens what stays open
	l.fakeHook("accept valid", "decline", "postpone", "accept exit 1", "die", "half", "accept kill", "maybe", "accept valid")
	var all []storepath.Path
	for i := range 24 {
		all = append(all, l.drv(fmt.Sprint(i), "echo > $out"))
	}
	before := count()
	e := l.engine()
	if _, err := e.Realise(targets(all...)); err == nil {
		t.Error("nothing failed")
	}
	if e.asker.thinking != 0 || e.asker.willing != 0 || e.asker.builds != 0 || len(e.asker.idle) != 0 {
		t.Errorf("the asker counts %+v", e.asker)
	}
	if err := e.w.Dismiss(); err != nil {
		t.Error(err)
	}
	if after := count(); after > before+1 { // the second engine's epoll
		t.Errorf("%d descriptors are open, before it were %d", after, before)
	}
	l.wantNoProcess(t)
	l.wantClean()
}

// TestHookAbandoned ends hooks whose answers and builds nobody wants any more.
func TestHookAbandoned(t *testing.T) {
	for _, c := range []struct{ behaviour, sign string }{{"ponder", "pondering"}, {"accept hang", "hanging"}} {
		t.Run(c.sign, func(t *testing.T) {
			l := newLab(t)
			l.fakeHook(c.behaviour)
			l.opt.Interrupted = func() error {
				if _, err := os.Stat(l.dir + "/" + c.sign); err == nil {
					return worker.ErrInterrupted
				}
				return nil
			}
			d := l.drv("a", "")
			begin := time.Now()
			if _, err := l.engine().Realise(targets(d)); !errors.Is(err, worker.ErrInterrupted) {
				t.Errorf("got %v", err)
			}
			if time.Since(begin) > 30*time.Second {
				t.Error("it took long")
			}
			l.wantNoProcess(t)
			l.wantClean()
			// Nothing is locked any more.
			l.opt.Interrupted, l.opt.BuildHook = nil, nil
			e := l.engine()
			g := e.derivation(d, nil, Normal)
			if err := g.load(); err != nil {
				t.Fatal(err)
			}
			if wait, err := g.lockOutputs(); wait != worker.Now || err != nil {
				t.Errorf("the output is locked: %v, %v", wait, err)
			}
			g.release()
		})
	}
}
