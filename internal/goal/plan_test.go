package goal

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"gobuild/internal/store"
	"gobuild/internal/store/digest"
	"gobuild/internal/store/drv"
	"gobuild/internal/store/storepath"
)

// plan has a new engine plan, and wants that to succeed.
func (l *lab) plan(targets ...Target) *Plan {
	l.Helper()
	p, err := l.engine().Plan(targets, JustLook)
	if err != nil {
		l.Fatal(err)
	}
	return p
}

// wantPlan compares a plan; derivations are wanted in any order that has
// inputs first.
func (l *lab) wantPlan(p *Plan, build, unknown []storepath.Path) {
	l.Helper()
	if got, want := slices.Sorted(slices.Values(p.Build)), slices.Sorted(slices.Values(build)); !slices.Equal(got, want) {
		l.Errorf("to be built: %v, want %v", got, want)
	}
	if !slices.Equal(p.Unknown, unknown) {
		l.Errorf("unknown: %v, want %v", p.Unknown, unknown)
	}
	if p.Empty() != (len(build)+len(unknown) == 0) {
		l.Errorf("Empty is %v", p.Empty())
	}
	place := map[storepath.Path]int{}
	for i, d := range p.Build {
		place[d] = i
	}
	for _, d := range p.Build {
		recipe, err := l.store.Derivation(d)
		if err != nil {
			l.Fatal(err)
		}
		for _, in := range recipe.InputDrvs {
			if i, ok := place[in.Path]; ok && i > place[d] {
				l.Errorf("'%s' comes before its input '%s'", d, in.Path)
			}
		}
	}
}

// pretend makes a path valid that is not there.
func (l *lab) pretend(paths ...storepath.Path) {
	l.Helper()
	for _, p := range paths {
		info := store.Info{Path: p, NarHash: digest.Of(digest.SHA256, []byte(p)), NarSize: 100}
		if err := l.store.Register([]store.Info{info}); err != nil {
			l.Fatal(err)
		}
	}
}

