package drv

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gobuild/internal/store/storepath"
)

func TestParseGolden(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.Path.Base(), func(t *testing.T) {
			d := mustParse(t, v)
			if got := d.Unparse(); !bytes.Equal(got, v.text(t)) {
				t.Errorf("unparsed:\n%s\nwant:\n%s", got, v.text(t))
			}
			if refs := d.References(); !slices.Equal(refs, v.References) {
				t.Errorf("references %q, want %q", refs, v.References)
			}
			if p, err := d.Path(nixStore); err != nil || p != v.Path {
				t.Errorf("path %s, %v", p, err)
			}
			if d.Kind().String() != v.Kind || d.IsFixed() != (v.Kind == "fixed") {
				t.Errorf("kind %s, want %s", d.Kind(), v.Kind)
			}
			checkOutputFields(t, d, v)
		})
	}
}

func checkOutputFields(t *testing.T, d *Derivation, v vector) {
	t.Helper()
	if len(d.Outputs) != len(v.Outputs) {
		t.Errorf("%d outputs, want %d", len(d.Outputs), len(v.Outputs))
	}
	for id, want := range v.Outputs {
		o, ok := d.Output(id)
		var path string
		if want.Path != nil {
			path = *want.Path
		}
		if !ok || string(o.Path) != path || o.MethodAlgo != want.MethodAlgo || o.Hash != want.Hash {
			t.Errorf("output %s: %+v, want %+v with path '%s'", id, o, want, path)
		}
	}
}

// checkOutline holds an outline to the derivation of the same text.
func checkOutline(t *testing.T, o *Outline, d *Derivation) {
	t.Helper()
	if o.Name != d.Name || o.Platform != d.Platform || o.Kind() != d.Kind() {
		t.Errorf("outline %+v of %+v", o, d)
	}
	if !reflect.DeepEqual(o.Outputs, d.Outputs) || !reflect.DeepEqual(o.InputDrvs, d.InputDrvs) || !slices.Equal(o.InputSrcs, d.InputSrcs) {
		t.Errorf("outline %+v of %+v", o, d)
	}
	if o.Builtin != strings.HasPrefix(d.Builder, BuiltinPrefix) {
		t.Errorf("builtin %v for builder '%s'", o.Builtin, d.Builder)
	}
	if a, err := attrsOf(d); err == nil {
		if f, err := a.facts(); err == nil && !sameFacts(f, o.Facts) {
			t.Errorf("facts %+v, want %+v", o.Facts, f)
		}
	}
}

func sameFacts(a, b Facts) bool {
	same := slices.Equal(a.RequiredSystemFeatures, b.RequiredSystemFeatures)
	a.RequiredSystemFeatures, b.RequiredSystemFeatures = nil, nil
	return same && reflect.DeepEqual(a, b)
}

func TestParseOutlineGolden(t *testing.T) {
	pool := NewIntern()
	for _, v := range vectors(t) {
		o, err := ParseOutline(nixStore, v.drvName(), v.text(t), pool)
		if err != nil {
			t.Fatalf("%s: %v", v.Path, err)
		}
		checkOutline(t, o, mustParse(t, v))
	}
}

