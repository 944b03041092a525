package drv

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func outputPaths(d *Derivation) map[string]string {
	paths := map[string]string{}
	for _, o := range d.Outputs {
		paths[o.ID] = string(o.Path)
	}
	return paths
}

func TestStructuredFilesGolden(t *testing.T) {
	for _, version := range []string{"2.8", "2.26"} {
		base := filepath.Join("structured-attrs", "sa-"+version)
		d, err := Parse(nixStore, "sa", goldenFile(t, base+".drv"))
		if err != nil {
			t.Fatal(err)
		}
		gotJSON, gotShell, err := StructuredFiles(d, outputPaths(d), nil)
		if err != nil {
			t.Fatal(err)
		}
		if want := goldenFile(t, base+".attrs.json"); string(gotJSON) != string(want) {
			t.Errorf("%s: JSON\n%s\nwant\n%s", version, gotJSON, want)
		}
		if want := goldenFile(t, base+".attrs.sh"); string(gotShell) != string(want) {
			t.Errorf("%s: shell\n%s\nwant\n%s", version, gotShell, want)
		}
	}
}

func TestStructuredFilesGraphs(t *testing.T) {
	for _, version := range []string{"2.8", "2.26"} {
		want := bytes.TrimSuffix(goldenFile(t, "structured-attrs/export-graph-"+version+".attrs.json"), []byte("\n"))
		var object map[string]json.RawMessage
		if err := json.Unmarshal(want, &object); err != nil {
			t.Fatal(err)
		}
		var graphs []ExportedGraph
		for _, name := range []string{"graph", "g2"} {
			g := ExportedGraph{Name: name}
			if err := json.Unmarshal(object[name], &g.Members); err != nil {
				t.Fatal(err)
			}
			graphs = append(graphs, g)
		}
		var outputs map[string]string
		if err := json.Unmarshal(object["outputs"], &outputs); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf(`{"builder":"/bin/sh","exportReferencesGraph":%s,"name":"sa-erg","system":"x86_64-linux"}`, object["exportReferencesGraph"])
		got, _, err := StructuredFiles(recipe(JSONVar, text), outputs, graphs)
		if err != nil || string(got) != string(want) {
			t.Errorf("%s: %v\n%s\nwant\n%s", version, err, got, want)
		}
	}
}

func TestStructuredFilesUnstructured(t *testing.T) {
	if _, _, err := StructuredFiles(recipe(), nil, nil); err == nil {
		t.Error("made files for a derivation without structured attributes")
	}
}

func TestStructuredNumbers(t *testing.T) {
	for _, c := range []struct{ in, json, shell string }{
		{"0", "0", "0"},
		{"-0", "0", "0"},
		{"-0.0", "-0.0", "0"},
		{"9223372036854775807", "9223372036854775807", "-1"},
		{"-9223372036854775808", "-9223372036854775808", "0"},
		{"18446744073709551615", "18446744073709551615", "-1"},
		{"18446744073709551616", "1.8446744073709552e+19", "-2147483648"},
		{"2147483648", "2147483648", "-2147483648"},
		{"2147483648.0", "2147483648.0", "-2147483648"},
		{"2.0", "2.0", "2"},
		{"-2.0", "-2.0", "-2"},
		{"1e2", "100.0", "100"},
		{"1e14", "100000000000000.0", "-2147483648"},
		{"1e15", "1e+15", "-2147483648"},
		{"1e20", "1e+20", "-2147483648"},
		{"1e100", "1e+100", "-2147483648"},
		{"0.0001", "0.0001", ""},
		{"0.00001", "1e-05", ""},
		{"123456.75", "123456.75", ""},
		{"1.00000000001", "1.00000000001", "1"},
		{"0.1", "0.1", ""},
		{"1.5e-7", "1.5e-07", ""},
		{"4294967296", "4294967296", "0"},
	} {
		gotJSON, gotShell, err := StructuredFiles(recipe(JSONVar, `{"a":`+c.in+`}`), nil, nil)
		if want := `{"a":` + c.json + `,"outputs":{}}`; err != nil || string(gotJSON) != want {
			t.Errorf("%s: JSON %s, %v, want %s", c.in, gotJSON, err, want)
		}
		want := "declare a=" + c.shell + "\n"
		if c.shell == "" {
			want = ""
		}
		if want += "declare -A outputs=()\n"; string(gotShell) != want {
			t.Errorf("%s: shell %q, want %q", c.in, gotShell, want)
		}
	}
	if _, _, err := StructuredFiles(recipe(JSONVar, `{"a":1e999}`), nil, nil); err == nil {
		t.Error("1e999 accepted")
	}
}

func TestStructuredStrings(t *testing.T) {
	in := `{"a":"\"\\\/\b\f\n\r\t\u0000\u001f\u007f<>&\u2028é☃"}`
	got, _, err := StructuredFiles(recipe(JSONVar, in), nil, nil)
	want := `{"a":"\"\\/\b\f\n\r\t\u0000\u001f` + "\x7f<>&\u2028é☃" + `","outputs":{}}`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
}

func FuzzStructuredFiles(f *testing.F) {
	for _, v := range vectors(f) {
		if s, ok := mustParse(f, v).LookupEnv(JSONVar); ok {
			f.Add(s)
		}
	}
	f.Add(`{"a":[1,2.5,null,{"b":"'"}],"c":{"d":1e20}}`)
	f.Fuzz(func(t *testing.T, text string) {
		outputs := map[string]string{"out": somePath}
		got, sh, err := StructuredFiles(recipe(JSONVar, text), outputs, nil)
		if err != nil {
			return
		}
		again, shAgain, err := StructuredFiles(recipe(JSONVar, string(got)), outputs, nil)
		if err != nil || string(got) != string(again) || string(sh) != string(shAgain) {
			t.Errorf("not a fixed point: %v\n%s\n%s\n%s\n%s", err, got, again, sh, shAgain)
		}
		var a, b map[string]any
		if json.Unmarshal([]byte(text), &a) != nil || json.Unmarshal(got, &b) != nil {
			t.Fatalf("unreadable: %s", got)
		}
		a["outputs"] = map[string]any{"out": somePath}
		if !reflect.DeepEqual(a, b) && !strings.Contains(text, `-0`) {
			t.Errorf("value changed:\n%s\n%s", text, got)
		}
	})
}
