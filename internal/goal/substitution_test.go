package goal

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"gobuild/internal/store/drv"
	"gobuild/internal/store/storepath"
	"gobuild/internal/worker"
)

func TestEnsureFetchesReferencesFirst(t *testing.T) {
	l := newLab(t)
	a, b, c := l.path("a"), l.path("b"), l.path("c")
	l.caches(fakeCache{
		string(a): {Contents: "A", References: []string{string(a), string(b), string(c)}},
		string(b): {Contents: "B", References: []string{string(c)}},
		string(c): {Contents: "C"},
	})
	results, err := l.engine().Ensure([]storepath.Path{a})
	if err != nil {
		t.Fatalf("%v\n%s", err, l.sink)
	}
	l.wantStatuses(results, Substituted)
	info, err := l.store.Info(a)
	if err != nil {
		t.Fatal(err)
	}
	want := slices.Sorted(slices.Values([]storepath.Path{a, b, c}))
	if !slices.Equal(info.References, want) || info.Ultimate || l.read(a) != "A" || l.read(c) != "C" {
		t.Errorf("registered %+v with contents %q", info, l.read(a))
	}
	for _, text := range []string{
		"start 108 ", fmt.Sprintf("start 100 copying path '%s' from 'test://0'", a),
		fmt.Sprintf("message 5 substitution of path '%s' succeeded", a), "result 105 of 103 [3 3 0 0]",
		"start 101 downloading 'test://0/nar/x'", "result 105 of 101 [10 10 0 0]", fmt.Sprintf("result 105 of 100 [1 %d 0 0]", len(fakeArchive("A"))),
	} {
		if !l.sink.has(text) {
			t.Errorf("no event %q in\n%s", text, l.sink)
		}
	}
	l.unfetched()
	l.asked()

	// again: nothing is asked
	results, err = l.engine().Ensure([]storepath.Path{a, c})
	if err != nil {
		t.Fatal(err)
	}
	l.wantStatuses(results, AlreadyValid, AlreadyValid)
	if asked := l.asked(); len(asked) > 1 || asked[0] != "" {
		t.Errorf("asked %q", asked)
	}
}

// TestMissingReferences wants the message to name what is missing, however far
// it is from the path that was asked for.
func TestMissingReferences(t *testing.T) {
	l := newLab(t)
	a, b, c, missing := l.path("a"), l.path("b"), l.path("c"), l.path("missing")
	l.caches(fakeCache{
		string(a): {Contents: "A", References: []string{string(a), string(b)}},
		string(b): {Contents: "B", References: []string{string(c)}},
		string(c): {Contents: "C", References: []string{string(missing)}},
	})
	_, err := l.engine().Ensure([]storepath.Path{a})
	if err == nil || !strings.HasSuffix(err.Error(), fmt.Sprintf("some references of path '%s' could not be realised, among them '%s'", a, missing)) {
		t.Errorf("it ended with %v", err)
	}
	l.unfetched()
}

// TestTroubleWithReferences wants to hear why this machine could not take in a
// path that another one refers to.
func TestTroubleWithReferences(t *testing.T) {
	l := newLab(t)
	a, b := l.path("a"), l.path("b")
	l.caches(fakeCache{string(a): {Contents: "A", References: []string{string(b)}}, string(b): {Contents: "B"}})
	if err := os.Mkdir(l.store.RealPath(b)+".lock", 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := l.engine().Ensure([]storepath.Path{a})
	if err == nil || !strings.HasSuffix(err.Error(), fmt.Sprintf("among them '%s'", b)) || !l.sink.has(fmt.Sprintf("failure locking '%s': ", b)) {
		t.Errorf("it ended with %v after\n%s", err, l.sink)
	}
}

// TestEnsureReadOnly wants nothing to be fetched where nothing can be written.
func TestEnsureReadOnly(t *testing.T) {
	l := newLab(t)
	p := l.path("p")
	l.caches(fakeCache{string(p): {Contents: "good"}})
	l.opt.ReadOnly = true
	_, err := l.engine().Ensure([]storepath.Path{p})
	if want := fmt.Sprintf("cannot substitute path '%s' - no write access to the Nix store", p); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("it ended with %v, want %q", err, want)
	}
}

