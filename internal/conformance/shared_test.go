package conformance_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gobuild/internal/conformance/nixtest"
)

// both modes in which two engines can share a store.
var sharedModes = []nixtest.Mode{nixtest.Sandbox, nixtest.Plain}

// TestTakingTurns lets Nix build one half of a graph and gobuild the other, layer by layer, in one store.
func TestTakingTurns(t *testing.T) {
	for _, mode := range sharedModes {
		t.Run(mode.String(), func(t *testing.T) {
			lab := nixtest.NewLab(t, mode)
			engines := []nixtest.Engine{nixtest.Nix(lab.Tools), nixtest.Gobuild(t)}
			tmpl := lab.Instantiate(t, expression("default.nix"), nil)
			store := tmpl.NewStore(t)
			attrs := []string{"chain", "diamond", "usesDep", "usesOutputs", "refInputs", "exportGraph", "structured", "fixedFromFixed", "tree", "failA",
				"modes", "refSiblingChain", "drvAllOutputs", "builderFromStore", "fixedMismatchFlat", "sourceTree", "allowedRequisites", "bigFile"}
			for i, attr := range attrs {
				engine := engines[i%2]
				request := nixtest.Request{Targets: []string{tmpl.Drvs[attr]}}
				first := engine.Run(t, store, request)
				second := engines[(i+1)%2].Run(t, store, request)
				if first.Exit != second.Exit || first.Stdout != second.Stdout {
					t.Errorf("%s: %s ended with %d and printed %q, then the other with %d and %q\n%s%s", attr, engine.Name,
						first.Exit, first.Stdout, second.Exit, second.Stdout, first.Stderr, second.Stderr)
				}
				if first.Exit == 0 && strings.Contains(second.Stderr, "building '") {
					t.Errorf("%s: built a second time:\n%s", attr, second.Stderr)
				}
			}
			nixtest.Verify(t, lab.Tools, store)
		})
	}
}

// TestBothAtOnce runs both engines on one store with the same targets. Each derivation may be built once only.
func TestBothAtOnce(t *testing.T) {
	const rounds = 10
	for _, mode := range sharedModes {
		t.Run(mode.String(), func(t *testing.T) {
			lab := nixtest.NewLab(t, mode)
			nix, gobuild := nixtest.Nix(lab.Tools), nixtest.Gobuild(t)
			tmpl := lab.Instantiate(t, expression("graph.nix"), map[string]string{"layers": "4", "width": "5"})
			request := nixtest.Request{Targets: slices.Sorted(maps.Values(tmpl.Drvs)), Args: []string{"-j", "2"}}
			for round := range rounds {
				t.Run(fmt.Sprint(round), func(t *testing.T) {
					store := tmpl.NewStore(t)
					clearLog(t, lab)
					a, b := nix.Start(t, store, request), gobuild.Start(t, store, request)
					nixResult, gobuildResult := a.Wait(t), b.Wait(t)
					if nixResult.Exit != 0 || gobuildResult.Exit != 0 {
						t.Errorf("nix ended with %d:\n%s\ngobuild with %d:\n%s", nixResult.Exit, nixResult.Stderr, gobuildResult.Exit, gobuildResult.Stderr)
					}
					if nixResult.Stdout != gobuildResult.Stdout {
						t.Errorf("nix printed %q, gobuild %q", nixResult.Stdout, gobuildResult.Stdout)
					}
					expectOnce(t, lab, 20)
					nixtest.Verify(t, lab.Tools, store)
				})
			}
		})
	}
}

func clearLog(t *testing.T, lab *nixtest.Lab) {
	t.Helper()
	path := filepath.Join(lab.CounterDir(), "log")
	if err := os.WriteFile(path, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	// Whatever the umask: a build user appends to it.
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
}

// started counts how often each builder began.
func started(t *testing.T, lab *nixtest.Lab) map[string]int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(lab.CounterDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	times := map[string]int{}
	for name := range strings.FieldsSeq(string(text)) {
		times[name]++
	}
	return times
}

func expectOnce(t *testing.T, lab *nixtest.Lab, derivations int) {
	t.Helper()
	times := started(t, lab)
	if len(times) != derivations {
		t.Errorf("%d derivations were built, want %d", len(times), derivations)
	}
	for _, name := range slices.Sorted(maps.Keys(times)) {
		if times[name] != 1 {
			t.Errorf("%s was built %d times", name, times[name])
		}
	}
}
