package drv

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"gobuild/internal/store/storepath"
)

// byAttr parses the manifest's derivation of that attribute.
func byAttr(t *testing.T, attr string) *Derivation {
	t.Helper()
	for _, v := range vectors(t) {
		if v.Attr == attr {
			return mustParse(t, v)
		}
	}
	t.Fatalf("no derivation '%s'", attr)
	return nil
}

// recipe makes a derivation with two outputs and those variables.
func recipe(env ...string) *Derivation {
	d := &Derivation{Name: "n", Outputs: []Output{{ID: "dev"}, {ID: "out"}}}
	for pair := range slices.Chunk(env, 2) {
		d.Env = append(d.Env, EnvVar{pair[0], pair[1]})
	}
	slices.SortFunc(d.Env, compareEnv)
	return d
}

func mustOptions(t *testing.T, d *Derivation) *Options {
	t.Helper()
	o, err := ParseOptions(nixStore, d)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

const (
	somePath  = "/nix/store/94f9f6i31zwzwbf0kclq1naqxxi4c7v9-simple"
	otherPath = "/nix/store/3p04jdnsw65v6nld53wli53r60p4xmjk-builder.sh"
)

func TestOptionsGoldenChecks(t *testing.T) {
	d := byAttr(t, "allowed")
	want := Checks{
		AllowedReferences:    []string{otherPath, "out"},
		AllowedRequisites:    []string{otherPath},
		DisallowedReferences: []string{somePath},
		DisallowedRequisites: []string{},
		IgnoreSelf:           true,
	}
	if got := mustOptions(t, d).Checks("out"); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	for entry, want := range map[string]Specifier{"out": {Output: "out"}, otherPath: {Path: otherPath}} {
		if got, err := d.Specifier(nixStore, entry); err != nil || got != want {
			t.Errorf("%s: %+v, %v", entry, got, err)
		}
	}
	if _, err := d.Specifier(nixStore, "doc"); err == nil || err.Error() != "derivation contains an illegal reference specifier 'doc'" {
		t.Errorf("error %v", err)
	}
}

func TestOptionsGoldenDiscard(t *testing.T) {
	o := mustOptions(t, byAttr(t, "discard"))
	if !o.DiscardsReferences("out") || o.DiscardsReferences("dev") || !o.Structured {
		t.Errorf("%+v", o)
	}
}

func TestOptionsUnset(t *testing.T) {
	o := mustOptions(t, recipe())
	if want := (Checks{IgnoreSelf: true}); !reflect.DeepEqual(o.Checks("out"), want) {
		t.Errorf("checks %+v", o.Checks("out"))
	}
	if !sameFacts(o.Facts, Facts{AllowSubstitutes: true}) || o.PassAsFile != nil || o.ExportGraphs != nil {
		t.Errorf("%+v", o)
	}
	empty := mustOptions(t, recipe("allowedReferences", " \n")).Checks("out")
	if empty.AllowedReferences == nil || len(empty.AllowedReferences) != 0 {
		t.Errorf("empty allowedReferences became %#v", empty.AllowedReferences)
	}
}

func TestOptionsPassAsFile(t *testing.T) {
	o := mustOptions(t, recipe("passAsFile", "big missing big", "big", "x"))
	if !slices.Equal(o.PassAsFile, []string{"big"}) {
		t.Errorf("%q", o.PassAsFile)
	}
	if got := PassAsFileName("big"); got != ".attr-1lak0mvllw8rv9i9ygkglvhqsq19qi9ynl4bi7gbf69ab5nzw89a" {
		t.Error(got)
	}
}

func TestOptionsImpureEnvVars(t *testing.T) {
	fetch := byAttr(t, "fetchurl")
	if got := mustOptions(t, fetch).ImpureEnvVars; len(got) != 5 || got[0] != "http_proxy" {
		t.Errorf("fixed: %q", got)
	}
	if got := mustOptions(t, recipe("impureEnvVars", "HOME")).ImpureEnvVars; got != nil {
		t.Errorf("not fixed: %q", got)
	}
}

func TestOptionsGraphs(t *testing.T) {
	o := mustOptions(t, recipe(attrGraph, "a.txt "+somePath+"/sub\n_b "+otherPath))
	want := []Graph{{"a.txt", []storepath.Path{somePath}}, {"_b", []storepath.Path{otherPath}}}
	if !reflect.DeepEqual(o.ExportGraphs, want) {
		t.Errorf("%+v", o.ExportGraphs)
	}
	o = mustOptions(t, recipe(JSONVar, `{"exportReferencesGraph":{"g":["`+somePath+`",[["`+otherPath+`"]]],"f":"`+somePath+`/x"}}`))
	want = []Graph{{"f", []storepath.Path{somePath}}, {"g", []storepath.Path{somePath, otherPath}}}
	if !reflect.DeepEqual(o.ExportGraphs, want) {
		t.Errorf("%+v", o.ExportGraphs)
	}
}

func TestOptionsStructured(t *testing.T) {
	d := recipe(JSONVar, `{"preferLocalBuild":true,"allowSubstitutes":false,"__noChroot":true,
		"requiredSystemFeatures":["kvm"],"allowedReferences":[],"maxSize":1,
		"outputChecks":{"out":{"maxSize":0,"maxClosureSize":1.5e3,"allowedReferences":[],"disallowedRequisites":["dev"]}}}`,
		"preferLocalBuild", "", "passAsFile", "out", "out", "")
	o := mustOptions(t, d)
	want := Facts{PreferLocalBuild: true, NoChroot: true, Structured: true, RequiredSystemFeatures: []string{"kvm"}}
	if !sameFacts(o.Facts, want) {
		t.Errorf("facts %+v", o.Facts)
	}
	zero, many := uint64(0), uint64(1500)
	checks := Checks{MaxSize: &zero, MaxClosureSize: &many, AllowedReferences: []string{}, DisallowedRequisites: []string{"dev"}}
	if got := o.Checks("out"); !reflect.DeepEqual(got, checks) {
		t.Errorf("checks %+v", got)
	}
	if got := o.Checks("dev"); !reflect.DeepEqual(got, Checks{}) {
		t.Errorf("checks of the other output %+v", got)
	}
	if !slices.Equal(o.Ignored, []string{"allowedReferences", "maxSize"}) || o.PassAsFile != nil {
		t.Errorf("ignored %q, files %q", o.Ignored, o.PassAsFile)
	}
}

func TestOptionsErrors(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{attrGraph, "a", "odd number of tokens in 'exportReferencesGraph': 'a'"},
		{attrGraph, ".a " + somePath, "invalid file name '.a' in 'exportReferencesGraph'"},
		{attrGraph, "a/b " + somePath, "invalid file name 'a/b'"},
		{attrGraph, "a /etc/passwd", "'exportReferencesGraph' contains a non-store path '/etc/passwd'"},
		{JSONVar, `{"exportReferencesGraph":{"g":[1]}}`, "neither a string nor a list"},
		{JSONVar, `{"exportReferencesGraph":["g"]}`, "attribute 'exportReferencesGraph' must be an object"},
		{JSONVar, `{"preferLocalBuild":"1"}`, "attribute 'preferLocalBuild' must be a Boolean"},
		{JSONVar, `{"requiredSystemFeatures":"kvm"}`, "attribute 'requiredSystemFeatures' must be a list of strings"},
		{JSONVar, `{"requiredSystemFeatures":[1]}`, "attribute 'requiredSystemFeatures' must be a list of strings"},
		{JSONVar, `{"outputChecks":{"out":1}}`, "attribute 'outputChecks.out' must be an object"},
		{JSONVar, `{"outputChecks":{"out":{"maxSize":"1"}}}`, "'outputChecks.out.maxSize' must be a number of bytes"},
		{JSONVar, `{"outputChecks":{"out":{"maxSize":-1}}}`, "must be a number of bytes"},
		{JSONVar, `{"outputChecks":{"out":{"maxSize":1e30}}}`, "must be a number of bytes"},
		{JSONVar, `{"unsafeDiscardReferences":{"out":1}}`, "attribute 'unsafeDiscardReferences.out' must be a Boolean"},
		{JSONVar, `{} x`, "cannot process '__json' attribute"},
		{JSONVar, `[]`, "not an object"},
		{JSONVar, "{\"a\":\"\xff\"}", "invalid UTF-8"},
		{JSONVar, `{"a":` + strings.Repeat("[", 100_000), "cannot process '__json' attribute"},
	} {
		_, err := ParseOptions(nixStore, recipe(c.name, c.value))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s = %.60s: error %v, want '%s'", c.name, c.value, err, c.want)
		}
	}
}

func FuzzParseOptions(f *testing.F) {
	for _, v := range vectors(f) {
		d := mustParse(f, v)
		for _, name := range []string{JSONVar, attrGraph, "allowedReferences", attrRequiredFeatures} {
			if s, ok := d.LookupEnv(name); ok {
				f.Add(name, s)
			}
		}
	}
	f.Add(JSONVar, `{"exportReferencesGraph":{"g":["`+somePath+`"]},"outputChecks":{"out":{"maxSize":1}}}`)
	f.Fuzz(func(t *testing.T, name, value string) {
		d := recipe(name, value)
		o, err := ParseOptions(nixStore, d)
		if err != nil {
			return
		}
		outline, err := ParseOutline(nixStore, d.Name, d.Unparse(), nil)
		if err != nil {
			t.Fatalf("not readable: %v", err)
		}
		if !sameFacts(outline.Facts, o.Facts) {
			t.Errorf("outline says %+v, options %+v", outline.Facts, o.Facts)
		}
	})
}
