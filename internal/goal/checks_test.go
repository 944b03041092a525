package goal

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"gobuild/internal/store"
	"gobuild/internal/store/digest"
	"gobuild/internal/store/drv"
	"gobuild/internal/store/storepath"
)

// A verdict is a derivation whose outputs "dev" and "out" are about to be
// judged. There are valid paths a, which refers to b, and b, of 100 bytes each.
type verdict struct {
	*lab
	goal *Derivation
	a, b storepath.Path
}

// newVerdict makes one with the given variables.
func newVerdict(t *testing.T, pairs ...string) *verdict {
	t.Helper()
	l := newLab(t)
	v := &verdict{lab: l}
	path := func(n int, name string) storepath.Path {
		p, err := l.store.Dir().FromBase(fmt.Sprintf("%032d-%s", n, name))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	v.a, v.b = path(1, "a"), path(2, "b")
	info := func(p storepath.Path, refs ...storepath.Path) store.Info {
		return store.Info{Path: p, NarHash: digest.Of(digest.SHA256, []byte(p)), NarSize: 100, References: refs}
	}
	if err := l.store.Register([]store.Info{info(v.b), info(v.a, v.b)}); err != nil {
		t.Fatal(err)
	}
	d := &drv.Derivation{Name: "x", Outputs: []drv.Output{{ID: "dev", Path: path(3, "x-dev")}, {ID: "out", Path: path(4, "x")}}}
	e := l.engine()
	v.goal = &Derivation{eng: e, path: path(5, "x.drv"), outline: &drv.Outline{Outputs: d.Outputs}, attempt: &attempt{eng: e, drv: d}}
	v.demand(pairs...)
	for _, o := range d.Outputs {
		v.goal.attempt.outputs = append(v.goal.attempt.outputs, builtOutput{Output: o, info: info(o.Path)})
	}
	return v
}

// demand sets the derivation's variables.
func (v *verdict) demand(pairs ...string) {
	v.Helper()
	a := v.goal.attempt
	env(pairs...)(a.drv)
	var err error
	if a.options, err = drv.ParseOptions(v.store.Dir(), a.drv); err != nil {
		v.Fatal(err)
	}
}

// refer sets the references of an output.
func (v *verdict) refer(id string, refs ...storepath.Path) {
	slices.Sort(refs)
	v.goal.attempt.output(v.path(id)).refs = refs
}

func (v *verdict) path(id string) storepath.Path {
	o, _ := v.goal.outline.Output(id)
	return o.Path
}

// want compares the error of all checks, in which names stand for paths.
func (v *verdict) want(title, want string) {
	v.Helper()
	got := ""
	if err := v.goal.checkOutputs(); err != nil {
		got = err.Error()
		if be := asBuildError("", err); be.Status != OutputRejected || be.Drv != v.goal.path {
			v.Errorf("%s: an error of status %v of '%s'", title, be.Status, be.Drv)
		}
	}
	for p, name := range map[storepath.Path]string{v.a: "A", v.b: "B", v.path("out"): "OUT", v.path("dev"): "DEV", v.goal.path: "DRV"} {
		got = strings.ReplaceAll(got, "'"+string(p)+"'", "'"+name+"'")
		got = strings.ReplaceAll(got, "\n  "+string(p), " "+name)
	}
	if got != want {
		v.Errorf("%s: %q, want %q", title, got, want)
	}
}

// TestReferenceChecks has "out" refer to a, itself and "dev", and "dev" to
// nothing.
func TestReferenceChecks(t *testing.T) {
	const not = "output '%s' is not allowed to refer to the following paths:"
	out := fmt.Sprintf(not, "OUT")
	for _, tc := range []struct{ name, words, want string }{
		{"allowedReferences", "", out + " A DEV OUT"},
		{"allowedReferences", "A", out + " DEV OUT"},
		{"allowedReferences", "A out", out + " DEV"},
		{"allowedReferences", "A out dev B", ""},
		{"allowedReferences", "out nonsense", "derivation contains an illegal reference specifier 'nonsense'"},
		{"allowedRequisites", "", out + " A B DEV"},
		{"allowedRequisites", "A dev", out + " B"},
		{"allowedRequisites", "A B dev", ""},
		{"disallowedReferences", "", ""},
		{"disallowedReferences", "B", ""},
		{"disallowedReferences", "A", out + " A"},
		{"disallowedReferences", "out dev", out + " DEV OUT"},
		{"disallowedRequisites", "", ""},
		{"disallowedRequisites", "B", out + " B"},
		{"disallowedRequisites", "A dev", out + " A DEV"},
		{"disallowedRequisites", "out", ""},
	} {
		v := newVerdict(t)
		v.demand(tc.name, strings.NewReplacer("A", string(v.a), "B", string(v.b)).Replace(tc.words))
		v.refer("out", v.a, v.path("out"), v.path("dev"))
		v.refer("dev")
		v.want(tc.name+"="+tc.words, tc.want)
	}
}

// TestOutputChecks are those of structured attributes, for each output.
func TestOutputChecks(t *testing.T) {
	const not = "output 'OUT' is not allowed to refer to the following paths:"
	for checks, want := range map[string]string{
		`{}`:                                           "",
		`{"out":{}}`:                                   "",
		`{"dev":{"allowedReferences":[]}}`:             "",
		`{"out":{"allowedReferences":[]}}`:             not + " A DEV OUT",
		`{"out":{"allowedRequisites":["dev"]}}`:        not + " A B OUT",
		`{"out":{"disallowedRequisites":["out"]}}`:     not + " OUT",
		`{"out":{"maxSize":100,"maxClosureSize":400}}`: "",
		`{"out":{"maxSize":99}}`:                       "path 'OUT' is too large at 100 bytes; limit is 99 bytes",
		`{"dev":{"maxSize":99}}`:                       "path 'DEV' is too large at 100 bytes; limit is 99 bytes",
		`{"out":{"maxClosureSize":399}}`:               "closure of path 'OUT' is too large at 400 bytes; limit is 399 bytes",
		`{"dev":{"maxClosureSize":100}}`:               "",
		`{"out":{"maxSize":1,"maxClosureSize":1,"allowedReferences":[]}}`: "path 'OUT' is too large at 100 bytes; limit is 1 bytes",
	} {
		v := newVerdict(t, "__json", `{"name":"x","outputChecks":`+checks+`}`)
		v.refer("out", v.a, v.path("out"), v.path("dev"))
		v.want(checks, want)
	}
}

func TestCyclesOfOutputs(t *testing.T) {
	v := newVerdict(t)
	v.refer("out", v.path("out"), v.path("dev"), v.a)
	v.refer("dev", v.path("dev"))
	v.want("no cycle", "")
	v.refer("dev", v.path("out"))
	v.want("a cycle", "cycle detected in build of 'DRV' in the references of output 'dev' from output 'out'")
}

// TestRequisitesOfSiblings follows references through outputs that are not
// registered yet.
func TestRequisitesOfSiblings(t *testing.T) {
	v := newVerdict(t)
	v.refer("out", v.path("dev"))
	v.refer("dev", v.a)
	out := v.goal.attempt.output(v.path("out"))
	got, err := v.goal.requisites(out)
	want := slices.Sorted(slices.Values([]storepath.Path{v.a, v.b, v.path("dev"), v.path("out")}))
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("requisites %v, %v; want %v", got, err, want)
	}
	if size, err := v.goal.closureSize(out); size != 400 || err != nil {
		t.Errorf("closure of %d bytes, %v", size, err)
	}
}

