package drvjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gobuild/internal/store/drv"
	"gobuild/internal/store/storepath"
)

const (
	golden   = "../../../../testdata/golden"
	nixStore = storepath.Dir("/nix/store")
)

// goldenPaths lists every golden derivation.
func goldenPaths(t testing.TB) (paths []storepath.Path) {
	t.Helper()
	names, err := filepath.Glob(golden + "/drv/*.drv")
	if err != nil || len(names) < 240 {
		t.Fatalf("%d golden derivations, %v", len(names), err)
	}
	for _, n := range names {
		p, err := nixStore.FromBase(filepath.Base(n))
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, p)
	}
	return paths
}

// readGolden reads a derivation as from a store.
func readGolden(p storepath.Path) (*drv.Derivation, error) {
	text, err := os.ReadFile(filepath.Join(golden, "drv", p.Base()))
	if err != nil {
		return nil, fmt.Errorf("opening file '%s': No such file or directory", p)
	}
	return drv.Parse(nixStore, strings.TrimSuffix(p.Name(), storepath.DrvSuffix), text)
}

// entry reads a golden derivation; those in the versioned form are skipped.
func entry(t testing.TB, p storepath.Path) (e Entry, ok bool) {
	t.Helper()
	d, err := readGolden(p)
	if errors.Is(err, drv.ErrDynamic) {
		return e, false
	}
	if err != nil {
		t.Fatal(err)
	}
	return Entry{p, d}, true
}

func onlyKey(t testing.TB, data []byte) storepath.Path {
	t.Helper()
	var m map[storepath.Path]any
	if err := json.Unmarshal(data, &m); err != nil || len(m) != 1 {
		t.Fatalf("%d keys, %v", len(m), err)
	}
	for p := range m {
		return p
	}
	return ""
}

func TestShowGolden(t *testing.T) {
	names, err := filepath.Glob(golden + "/drv-json/*.json")
	if err != nil || len(names) < 20 {
		t.Fatalf("%d vectors, %v", len(names), err)
	}
	for _, name := range names {
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		e, ok := entry(t, onlyKey(t, want))
		if !ok {
			continue
		}
		v := V2
		if strings.HasSuffix(name, "-2.8.json") {
			v = V1
		}
		got, err := Show(v, []Entry{e})
		if err != nil || !bytes.Equal(bytes.TrimSpace(got), bytes.TrimSpace(want)) {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, got, want)
		}
	}
}

// TestRoundTrip shows every golden derivation and reads it back, with the
// outputs' variables left in and taken out.
func TestRoundTrip(t *testing.T) {
	for _, p := range goldenPaths(t) {
		e, ok := entry(t, p)
		if !ok || strings.HasPrefix(p.Name(), "deep-1") { // half of a long chain is enough
			continue
		}
		for v := V2; v <= V4; v++ {
			shown, err := Show(v, []Entry{e})
			if err != nil {
				t.Errorf("%s, version %d: %v", p, v, err)
				continue
			}
			// Re-serialised structured attributes may differ from what the
			// expression language wrote: 2.8 spells "\b" by its number.
			if v >= V3 && strings.HasPrefix(p.Name(), "structured.") {
				continue
			}
			got, err := Parse(nixStore, shown, readGolden)
			if err != nil || len(got) != 1 {
				t.Errorf("%s, version %d: %v", p, v, err)
				continue
			}
			if got[0].Path != p || !bytes.Equal(got[0].Drv.Unparse(), e.Drv.Unparse()) {
				t.Errorf("%s, version %d: read back\n%s\nwant\n%s", p, v, got[0].Drv.Unparse(), e.Drv.Unparse())
			}
		}
	}
}

const simple = storepath.Path("/nix/store/3ghsl9sd83mc26i81adpa2fzf3yw4f68-simple.drv")

func TestShowVersions(t *testing.T) {
	e, _ := entry(t, "/nix/store/hq7a0d0iq1d4czh0k0hph2h1s598w3g9-fixed-flat-sha256.drv")
	v3, err := Show(V3, []Entry{e})
	if err != nil || !bytes.Contains(v3, []byte(`"hashAlgo": "sha256",
        "method": "flat"
      }`)) || !bytes.Contains(v3, []byte(`"version": 3`)) || bytes.Contains(v3, []byte(`"path"`)) {
		t.Errorf("version 3: %v\n%s", err, v3)
	}
	v4, err := Show(V4, []Entry{e})
	if err != nil || !bytes.Contains(v4, []byte(`"hash": "sha256-WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM=",
          "method": "flat"
        }`)) || !bytes.HasSuffix(v4, []byte("  },\n  \"version\": 4\n}\n")) {
		t.Errorf("version 4: %v\n%s", err, v4)
	}
	if _, err := Show(5, nil); err == nil {
		t.Error("version 5 shown")
	}
	e.Drv.Args = []string{"\xff"}
	if _, err := Show(V2, []Entry{e}); !errors.Is(err, errNotUTF8) {
		t.Errorf("not UTF-8: %v", err)
	}
}

