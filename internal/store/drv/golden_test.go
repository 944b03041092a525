package drv

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gobuild/internal/store/storepath"
)

const golden = "../../../testdata/golden"

const nixStore = storepath.Dir("/nix/store")

// A vector is one entry of drv-manifest.json.
type vector struct {
	Attr, File, Kind, Name, Note string
	Path                         storepath.Path
	References                   []storepath.Path
	ModuloKind                   string
	ModuloMasked, ModuloAsInput  map[string]string
	Outputs                      map[string]struct {
		Hash, MethodAlgo string
		Path             *string
	}
}

func (v vector) drvName() string { return strings.TrimSuffix(v.Path.Name(), storepath.DrvSuffix) }

func (v vector) text(t testing.TB) []byte { return goldenFile(t, v.File) }

func goldenFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(golden, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func goldenJSON(t testing.TB, name string, into any) {
	t.Helper()
	if err := json.Unmarshal(goldenFile(t, name), into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// vectors are the derivations of the manifest in the form that is supported.
func vectors(t testing.TB) []vector {
	t.Helper()
	var m struct{ Derivations []vector }
	goldenJSON(t, "drv-manifest.json", &m)
	var plain []vector
	for _, v := range m.Derivations {
		if v.Note == "" {
			plain = append(plain, v)
		}
	}
	if len(plain) < 240 {
		t.Fatalf("only %d derivations in the manifest", len(plain))
	}
	return plain
}

func mustParse(t testing.TB, v vector) *Derivation {
	t.Helper()
	d, err := Parse(nixStore, v.drvName(), v.text(t))
	if err != nil {
		t.Fatalf("%s: %v", v.Path, err)
	}
	return d
}
