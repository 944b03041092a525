package conformance_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gobuild/internal/conformance/nixtest"
)

// A bench is a store in which everything has been built by real Nix, to be brought into the same bad state for both engines.
type bench struct {
	*testing.T
	lab   *nixtest.Lab
	tmpl  *nixtest.Template
	store *nixtest.Store
	saved string
}

func newBench(t *testing.T, mode nixtest.Mode) *bench {
	t.Helper()
	b := &bench{T: t, lab: nixtest.NewLab(t, mode)}
	b.text("hello")
	b.tmpl = b.lab.Instantiate(t, expression("repair.nix"), nil)
	b.store = b.tmpl.NewStore(t)
	var all []string
	for _, path := range b.tmpl.Drvs {
		all = append(all, path)
	}
	slices.Sort(all)
	if r := nixtest.Nix(b.lab.Tools).Run(t, b.store, nixtest.Request{Targets: all}); r.Exit != 0 {
		t.Fatalf("building what is to be damaged: %s", r.Stderr)
	}
	b.saved = b.store.Root + "-saved"
	b.copy(b.store.Root, b.saved)
	return b
}

// text is what the builder of the fixed output finds.
func (b *bench) text(text string) {
	b.Helper()
	name := filepath.Join(b.lab.CounterDir(), "text")
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) copy(from, to string) {
	b.Helper()
	nixtest.RemoveAll(b, to)
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		b.Fatalf("copying '%s': %v\n%s", from, err, out)
	}
}

// path is the place on disk of the output with that name.
func (b *bench) path(name string) string {
	b.Helper()
	found, _ := filepath.Glob(filepath.Join(b.store.Dir(), "*-"+name))
	if len(found) != 1 {
		b.Fatalf("'%s' is %v", name, found)
	}
	return found[0]
}

// A bad is something done to a store by force.
type bad func(b *bench)

// changed writes other contents to a file of an output.
func changed(name string) bad {
	return func(b *bench) {
		b.Helper()
		output, rest, _ := strings.Cut(name, "/")
		file := filepath.Join(b.path(output), rest)
		for _, f := range []string{filepath.Dir(file), file} {
			if info, err := os.Lstat(f); err == nil && f != b.store.Dir() {
				if err := os.Chmod(f, info.Mode().Perm()|0o200); err != nil {
					b.Fatal(err)
				}
			}
		}
		if err := os.WriteFile(file, []byte("bad"), 0o644); err != nil {
			b.Fatal(err)
		}
	}
}

func gone(name string) bad {
	return func(b *bench) { nixtest.RemoveAll(b, b.path(name)) }
}

// deleted makes outputs invalid.
func deleted(names ...string) bad {
	return func(b *bench) {
		b.Helper()
		args := []string{b.lab.Tools.NixStore, "--delete", "--ignore-liveness"}
		for _, name := range names {
			args = append(args, filepath.Join(b.store.LogicalDir(), filepath.Base(b.path(name))))
		}
		if r := nixtest.Command(b, b.store, args).Wait(b); r.Exit != 0 {
			b.Fatalf("deleting %v: %s", names, r.Stderr)
		}
	}
}

func all(bads ...bad) bad {
	return func(b *bench) {
		for _, do := range bads {
			do(b)
		}
	}
}

func nothing(*bench) {}

// A mending is what both engines do to a damaged store.
type mending struct {
	name      string
	bad       bad
	exit      int
	unordered bool // the order of lines on standard error is not promised
	allow     map[nixtest.Kind]string

	gobuildExit int
	stderrHas   []string
}