// badVerdicts is what derivation spec section 3 asks for: part of the parse
// error, or "" where the text must be read. Texts whose fault only
// registration can see are in modulo_test.go.
var badVerdicts = map[string]string{
	"empty":                      "expected string 'Derive(['",
	"head-lower":                 "expected string 'Derive(['",
	"leading-space":              "expected string 'Derive(['",
	"truncated-head":             "expected string 'Derive(['",
	"truncated-after-outputs":    "expected string ',['",
	"truncated-no-final-paren":   "expected string ')'",
	"unterminated-string":        "unterminated string",
	"unterminated-escape":        "unterminated string",
	"trailing-newline":           "",
	"trailing-garbage":           "",
	"space-after-comma":          `expected string '"'`,
	"leading-comma-in-list":      "",
	"trailing-comma-in-list":     `expected string '"'`,
	"double-comma-in-list":       `expected string '"'`,
	"missing-comma-in-list":      "",
	"unknown-escape":             "",
	"escape-zero":                "",
	"raw-newline-in-string":      "",
	"nul-in-string":              "",
	"latin1-byte-in-string":      "",
	"output-path-relative":       "bad path 'nix/store/x' in derivation",
	"output-path-not-in-store":   "path '/elsewhere/x' is not in the Nix store",
	"output-path-wrong":          "",
	"output-path-noncanonical":   "is not in the Nix store",
	"output-path-empty-deferred": "",
	"output-env-missing":         "",
	"output-env-wrong":           "",
	"no-outputs":                 "must have at least one output",
	"duplicate-output":           "",
	"duplicate-env":              "",
	"unsorted-env":               "",
	"unsorted-outputs":           "",
	"env-missing-value":          "expected string ','",
	"env-triple":                 "expected string ')'",
	"inputdrv-not-drv":           "store path '3ghsl9sd83mc26i81adpa2fzf3yw4f68-simple' is not a valid derivation path",
	"inputdrv-relative":          "bad path 'x/nix/store/",
	"inputdrv-empty-outputs":     "is listed without an output",
	"inputdrv-unknown-output":    "",
	"inputdrv-invalid-path":      "",
	"inputsrc-relative":          "bad path 'foo' in derivation",
	"inputsrc-not-in-store":      "path '/etc/passwd' is not in the Nix store",
	"inputsrc-invalid-path":      "",
	"fixed-unknown-algo":         "unknown hash algorithm 'sha3'",
	"fixed-uppercase-hex":        "",
	"fixed-nix32-hash":           "",
	"fixed-short-hash":           "hash '5891' has wrong length for hash",
	"fixed-empty-hash-with-path": "content-addressed derivation output should not specify output path",
	"fixed-hash-without-algo":    "",
	"fixed-wrong-path":           "has incorrect path",
	"fixed-wrong-env":            "",
	"fixed-not-named-out":        `single fixed output must be named "out"`,
	"mixed-output-types":         "can't mix derivation output types",
	"impure-with-path":           "impure derivation output should not specify output path",
	"version-unknown":            "unknown derivation ATerm format version 'foo'",
}

type badVector struct{ File, DrvName string }

func badVectors(t testing.TB) map[string]badVector {
	var m map[string]badVector
	goldenJSON(t, "drv-bad.json", &m)
	return m
}

func TestParseBad(t *testing.T) {
	all := badVectors(t)
	if len(all) != len(badVerdicts) {
		t.Errorf("%d vectors, %d verdicts", len(all), len(badVerdicts))
	}
	for name, v := range all {
		t.Run(name, func(t *testing.T) {
			want, ok := badVerdicts[name]
			if !ok {
				t.Fatal("no verdict")
			}
			text := goldenFile(t, v.File)
			d, err := Parse(nixStore, v.DrvName, text)
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Fatalf("error %v, want '%s'", err, want)
			}
			o, oerr := ParseOutline(nixStore, v.DrvName, text, nil)
			if err == nil && oerr == nil {
				checkOutline(t, o, d)
			} else if err == nil || oerr == nil || err.Error() != oerr.Error() {
				t.Errorf("Parse: %v, ParseOutline: %v", err, oerr)
			}
		})
	}
}

// skeleton is a derivation with holes for the lists.
func skeleton(outputs, inputs, sources, args, env string) []byte {
	return []byte(`Derive([` + outputs + `],[` + inputs + `],[` + sources + `],"p","/b",[` + args + `],[` + env + `])`)
}

