package conformance_test

import (
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gobuild/internal/conformance/nixtest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	nixtest.Discard()
	os.Exit(code)
}

func expression(name string) string {
	return filepath.Join(nixtest.Tree(), "testdata/conformance", name)
}

// TestCases runs every case with both engines, each in a fresh copy of one store.
func TestCases(t *testing.T) {
	for _, mode := range []nixtest.Mode{nixtest.Sandbox, nixtest.Users, nixtest.Plain} {
		t.Run(mode.String(), func(t *testing.T) {
			if mode == nixtest.Users {
				requireBuildUsers(t)
			}
			runCases(t, mode)
		})
	}
}

func runCases(t *testing.T, mode nixtest.Mode) {
	lab := nixtest.NewLab(t, mode)
	tmpl := lab.Instantiate(t, expression("default.nix"), nil)
	nix, gobuild := nixtest.Nix(lab.Tools), nixtest.Gobuild(t)
	for _, c := range cases {
		if !c.runsIn(mode) {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			c.run(t, lab, tmpl, nix, gobuild)
		})
	}
}

func (c testCase) runsIn(mode nixtest.Mode) bool {
	switch mode {
	case nixtest.Plain:
		return c.where != sandboxOnly
	case nixtest.Users:
		return c.users
	default:
		return c.where != plainOnly
	}
}

// run builds with one engine after the other: without a sandbox both use the same place.
func (c testCase) run(t *testing.T, lab *nixtest.Lab, tmpl *nixtest.Template, nix, gobuild nixtest.Engine) {
	nixStore := tmpl.NewStore(t)
	request := nixtest.Request{Targets: c.resolve(t, tmpl, nixStore), Args: c.args, Env: c.env}
	nixResult := nix.Run(t, nixStore, request)
	nixSnapshot := nixtest.Take(t, nixStore)
	if nixResult.Exit != c.exit {
		t.Fatalf("the case expects exit status %d of real Nix, got %d:\n%s", c.exit, nixResult.Exit, nixResult.Stderr)
	}
	nixSaid := c.sorted(nixtest.Plainly(nixStore, nixResult))

	store := tmpl.NewStore(t)
	result := gobuild.Run(t, store, request)
	snapshot := nixtest.Take(t, store)
	differences := append(nixtest.CompareResults(nixSaid, c.sorted(nixtest.Plainly(store, result))), nixtest.CompareSnapshots(nixSnapshot, snapshot)...)
	for _, d := range differences {
		if why, ok := c.allow[d.Kind]; ok {
			t.Logf("accepted, because %s: %s: %s", why, d.Kind, d.Text)
			continue
		}
		t.Errorf("%s: %s", d.Kind, d.Text)
	}
	c.checkAllowed(t, nixtest.Plainly(store, result))
	nixtest.Verify(t, lab.Tools, store)
}

// sorted takes the order out of standard error if the case says so.
func (c testCase) sorted(r nixtest.Result) nixtest.Result {
	if c.unordered {
		lines := strings.SplitAfter(r.Stderr, "\n")
		slices.Sort(lines)
		r.Stderr = strings.Join(lines, "")
	}
	return r
}

// checkAllowed holds gobuild to its own promise where it may differ from Nix.
func (c testCase) checkAllowed(t *testing.T, result nixtest.Result) {
	if os.Getenv(nixtest.EngineVar) == "nix" {
		return
	}
	if _, differs := c.allow[nixtest.Exit]; differs && result.Exit != c.gobuildExit {
		t.Errorf("gobuild ended with exit status %d, want %d:\n%s", result.Exit, c.gobuildExit, result.Stderr)
	}
	for _, want := range c.stderrHas {
		if !strings.Contains(result.Stderr, want) {
			t.Errorf("gobuild's standard error lacks %q:\n%s", want, result.Stderr)
		}
	}
}

// resolve turns attributes into derivation paths; a target "/NAME" means a path of the store that has or ends in that name.
func (c testCase) resolve(t *testing.T, tmpl *nixtest.Template, store *nixtest.Store) []string {
	targets := c.targets
	if targets == nil {
		targets = []string{c.name}
	}
	var paths []string
	for _, target := range targets {
		if name, ok := strings.CutPrefix(target, "/"); ok {
			found, _ := filepath.Glob(filepath.Join(store.Dir(), "*-"+name))
			if len(found) == 1 {
				name = filepath.Base(found[0])
			}
			paths = append(paths, filepath.Join(store.LogicalDir(), name))
			continue
		}
		attr, outputs, some := strings.Cut(target, "!")
		path, ok := tmpl.Drvs[attr]
		if !ok {
			t.Fatalf("no derivation '%s'", attr)
		}
		if some {
			path += "!" + outputs
		}
		paths = append(paths, path)
	}
	return paths
}

// TestEveryDerivationIsUsed keeps the expressions and the table together.
func TestEveryDerivationIsUsed(t *testing.T) {
	lab := nixtest.NewLab(t, nixtest.Sandbox)
	tmpl := lab.Instantiate(t, expression("default.nix"), nil)
	var used []string
	for _, c := range cases {
		used = append(used, c.name)
		for _, target := range c.targets {
			attr, _, _ := strings.Cut(target, "!")
			used = append(used, attr)
		}
	}
	for attr := range tmpl.Drvs {
		if !slices.Contains(used, attr) {
			t.Errorf("no case builds '%s'", attr)
		}
	}
}

func requireBuildUsers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("skipped: build users need root")
	}
	if _, err := user.LookupGroup("nixbld"); err != nil {
		t.Skipf("skipped: no build users: %v", err)
	}
}