func TestParseFillsIn(t *testing.T) {
	const text = `{"name":"simple","system":"x86_64-linux","builder":"/bin/sh","args":["-c","echo hello > $out"],
		"env":{"builder":"/bin/sh","name":"simple","system":"x86_64-linux"},"outputs":{"out":{}},`
	for _, inputs := range []string{
		`"inputSrcs":[],"inputDrvs":{}}`,
		`"version":3,"inputSrcs":[],"inputDrvs":{}}`,
		`"version":4,"inputs":{"srcs":[],"drvs":{}}}`,
	} {
		got, err := Parse(nixStore, []byte(text+inputs), nil)
		if err != nil || len(got) != 1 || got[0].Path != simple {
			t.Errorf("%s: %+v, %v", inputs, got, err)
		}
	}
}

func TestParseOrdersInputsFirst(t *testing.T) {
	user, _ := entry(t, "/nix/store/a6pnzfacv6hm506nzyjxazabp9mi4an8-with-multi-dep.drv")
	input, _ := entry(t, "/nix/store/bazxy7s11dpvn3i6cs5cnd7l1a5y2s7m-multi.drv")
	for v := V2; v <= V4; v++ {
		shown, err := Show(v, []Entry{user, input})
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(nixStore, shown, func(p storepath.Path) (*drv.Derivation, error) {
			return nil, fmt.Errorf("'%s' was not to be read", p)
		})
		if err != nil || len(got) != 2 || got[0].Path != input.Path || got[1].Path != user.Path {
			t.Errorf("version %d: %+v, %v", v, got, err)
		}
	}
}