func TestParseNormalises(t *testing.T) {
	const (
		a = "/nix/store/3ghsl9sd83mc26i81adpa2fzf3yw4f68-a.drv"
		b = "/nix/store/94f9f6i31zwzwbf0kclq1naqxxi4c7v9-b.drv"
	)
	text := skeleton(`("out","","",""),("dev","","",""),("out","","","ignored")`,
		`("`+b+`",["x"]),("`+a+`",["out","dev","out"]),("`+b+`",["y"])`,
		`"`+b+`","`+a+`","`+b+`"`, `"z","\t\q\\\"\n"`, `("k","1"),("a\"b",""),("k","2")`)
	d, err := Parse(nixStore, "n", text)
	if err != nil {
		t.Fatal(err)
	}
	want := skeleton(`("dev","","",""),("out","","","")`,
		`("`+a+`",["dev","out"]),("`+b+`",["y"])`, `"`+a+`","`+b+`"`, `"z","\tq\\\"\n"`, `("a\"b",""),("k","2")`)
	if got := d.Unparse(); !bytes.Equal(got, want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if d.repeated != "out" {
		t.Errorf("repeated output '%s' not noticed", d.repeated)
	}
	if v, ok := d.LookupEnv("k"); !ok || v != "2" {
		t.Errorf("k = '%s', %v", v, ok)
	}
	if _, ok := d.LookupEnv("j"); ok {
		t.Error("found a variable that is not there")
	}
	if got := d.References(); !slices.Equal(got, []storepath.Path{a, b}) {
		t.Errorf("references %q", got)
	}
}

func TestParseNormalisesFixedHash(t *testing.T) {
	var vs = badVectors(t)
	plain := Output{}
	for _, name := range []string{"fixed-wrong-env", "fixed-uppercase-hex", "fixed-nix32-hash"} {
		d, err := Parse(nixStore, vs[name].DrvName, goldenFile(t, vs[name].File))
		if err != nil {
			t.Fatal(name, err)
		}
		if plain.ID == "" {
			plain = d.Outputs[0]
		}
		if d.Outputs[0] != plain {
			t.Errorf("%s: output %+v, want %+v", name, d.Outputs[0], plain)
		}
	}
}

func TestParseDynamic(t *testing.T) {
	text := goldenFile(t, "drv/5kgbcrq7xn02cpxif2zzv7q5ris4yf84-dyn.drv")
	if _, err := Parse(nixStore, "dyn", text); !errors.Is(err, ErrDynamic) {
		t.Errorf("Parse: %v", err)
	}
	if _, err := ParseOutline(nixStore, "dyn", text, nil); !errors.Is(err, ErrDynamic) {
		t.Errorf("ParseOutline: %v", err)
	}
}

func TestParseRefusesOutputNames(t *testing.T) {
	for _, id := range []string{"", ".", "..", "a/b", "a b", "a\x00"} {
		if _, err := Parse(nixStore, "n", skeleton(`("`+id+`","","","")`, "", "", "", "")); err == nil {
			t.Errorf("output name %q accepted", id)
		}
	}
}

func TestOutlineFacts(t *testing.T) {
	for _, c := range []struct {
		env  string
		want Facts
	}{
		{``, Facts{AllowSubstitutes: true}},
		{`("preferLocalBuild","1"),("__noChroot","1"),("allowSubstitutes","")`, Facts{PreferLocalBuild: true, NoChroot: true}},
		{`("allowSubstitutes","0"),("allowSubstitutes","1"),("preferLocalBuild","true")`, Facts{AllowSubstitutes: true}},
		{`("requiredSystemFeatures"," kvm\n big-parallel ")`, Facts{AllowSubstitutes: true, RequiredSystemFeatures: []string{"kvm", "big-parallel"}}},
		{`("__json","{\"allowSubstitutes\":false,\"requiredSystemFeatures\":[\"kvm\"]}"),("preferLocalBuild","1")`, Facts{Structured: true, RequiredSystemFeatures: []string{"kvm"}}},
		{`("__json","{\"preferLocal\\u0042uild\":true}")`, Facts{Structured: true, AllowSubstitutes: true, PreferLocalBuild: true}},
		{`("__json","allowSubstitutes, but no JSON")`, Facts{Structured: true, AllowSubstitutes: true}},
		{`("__json","{\"x\":1}")`, Facts{Structured: true, AllowSubstitutes: true}},
	} {
		o, err := ParseOutline(nixStore, "n", skeleton(`("out","","","")`, "", "", "", c.env), nil)
		if err != nil {
			t.Errorf("%s: %v", c.env, err)
		} else if !sameFacts(o.Facts, c.want) {
			t.Errorf("%s: %+v, want %+v", c.env, o.Facts, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, v := range vectors(f)[:40] {
		f.Add(v.drvName(), v.text(f))
	}
	for _, v := range badVectors(f) {
		f.Add(v.DrvName, goldenFile(f, v.File))
	}
	f.Fuzz(func(t *testing.T, name string, text []byte) {
		d, err := Parse(nixStore, name, text)
		o, oerr := ParseOutline(nixStore, name, text, nil)
		if (err == nil) != (oerr == nil) {
			t.Fatalf("Parse: %v, ParseOutline: %v", err, oerr)
		}
		if err != nil {
			return
		}
		checkOutline(t, o, d)
		once := d.Unparse()
		again, err := Parse(nixStore, name, once)
		if err != nil {
			t.Fatalf("unparsed text is refused: %v\n%s", err, once)
		}
		if twice := again.Unparse(); !bytes.Equal(once, twice) {
			t.Errorf("not a fixed point:\n%s\n%s", once, twice)
		}
	})
}