func TestFixedOutputs(t *testing.T) {
	good, other := digest.Of(digest.SHA256, []byte("good")), digest.Of(digest.SHA256, []byte("other"))
	for _, tc := range []struct {
		got    digest.Digest
		refers bool
		strict bool
		want   string
		code   int
	}{
		{got: good},
		{got: good, refers: true},
		{got: good, refers: true, strict: true, want: "fixed-output derivations must not reference store paths: 'DRV' references 1 distinct paths, e.g. 'A'", code: 1},
		{got: other, want: "hash mismatch in fixed-output derivation 'DRV':\n  specified: " + good.SRI() + "\n     got:    " + other.SRI(), code: 102},
		{got: other, refers: true, strict: true, want: "fixed-output derivations must not reference store paths: 'DRV' references 1 distinct paths, e.g. 'A'", code: 102},
	} {
		v := newVerdict(t)
		v.goal.eng.opt.StrictFixed = tc.strict
		o := v.goal.attempt.output(v.path("out"))
		o.ca, o.digest, o.at = storepath.ContentAddress{Method: storepath.NAR, Digest: good}, tc.got, "/nowhere"
		if tc.refers {
			v.refer("out", v.a)
		}
		v.want(fmt.Sprintf("%+v", tc), tc.want)
		if err := v.goal.checkOutputs(); err != nil {
			var collected outcome
			collected.add(asBuildError("", err))
			if code := collected.exitCode(); code != tc.code {
				t.Errorf("%+v: exit code %d", tc, code)
			}
		}
	}
}