func TestPlan(t *testing.T) {
	l := newLab(t)
	source, err := l.store.AddText("source", []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	leaf := l.drv("leaf", "", outputs("dev", "out"), func(d *drv.Derivation) { d.InputSrcs = []storepath.Path{source} })
	half := func(name, id string) storepath.Path {
		return l.drv(name, "", func(d *drv.Derivation) { d.InputDrvs = []drv.Input{{Path: leaf, Outputs: []string{id}}} })
	}
	left, right := half("left", "out"), half("right", "dev")
	top := l.drv("top", "", l.needs(left, right))
	apart := l.drv("apart", "")
	all := []storepath.Path{leaf, left, right, top}

	l.wantPlan(l.plan(targets(top)...), all, nil)
	l.wantPlan(l.plan(targets(left, top, leaf, apart, top)...), append(slices.Clone(all), apart), nil)
	l.wantPlan(l.plan(targets(source)...), nil, nil)
	l.wantPlan(l.plan(), nil, nil)

	// one output is there, and is all that one of two needs
	l.pretend(l.out(leaf, "out"))
	l.wantPlan(l.plan(targets(left)...), []storepath.Path{left}, nil)
	l.wantPlan(l.plan(targets(top)...), all, nil)
	l.wantPlan(l.plan(Target{Path: leaf, Outputs: []string{"out"}}), nil, nil)
	l.wantPlan(l.plan(Target{Path: leaf, Outputs: []string{"dev", "out"}}), []storepath.Path{leaf}, nil)
	l.wantPlan(l.plan(Target{Path: leaf, Outputs: []string{"out"}}, Target{Path: leaf}), []storepath.Path{leaf}, nil)

	// what needs nothing is not asked for its inputs
	l.pretend(l.out(top, "out"))
	l.wantPlan(l.plan(targets(top)...), nil, nil)
}

func TestPlanUnknown(t *testing.T) {
	l := newLab(t)
	// sorted by name, then by hash
	var gone []storepath.Path
	for _, base := range []string{"11111111111111111111111111111111-a", "00000000000000000000000000000000-b", "22222222222222222222222222222222-b.drv"} {
		p, err := l.store.Dir().FromBase(base)
		if err != nil {
			t.Fatal(err)
		}
		gone = append(gone, p)
	}
	l.wantPlan(l.plan(targets(gone[2], gone[0], gone[1], gone[0])...), nil, gone)

	// a derivation that is there although its source is not: a database that
	// somebody has been at
	d := &drv.Derivation{Name: "x", Outputs: []drv.Output{{ID: "out"}}, Platform: "p", Builder: "/b", InputSrcs: []storepath.Path{gone[1]}}
	if err := d.FillOutputs(l.store.Dir(), drv.NewHasher(l.store.Derivation)); err != nil {
		t.Fatal(err)
	}
	p, err := d.Path(l.store.Dir())
	if err != nil {
		t.Fatal(err)
	}
	e := l.engine()
	if e.outlines[p], err = drv.ParseOutline(l.store.Dir(), "x", d.Unparse(), nil); err != nil {
		t.Fatal(err)
	}
	e.valid.Set(p, true)
	plan, err := e.Plan(targets(p), JustLook)
	if err != nil || !slices.Equal(plan.Build, []storepath.Path{p}) || !slices.Equal(plan.Unknown, gone[1:2]) {
		t.Errorf("planned %+v, %v", plan, err)
	}
}

func TestPlanOutputsThatAreNot(t *testing.T) {
	l := newLab(t)
	d := l.drv("x", "echo > $out")
	want := "derivation '" + string(d) + "' does not have wanted outputs 'a', 'b'"
	for _, ts := range [][]Target{
		{{Path: d, Outputs: []string{"a", "b"}}},
		{{Path: d}, {Path: d, Outputs: []string{"a", "out", "b"}}},
		{{Path: d, Outputs: []string{"out"}}, {Path: d, Outputs: []string{"a", "b"}}},
	} {
		if _, err := l.engine().Plan(ts, JustLook); err == nil || err.Error() != want {
			t.Errorf("planning %v: %v, want %s", ts, err, want)
		}
	}
	_, err := l.engine().Realise([]Target{{Path: d, Outputs: []string{"a", "b"}}})
	if err == nil || err.Error() != want {
		t.Errorf("realising: %v, want %s", err, want)
	}
}

// chain makes derivations each of which needs the one before, without the ado
// of adding each by itself.
func (l *lab) chain(n int, platform string) []storepath.Path {
	l.Helper()
	all := make([]storepath.Path, n)
	infos := make([]store.Info, n)
	for i := range n {
		d := &drv.Derivation{
			Name: fmt.Sprint("link", i), Platform: "test-system", Builder: "/bin/sh",
			Outputs: []drv.Output{{ID: "out", MethodAlgo: "sha256", Hash: fmt.Sprintf("%064x", i)}},
		}
		if i == 0 {
			d.Platform = platform
		} else {
			d.InputDrvs = []drv.Input{{Path: all[i-1], Outputs: []string{"out"}}}
		}
		if err := d.FillOutputs(l.store.Dir(), nil); err != nil {
			l.Fatal(err)
		}
		var err error
		if all[i], err = d.Path(l.store.Dir()); err != nil {
			l.Fatal(err)
		}
		text := d.Unparse()
		if err := os.WriteFile(l.store.RealPath(all[i]), text, 0o444); err != nil {
			l.Fatal(err)
		}
		infos[i] = store.Info{
			Path: all[i], NarHash: digest.Of(digest.SHA256, text), NarSize: uint64(len(text)), References: d.References(),
			CA: storepath.ContentAddress{Method: storepath.Text, Digest: digest.Of(digest.SHA256, text)},
		}
	}
	if err := l.store.Register(infos); err != nil {
		l.Fatal(err)
	}
	return all
}

// TestDeepChain plans and fails a chain that no stack would be deep enough for.
func TestDeepChain(t *testing.T) {
	n := 20_000
	if testing.Short() {
		n = 2_000
	}
	l := newLab(t)
	begin := time.Now()
	all := l.chain(n, "elsewhere")
	t.Logf("making %d derivations took %v", n, time.Since(begin))
	top := targets(all[n-1])

	begin = time.Now()
	e := l.engine()
	plan, err := e.Plan(top, ToFollow)
	if err != nil || !slices.Equal(plan.Build, all) {
		t.Fatalf("planned %d derivations, first of all the first: %v, %v", len(plan.Build), err == nil && plan.Build[0] == all[0], err)
	}
	t.Logf("planning took %v", time.Since(begin))

	begin = time.Now()
	results, err := e.Realise(top)
	var f *Failure
	if !errors.As(err, &f) || results[0].Status != DependencyFailed {
		t.Fatalf("ended with %v, %v", results, err)
	}
	t.Logf("failing took %v", time.Since(begin))
	if len(l.sink.failures) != n-1 || !strings.Contains(l.sink.failures[0].Error(), "a 'elsewhere' with features {} is required") {
		t.Errorf("%d failures were reported, the first is %v", len(l.sink.failures), l.sink.failures[0])
	}
	if len(e.drvs)+len(e.substs)+len(e.held)+len(e.outlines) > 0 {
		t.Errorf("the engine remembers %d goals, %d locks, %d outlines", len(e.drvs)+len(e.substs), len(e.held), len(e.outlines))
	}

	// abandoning is as deep
	l.opt.Interrupted = func() error {
		if l.sink.has("start 105") {
			return errors.New("enough")
		}
		return nil
	}
	l.sink = newRecorder()
	begin = time.Now()
	good := l.engine()
	good.opt.System = "elsewhere"
	good.opt.Platforms = []string{"test-system"}
	if _, err := good.Realise(top); err == nil || err.Error() != "enough" {
		t.Errorf("ended with %v", err)
	}
	t.Logf("abandoning took %v", time.Since(begin))
}