func TestParseErrors(t *testing.T) {
	e, _ := entry(t, simple)
	shown, err := Show(V2, []Entry{e})
	if err != nil {
		t.Fatal(err)
	}
	var keyed map[string]json.RawMessage
	if err := json.Unmarshal(shown, &keyed); err != nil {
		t.Fatal(err)
	}
	const out = "/nix/store/94f9f6i31zwzwbf0kclq1naqxxi4c7v9-simple"
	output := `{"path":"` + out + `"}`
	var compact bytes.Buffer
	if err := json.Compact(&compact, keyed[string(simple)]); err != nil {
		t.Fatal(err)
	}
	one := compact.String()
	if _, err := Parse(nixStore, []byte(one), nil); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(one, output) {
		t.Fatal(one)
	}
	swap := func(old, with string) string { return strings.Replace(one, old, with, 1) }
	for _, c := range []struct{ text, want string }{
		{``, "reading JSON"},
		{`[]`, "expected a JSON object"},
		{`{}`, "contain key 'name'"},
		{one + "x", "after the end"},
		{"\"\xff\"", "not UTF-8"},
		{`{"a":` + strings.Repeat("[", 100000), "reading JSON"},
		{swap(`"name":"simple",`, ``), "has incorrect output"}, // that one is the variable
		{swap(`"out":"`+out, `"out":"/other`), "has incorrect environment variable 'out'"},
		{swap(`"name":"simple","outputs"`, `"outputs"`), "contain key 'name'"},
		{swap(`"name":"simple","outputs"`, `"name":"si/mple","outputs"`), "illegal character"},
		{swap(`"inputSrcs":[]`, `"inputSrcs":["/etc/passwd"]`), "is not in the Nix store"},
		{swap(`"inputSrcs":[]`, `"inputSrcs":[1]`), "a list of strings"},
		{swap(`"inputSrcs":[]`, `"inputSrcs":{}`), "a list of strings"},
		{swap(`"inputDrvs":{}`, `"inputDrvs":{"`+out+`":{"outputs":["out"],"dynamicOutputs":{}}}`), "not a valid derivation path"},
		{swap(`"inputDrvs":{}`, `"inputDrvs":{"`+string(simple)+`":{"outputs":[],"dynamicOutputs":{}}}`), "without an output"},
		{swap(`"inputDrvs":{}`, `"inputDrvs":{"`+string(simple)+`":{"outputs":[],"dynamicOutputs":{"out":{}}}}`), "dynamic derivations"},
		{swap(`"inputDrvs":{}`, `"inputDrvs":{"`+string(simple)+`":"out"}`), "to be an object"},
		{swap(`"inputDrvs":{}`, `"inputDrvs":{"`+string(simple)+`":["out",1]}`), "a list of strings"},
		// A plain list of outputs is as good as an object: only the paths are wrong then.
		{swap(`"inputDrvs":{}`, `"inputDrvs":{"`+string(simple)+`":["out"]}`), "has incorrect output"},
		{swap(`"inputDrvs":{}`, `"inputDrvs":{"`+string(simple)+`":{"outputs":["out"]}}`), "has incorrect output"},
		{swap(`"inputDrvs":{}`, `"inputDrvs":{},"version":2`), "unsupported version"},
		{swap(`"inputDrvs":{}`, `"inputDrvs":{},"version":3`), "contains illegal base-32 character '/'"},
		{swap(`"inputDrvs":{}`, `"inputDrvs":{},"extra":1`), "unexpected key 'extra'"},
		{swap(output, `{"path":"`+out+`","hash":""}`), "invalid JSON for derivation output 'out'"},
		{swap(output, `{"path":"/nix/store/00000000000000000000000000000000-simple"}`), "has incorrect output"},
		{swap(output, `{"hashAlgo":"r:sha256","method":"nar"}`), "unknown hash algorithm"},
		{swap(output, `{"hashAlgo":"sha256","method":"recursive"}`), "unknown method 'recursive'"},
		{swap(output, `{"hashAlgo":"sha256","method":"nar","impure":false}`), "invalid JSON for derivation output"},
		{swap(`{"out":`+output+`}`, `{"a/b":{}}`), "invalid JSON for derivation output 'a/b'"},
		{swap(`{"out":`+output+`}`, `{}`), "must have at least one output"},
		{`{"derivations":{},"version":3}`, "must have version 4"},
		{`{"derivations":{}}`, "must have version 4"},
		{`{"x.drv":{}}`, "too short"},
		{`{"` + string(simple) + `":1}`, "expected a JSON object"},
	} {
		_, err := Parse(nixStore, []byte(c.text), readGolden)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.200s: error %v, want '%s'", c.text, err, c.want)
		}
	}
}

func TestParseLoop(t *testing.T) {
	const key = "/nix/store/00000000000000000000000000000000-a.drv"
	text := `{"` + key + `":{"name":"a","system":"s","builder":"b","args":[],"env":{},"outputs":{"out":{}},"inputSrcs":[],
		"inputDrvs":{"` + key + `":{"outputs":["out"],"dynamicOutputs":{}}}}}`
	if _, err := Parse(nixStore, []byte(text), readGolden); err == nil || !strings.Contains(err.Error(), "No such file") {
		t.Errorf("error %v", err)
	}
}

func FuzzParse(f *testing.F) {
	names, err := filepath.Glob(golden + "/drv-json/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, n := range names {
		text, err := os.ReadFile(n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
		if e, ok := entry(f, onlyKey(f, text)); ok {
			for v := V3; v <= V4; v++ {
				shown, err := Show(v, []Entry{e})
				if err != nil {
					f.Fatal(err)
				}
				f.Add(shown)
			}
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		entries, err := Parse(nixStore, text, readGolden)
		if err != nil {
			return
		}
		for _, e := range entries {
			again, err := drv.Parse(nixStore, e.Drv.Name, e.Drv.Unparse())
			if err != nil || !bytes.Equal(again.Unparse(), e.Drv.Unparse()) {
				t.Fatalf("cannot be stored: %v\n%s", err, e.Drv.Unparse())
			}
			last := V4
			if _, ok := e.Drv.LookupEnv(drv.JSONVar); ok {
				last = V2 // structured attributes keep their bytes only there
			}
			for v := V2; v <= last; v++ {
				shown, err := Show(v, []Entry{e})
				if err != nil {
					t.Fatal(err)
				}
				back, err := Parse(nixStore, shown, readGolden)
				if err != nil || back[0].Path != e.Path {
					t.Fatalf("version %d: %v\n%s", v, err, shown)
				}
			}
		}
	})
}