// both compares what the engines make of a damaged store.
func (b *bench) both(m mending, run func(e nixtest.Engine) nixtest.Result) {
	b.Helper()
	var results []nixtest.Result
	var snapshots []*nixtest.Snapshot
	for _, engine := range []nixtest.Engine{nixtest.Nix(b.lab.Tools), nixtest.Gobuild(b)} {
		b.copy(b.saved, b.store.Root)
		m.bad(b)
		r := nixtest.Plainly(b.store, run(engine))
		// Nix 2.8 says so in its debug output only.
		r.Stderr = regexp.MustCompile(`(?m)^warning: rewriting hashes in .*\n`).ReplaceAllString(r.Stderr, "")
		results = append(results, testCase{unordered: m.unordered}.sorted(r))
		snapshots = append(snapshots, nixtest.Take(b, b.store))
	}
	if results[0].Exit != m.exit {
		b.Fatalf("the case expects exit status %d of real Nix, got %d:\n%s", m.exit, results[0].Exit, results[0].Stderr)
	}
	for _, d := range append(nixtest.CompareResults(results[0], results[1]), nixtest.CompareSnapshots(snapshots[0], snapshots[1])...) {
		if why, ok := m.allow[d.Kind]; ok {
			b.Logf("accepted, because %s: %s: %s", why, d.Kind, d.Text)
			continue
		}
		b.Errorf("%s: %s", d.Kind, d.Text)
	}
	testCase{allow: m.allow, gobuildExit: m.gobuildExit, stderrHas: m.stderrHas}.checkAllowed(b.T, results[1])
	nixtest.Verify(b, b.lab.Tools, b.store)
}

// TestRepairs damages outputs and has them repaired, together with what they refer to.
func TestRepairs(t *testing.T) {
	cases := []struct {
		mending
		target string
	}{
		{mending{name: "nothing", bad: nothing}, "two"},
		{mending{name: "changed file", bad: changed("two/self")}, "two"},
		{mending{name: "one more file", bad: changed("two-dev/more")}, "two"},
		{mending{name: "missing", bad: gone("two-dev")}, "two"},
		{mending{name: "all missing", bad: all(gone("two"), gone("two-dev"))}, "two"},
		{mending{name: "other mode", bad: func(b *bench) {
			if err := os.Chmod(b.path("two")+"/self", 0o555); err != nil {
				b.Fatal(err)
			}
		}}, "two"},
		{mending{name: "of one output", bad: all(changed("two/self"), changed("two-dev/self"))}, "two!dev"},
		{mending{name: "first of a chain", bad: changed("chain-a/f")}, "chain"},
		{mending{name: "last of a chain", bad: changed("chain-c/f")}, "chain"},
		{mending{name: "in the closure", unordered: true, bad: all(changed("dep/file"), changed("two/run"))}, "top"},
		{mending{name: "the top and its closure", unordered: true, bad: all(changed("dep/file"), changed("top"), gone("big"))}, "top"},
		{mending{name: "large", bad: changed("big")}, "big"},
		{mending{name: "fixed", bad: changed("fixed")}, "fixed"},
		{mending{name: "partly not valid", bad: all(deleted("dep-multi-doc"), changed("dep-multi-dev"))}, "depMulti"},
	}
	for _, mode := range sharedModes {
		t.Run(mode.String(), func(t *testing.T) {
			b := newBench(t, mode)
			for _, c := range cases {
				t.Run(c.name, func(t *testing.T) {
					b.T = t
					if mode == nixtest.Sandbox {
						// and so it builds, and says, more than it need
						c.allow = allow(string(nixtest.Stderr), "Nix 2.8 looks for files below --store where their paths say, and finds none")
					}
					attr, output, some := strings.Cut(c.target, "!")
					target := b.tmpl.Drvs[attr]
					if some {
						target += "!" + output
					}
					b.both(c.mending, func(e nixtest.Engine) nixtest.Result {
						return e.Run(t, b.store, nixtest.Request{Targets: []string{target}, Args: []string{"--repair"}})
					})
				})
			}
		})
	}
}

// TestPartlyValid builds outputs of which others are valid already: outside of a sandbox those must not be touched.
func TestPartlyValid(t *testing.T) {
	for _, mode := range sharedModes {
		t.Run(mode.String(), func(t *testing.T) {
			b := newBench(t, mode)
			for _, c := range []struct {
				target string
				names  []string
			}{
				{"two", []string{"top", "two-dev"}},
				{"two", []string{"top", "two", "two-dev"}},
				{"chain", []string{"chain-a"}},
				{"chain", []string{"chain-a", "chain-b"}},
				{"depMulti", []string{"dep-multi-dev", "dep-multi-doc"}},
				{"depMulti", []string{"dep-multi-doc"}},
			} {
				t.Run(c.target+strings.Join(c.names, " "), func(t *testing.T) {
					b.T = t
					b.both(mending{bad: deleted(c.names...)}, func(e nixtest.Engine) nixtest.Result {
						return e.Run(t, b.store, nixtest.Request{Targets: []string{b.tmpl.Drvs[c.target]}})
					})
				})
			}
		})
	}
}

