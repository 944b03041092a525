// Package nixtest runs real Nix and gobuild on stores of their own and tells where the two differ.
package nixtest

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// RequireVar names the environment variable that turns a missing tool from a skipped test into a failed one.
const RequireVar = "GOBUILD_REQUIRE_NIX"

// BinaryVar names the environment variable that holds the gobuild program to test; unset, it is built from this tree.
const BinaryVar = "GOBUILD_BIN"

// EngineVar set to "nix" puts real Nix in gobuild's place: every difference found then is the suite's own mistake.
const EngineVar = "GOBUILD_CONFORMANCE_ENGINE"

// Tools are the programs that the suite runs.
type Tools struct {
	NixStore       string
	NixInstantiate string
	Shell          string // a statically linked busybox, run under the name "sh"
}

// FindTools looks for the programs; it skips the test if one is absent, or fails it if RequireVar is "1".
func FindTools(t testing.TB) Tools {
	t.Helper()
	var tools Tools
	for _, want := range []struct {
		name string
		into *string
	}{
		{"nix-store", &tools.NixStore},
		{"nix-instantiate", &tools.NixInstantiate},
		{"busybox", &tools.Shell},
	} {
		path, err := exec.LookPath(want.name)
		if err != nil {
			absent(t, want.name+" is not installed")
		}
		*want.into = path
	}
	tools.Shell, _ = filepath.EvalSymlinks(tools.Shell)
	if !static(tools.Shell) {
		absent(t, "busybox is not statically linked")
	}
	return tools
}

func absent(t testing.TB, what string) {
	t.Helper()
	if os.Getenv(RequireVar) == "1" {
		t.Fatalf("%s, and %s=1 demands a comparison with real Nix", what, RequireVar)
	}
	t.Skipf("skipped: %s; a comparison with real Nix is not possible", what)
}

// static tells whether a program runs in a sandbox that holds nothing but itself.
func static(path string) bool {
	f, err := elf.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	libs, err := f.ImportedLibraries()
	return err == nil && len(libs) == 0
}