// Whatever goes wrong with one substitute, the next one is tried, and what
// cannot be had at all is said so.
func TestSubstituteFailures(t *testing.T) {
	for _, c := range []struct {
		name     string
		caches   []fakeSubstitute // one each
		fallback bool
		status   Status
		result   worker.Result
		says     string
	}{
		{name: "none", status: NoSubstituters, result: worker.NoSubstituters},
		{name: "second fetch", caches: []fakeSubstitute{{Fails: "hash mismatch;\n  got: x"}, {Contents: "good"}}, status: Substituted, result: worker.Success,
			says: "message 0 error: hash mismatch;\n         got: x"},
		{name: "all fail", caches: []fakeSubstitute{{Fails: "cut off"}, {Fails: "bad"}}, status: NoSubstituters, result: worker.Failed, says: "message 0 error: bad"},
		{name: "all fail with fallback", caches: []fakeSubstitute{{Fails: "bad"}}, fallback: true, status: NoSubstituters, result: worker.NoSubstituters},
		{name: "gone", caches: []fakeSubstitute{{Fails: "404", Gone: true}}, status: NoSubstituters, result: worker.NoSubstituters},
		{name: "down", caches: []fakeSubstitute{{Fails: "out of service", Gone: true, Down: true}, {Contents: "good"}}, status: Substituted, result: worker.Success,
			says: "message 4 out of service"},
		{name: "unknown", caches: []fakeSubstitute{{Unknown: "error 500"}}, status: NoSubstituters, result: worker.Failed, says: "message 0 error: error 500"},
		{name: "unknown, then found", caches: []fakeSubstitute{{Unknown: "error 500"}, {Contents: "good"}}, status: Substituted, result: worker.Success},
		{name: "dies when asked", caches: []fakeSubstitute{{Dies: "query"}}, status: NoSubstituters, result: worker.Failed,
			says: "message 0 error: looking for a substitute of '%s': the network program failed due to signal 9 (Killed)"},
		{name: "dies while fetching", caches: []fakeSubstitute{{Dies: "fetch"}, {Contents: "good"}}, status: Substituted, result: worker.Success,
			says: "message 0 error: fetching '%s': the network program failed due to signal 9 (Killed)"},
		{name: "always dies", caches: []fakeSubstitute{{Dies: "fetch"}, {Dies: "fetch"}, {Dies: "fetch"}, {Contents: "too late"}}, status: NoSubstituters, result: worker.Failed},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t)
			p := l.path("p")
			caches := []fakeCache{{}}
			for _, s := range c.caches {
				caches = append(caches, fakeCache{string(p): s})
			}
			l.caches(caches...)
			l.opt.Fallback = c.fallback
			e := l.engine()
			s := e.substitution(p, false)
			results, err := e.Ensure([]storepath.Path{p})
			l.wantStatuses(results, c.status)
			if s.Result() != c.result {
				t.Errorf("the goal ended with %v, want %v", s.Result(), c.result)
			}
			var f *Failure
			if c.result != worker.Success && (!errors.As(err, &f) || f.ExitCode != 1 ||
				!strings.HasPrefix(err.Error(), fmt.Sprintf("path '%s' does not exist and cannot be created: ", p))) {
				t.Errorf("the run ended with %v", err)
			}
			if c.says != "" && !l.sink.has(strings.ReplaceAll(c.says, "%s", string(p))) {
				t.Errorf("it does not say %q:\n%s", c.says, l.sink)
			}
			if valid := l.valid(p); valid != (c.result == worker.Success) {
				t.Errorf("validity is %v", valid)
			}
			if slots := e.w.SlotsUsed(worker.SubstitutionSlot); slots != 0 {
				t.Errorf("%d slots are in use", slots)
			}
			l.unfetched()
		})
	}
}

func TestNoProgramForTheNetwork(t *testing.T) {
	l := newLab(t)
	l.caches(fakeCache{})
	sources := l.sources
	l.sources = func() []Source {
		all := sources()
		all[0].(*Caches).program = func() (string, error) { return "", errors.New("it was not built") }
		return all
	}
	_, err := l.engine().Ensure([]storepath.Path{l.path("a")})
	if err == nil || !l.sink.has("message 0 error: looking for substitutes: it was not built") {
		t.Errorf("ended with %v\n%s", err, l.sink)
	}
}