// TestRepairPath repairs single paths by name.
func TestRepairPath(t *testing.T) {
	b := newBench(t, nixtest.Plain)
	const reason = "gobuild says why"
	for _, c := range []struct {
		mending
		paths []string
	}{
		{mending{name: "good", bad: nothing}, []string{"two"}},
		{mending{name: "changed", bad: changed("two/self")}, []string{"two"}},
		{mending{name: "missing", bad: gone("two-dev")}, []string{"two-dev"}},
		{mending{name: "closure", unordered: true, bad: changed("dep/file")}, []string{"top"}},
		{mending{name: "source", bad: nothing, exit: 1, allow: allow(string(nixtest.Stderr), reason), stderrHas: []string{"error: cannot repair path '"}},
			[]string{"source.txt"}},
		{mending{name: "deriver is not valid", bad: func(b *bench) { deleted("top", "top.drv")(b) }, exit: 1,
			allow: allow(string(nixtest.Stderr), reason), stderrHas: []string{"is not valid"}}, []string{"top"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.T = t
			b.copy(b.saved, b.store.Root)
			var paths []string
			for _, name := range c.paths {
				paths = append(paths, b.path(name))
			}
			b.both(c.mending, func(e nixtest.Engine) nixtest.Result {
				return e.RepairPaths(t, b.lab.Tools, b.store, paths...)
			})
		})
	}
}

// TestChecks builds again what is valid.
func TestChecks(t *testing.T) {
	const (
		allAtOnce = "gobuild reports all outputs that differ"
		ownPlace  = "build directories are in other places"
	)
	for _, mode := range sharedModes {
		t.Run(mode.String(), func(t *testing.T) {
			b := newBench(t, mode)
			for _, c := range []struct {
				mending
				target string
				args   []string
			}{
				{mending: mending{name: "equal", bad: nothing}, target: "two"},
				{mending: mending{name: "chain", bad: nothing}, target: "chain"},
				{mending: mending{name: "large", bad: nothing}, target: "big"},
				{mending: mending{name: "not valid", bad: deleted("top"), exit: 1}, target: "top"},
				{mending: mending{name: "differs", bad: nothing, exit: 104}, target: "fickle"},
				{mending: mending{name: "differs and is kept", bad: nothing, exit: 104, gobuildExit: 104, allow: allow(string(nixtest.Stderr), ownPlace, string(nixtest.Leftovers), ownPlace),
					stderrHas: []string{"note: keeping build directory '", "-fickle' differs from '", "-fickle.check'"}},
					target: "fickle", args: []string{"-K"}},
				{mending: mending{name: "both differ", bad: nothing, exit: 104, gobuildExit: 104, allow: allow(string(nixtest.Stderr), allAtOnce),
					stderrHas: []string{"-fickle-both-a' differs", "-fickle-both-b' differs"}}, target: "fickleBoth"},
				{mending: mending{name: "fixed", bad: func(b *bench) { b.text("hello") }}, target: "fixed"},
				{mending: mending{name: "fixed differs", bad: func(b *bench) { b.text("other") }, exit: 102,
					allow: allow(string(nixtest.Leftovers), "Nix 2.8 leaves the output that has the wrong hash in the store")}, target: "fixed"},
			} {
				t.Run(c.name, func(t *testing.T) {
					b.T = t
					b.both(c.mending, func(e nixtest.Engine) nixtest.Result {
						return e.Run(t, b.store, nixtest.Request{Targets: []string{b.tmpl.Drvs[c.target]}, Args: append([]string{"--check"}, c.args...)})
					})
				})
			}
		})
	}
}