// A derivation's outputs are fetched rather than built, but not without what
// they refer to; what fails to be fetched is built only if that is allowed.
func TestOutputsAreSubstituted(t *testing.T) {
	type world struct {
		*lab
		dep, top        storepath.Path
		depOut, topOut  storepath.Path
		missing         storepath.Path
		statuses        []Status
		built, unwanted []storepath.Path // outputs with contents made here; paths that stay invalid
	}
	for name, edit := range map[string]func(w *world, c fakeCache){
		"all there": func(w *world, c fakeCache) {
			c[string(w.topOut)] = fakeSubstitute{Contents: "fetched"}
			w.statuses, w.unwanted = []Status{Substituted}, []storepath.Path{w.depOut}
		},
		"nothing there": func(w *world, _ fakeCache) {
			w.statuses, w.built = []Status{Built}, []storepath.Path{w.depOut, w.topOut}
		},
		"the input only": func(w *world, c fakeCache) {
			c[string(w.depOut)] = fakeSubstitute{Contents: "fetched"}
			w.statuses, w.built = []Status{Built}, []storepath.Path{w.topOut}
		},
		"not allowed to": func(w *world, c fakeCache) {
			w.top = w.drv("top", "echo built > $out", w.needs(w.dep), env("allowSubstitutes", ""))
			w.topOut = w.out(w.top, "out")
			c[string(w.topOut)] = fakeSubstitute{Contents: "fetched"}
			w.statuses, w.built = []Status{Built}, []storepath.Path{w.depOut, w.topOut}
		},
		"not allowed to, but always": func(w *world, c fakeCache) {
			w.top = w.drv("top", "echo built > $out", w.needs(w.dep), env("allowSubstitutes", ""))
			w.topOut, w.opt.AlwaysSubstitute = w.out(w.top, "out"), true
			c[string(w.topOut)] = fakeSubstitute{Contents: "fetched"}
			w.statuses, w.unwanted = []Status{Substituted}, []storepath.Path{w.depOut}
		},
		"a broken one": func(w *world, c fakeCache) {
			c[string(w.topOut)] = fakeSubstitute{Fails: "cut off"}
			w.statuses, w.unwanted = []Status{TransientFailure}, []storepath.Path{w.depOut, w.topOut}
		},
		"a broken one, with fallback": func(w *world, c fakeCache) {
			c[string(w.topOut)] = fakeSubstitute{Fails: "cut off"}
			w.opt.Fallback = true
			w.statuses, w.built = []Status{Built}, []storepath.Path{w.depOut, w.topOut}
		},
		"a reference that nobody has": func(w *world, c fakeCache) {
			c[string(w.topOut)] = fakeSubstitute{Contents: "fetched", References: []string{string(w.missing)}}
			w.statuses, w.built = []Status{Built}, []storepath.Path{w.depOut, w.topOut}
		},
		// the reference is the output of an input, which is built, and then the
		// substitute is good
		"a reference that is built": func(w *world, c fakeCache) {
			c[string(w.topOut)] = fakeSubstitute{Contents: "fetched", References: []string{string(w.depOut)}}
			w.statuses, w.built = []Status{Substituted}, []storepath.Path{w.depOut}
		},
	} {
		for _, planned := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, planned %v", name, planned), func(t *testing.T) {
				w := &world{lab: newLab(t)}
				w.dep = w.drv("dep", "echo built > $out")
				w.depOut = w.out(w.dep, "out")
				w.top = w.drv("top", "echo built > $out", w.needs(w.dep))
				w.topOut, w.missing = w.out(w.top, "out"), w.path("missing")
				c := fakeCache{}
				edit(w, c)
				w.caches(c)
				e := w.engine()
				if planned {
					if _, err := e.Plan(targets(w.top), ToFollow); err != nil {
						t.Fatal(err)
					}
				}
				results, _ := e.Realise(targets(w.top))
				w.wantStatuses(results, w.statuses...)
				for _, p := range w.built {
					if !w.valid(p) || w.read(p) != "built\n" {
						t.Errorf("'%s' was not built", p)
					}
				}
				for _, p := range w.unwanted {
					if w.valid(p) {
						t.Errorf("'%s' is valid", p)
					}
				}
				w.unfetched()
			})
		}
	}
}

// More outputs may come to be wanted while the first ones are being fetched.
func TestWantedWhileFetching(t *testing.T) {
	l := newLab(t)
	two := l.drv("two", "echo built > $out; echo built > $dev", outputs("dev", "out"))
	user := l.drv("user", "echo built > $out", func(d *drv.Derivation) { d.InputDrvs = []drv.Input{{Path: two, Outputs: []string{"dev"}}} })
	l.caches(fakeCache{
		string(l.out(two, "out")): {Contents: "fetched"},
		string(l.out(two, "dev")): {Contents: "fetched"},
	})
	results, err := l.engine().Realise([]Target{{Path: two, Outputs: []string{"out"}}, {Path: user}})
	if err != nil {
		t.Fatal(err)
	}
	l.wantStatuses(results, Substituted, Built)
	for _, id := range []string{"out", "dev"} {
		if got := l.read(l.out(two, id)); got != "fetched" {
			t.Errorf("output %s is %q", id, got)
		}
	}
}

// A cache whose references lead in a circle is passed over.
func TestCyclicReferences(t *testing.T) {
	l := newLab(t)
	a, b, c, apart := l.path("a"), l.path("b"), l.path("c"), l.path("apart")
	refs := func(p ...storepath.Path) (s fakeSubstitute) {
		s.Contents = "x"
		for _, p := range p {
			s.References = append(s.References, string(p))
		}
		return s
	}
	liar := fakeCache{string(a): refs(a, b), string(b): refs(c), string(c): refs(a), string(apart): refs()}
	l.caches(liar)
	results, err := l.engine().Ensure([]storepath.Path{a, apart})
	if err == nil {
		t.Error("a circle was fetched")
	}
	l.wantStatuses(results, NoSubstituters, Substituted)
	if !l.sink.has("message 0 error: the references of '" + string(a) + "' in 'test://0' lead back to it") {
		t.Errorf("it is not said:\n%s", l.sink)
	}
	l.caches(liar, fakeCache{string(a): refs(a), string(b): refs(c), string(c): refs(a)})
	results, err = l.engine().Ensure([]storepath.Path{b})
	if err != nil {
		t.Fatalf("%v\n%s", err, l.sink)
	}
	l.wantStatuses(results, Substituted)
	l.unfetched()
}

// Of many circles that have nothing to do with each other each is found.
func TestManyCycles(t *testing.T) {
	l := newLab(t)
	liar := fakeCache{}
	var all []storepath.Path
	for i := range 100 {
		a, b := l.path(fmt.Sprint("a", i)), l.path(fmt.Sprint("b", i))
		liar[string(a)] = fakeSubstitute{Contents: "x", References: []string{string(b)}}
		liar[string(b)] = fakeSubstitute{Contents: "x", References: []string{string(a)}}
		all = append(all, a)
	}
	l.caches(liar)
	l.opt.KeepGoing = true
	e := l.engine()
	results, err := e.Ensure(all)
	if err == nil {
		t.Error("circles were fetched")
	}
	for _, r := range results {
		if r.Status != NoSubstituters {
			t.Errorf("'%s' ended with %v", r.Path, r.Status)
		}
	}
	if e.breakCycle() {
		t.Error("there is a circle without goals")
	}
}

// A failure elsewhere ends a fetch that nobody waits for any more.
func TestFetchIsCancelled(t *testing.T) {
	l := newLab(t)
	slow, bad := l.path("slow"), l.path("zz-bad")
	l.caches(fakeCache{string(slow): {Hangs: true}, string(bad): {Fails: "cut off"}})
	results, err := l.engine().Realise(targets(slow, bad))
	if err == nil {
		t.Fatal("no error")
	}
	l.wantStatuses(results, MiscFailure, NoSubstituters)
	l.unfetched()
	l.wantNoLocks()
}

func TestPlanOfSubstitutes(t *testing.T) {
	l := newLab(t)
	dep := l.drv("dep", "")
	top := l.drv("top", "", l.needs(dep))
	ref, missing := l.path("ref"), l.path("missing")
	l.caches(fakeCache{
		string(l.out(dep, "out")): {Contents: "dep", References: []string{string(ref)}},
		string(ref):               {Contents: "ref", References: []string{string(missing)}},
	})
	e := l.engine()
	p, err := e.Plan(targets(top), JustLook)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(p.Build, []storepath.Path{top}) || !slices.Equal(p.Fetch, []storepath.Path{l.out(dep, "out"), ref}) ||
		!slices.Equal(p.Unknown, []storepath.Path{missing}) || p.Download != 20 || p.Unpacked == 0 {
		t.Errorf("the plan is %+v", p)
	}
	if asked := l.asked(); !slices.Equal(asked, []string{"info dep", "info missing", "info ref", "info top"}) {
		t.Errorf("asked %q", asked)
	}
}
