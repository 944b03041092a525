package goal

import (
	"slices"
	"strings"
	"testing"

	"gobuild/internal/store/drv"
)

// environOf makes the environment of a derivation with the given variables,
// pairs of name and value in order.
func environOf(t *testing.T, fixed bool, pairs ...string) (map[string]string, []buildFile) {
	t.Helper()
	d := &drv.Derivation{Name: "x", Outputs: []drv.Output{{ID: "out", Path: "/store/00000000000000000000000000000000-x"}}}
	if fixed {
		d.Outputs[0].MethodAlgo, d.Outputs[0].Hash = "sha256", strings.Repeat("0", 64)
	}
	env(pairs...)(d)
	slices.SortFunc(d.Env, func(a, b drv.EnvVar) int { return strings.Compare(a.Name, b.Name) })
	options, err := drv.ParseOptions("/store", d)
	if err != nil {
		t.Fatal(err)
	}
	in := environInput{
		Drv: d, Options: options, StoreDir: "/store", BuildDir: "/build", Cores: 3,
		Fixed: fixed, Impure: func(name string) string { return "my " + name },
	}
	list, files := environ(in)
	if !slices.IsSorted(list) {
		t.Errorf("the environment is not sorted: %q", list)
	}
	vars := map[string]string{}
	for _, v := range list {
		name, value, _ := strings.Cut(v, "=")
		if _, twice := vars[name]; twice {
			t.Errorf("'%s' is there twice", name)
		}
		vars[name] = value
	}
	return vars, files
}

// usual are the variables of a derivation that has none of its own.
func usual() map[string]string {
	return map[string]string{
		"PATH": "/path-not-set", "HOME": "/homeless-shelter", "NIX_STORE": "/store", "NIX_BUILD_CORES": "3",
		"NIX_BUILD_TOP": "/build", "TMPDIR": "/build", "TEMPDIR": "/build", "TMP": "/build", "TEMP": "/build", "PWD": "/build",
		"NIX_LOG_FD": "2", "TERM": "xterm-256color",
	}
}

func TestEnviron(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fixed bool
		env   []string
		want  map[string]string // beside the usual; "-" stands for absent
	}{
		{name: "nothing of its own"},
		{name: "its own variables", env: []string{"a", "1", "empty", "", "odd name", "x=y"}, want: map[string]string{"a": "1", "empty": "", "odd name": "x=y"}},
		{
			name: "what it may override", env: []string{"PATH", "/bin", "HOME", "/h", "NIX_STORE", "s", "NIX_BUILD_CORES", "9"},
			want: map[string]string{"PATH": "/bin", "HOME": "/h", "NIX_STORE": "s", "NIX_BUILD_CORES": "9"},
		},
		{
			name: "what it may not override",
			env: []string{"NIX_BUILD_TOP", "x", "TMPDIR", "x", "TEMPDIR", "x", "TMP", "x", "TEMP", "x", "PWD", "x", "NIX_LOG_FD", "x",
				"TERM", "x"},
		},
		{name: "a fixed output", fixed: true, want: map[string]string{"NIX_OUTPUT_CHECKED": "1"}},
		{name: "not its own mark of fixed outputs", fixed: true, env: []string{"NIX_OUTPUT_CHECKED", "0"}, want: map[string]string{"NIX_OUTPUT_CHECKED": "1"}},
		{
			name: "impure variables of a fixed output", fixed: true,
			env: []string{"impureEnvVars", "http_proxy a TMPDIR TERM NIX_OUTPUT_CHECKED", "a", "own"},
			want: map[string]string{
				"impureEnvVars": "http_proxy a TMPDIR TERM NIX_OUTPUT_CHECKED", "http_proxy": "my http_proxy", "a": "my a",
				"TMPDIR": "my TMPDIR", "NIX_OUTPUT_CHECKED": "my NIX_OUTPUT_CHECKED",
			},
		},
		{
			name: "impure variables of another", env: []string{"impureEnvVars", "http_proxy"},
			want: map[string]string{"impureEnvVars": "http_proxy", "http_proxy": "-"},
		},
		{
			name: "structured attributes", env: []string{"__json", `{"a":"1","name":"x"}`, "out", "/store/x"},
			want: map[string]string{
				"NIX_ATTRS_JSON_FILE": "/build/.attrs.json", "NIX_ATTRS_SH_FILE": "/build/.attrs.sh", "a": "-", "__json": "-", "out": "-",
			},
		},
		{
			name: "variables as files", env: []string{"passAsFile", "big absent", "big", "text", "small", "s"},
			want: map[string]string{
				"passAsFile": "big absent", "big": "-", "absent": "-", "absentPath": "-", "small": "s",
				"bigPath": "/build/.attr-1lak0mvllw8rv9i9ygkglvhqsq19qi9ynl4bi7gbf69ab5nzw89a",
			},
		},
		{
			name: "a variable of the name of a file's path", env: []string{"passAsFile", "big", "big", "text", "bigPath", "own"},
			want: map[string]string{"passAsFile": "big", "big": "-", "bigPath": "own"},
		},
		{
			name: "a usual variable as a file", env: []string{"passAsFile", "HOME TMP", "HOME", "h", "TMP", "t"},
			want: map[string]string{
				"passAsFile": "HOME TMP",
				"HOMEPath":   "/build/" + drv.PassAsFileName("HOME"), "TMPPath": "/build/" + drv.PassAsFileName("TMP"),
			},
		},
	} {
		got, _ := environOf(t, tc.fixed, tc.env...)
		want := usual()
		for name, value := range tc.want {
			if want[name] = value; value == "-" {
				delete(want, name)
			}
		}
		for name := range want {
			if value, ok := got[name]; !ok || value != want[name] {
				t.Errorf("%s: %s=%q (%v), want %q", tc.name, name, value, ok, want[name])
			}
			delete(got, name)
		}
		if len(got) > 0 {
			t.Errorf("%s: too much: %v", tc.name, got)
		}
	}
}

func TestPassAsFile(t *testing.T) {
	_, files := environOf(t, false, "passAsFile", "b a missing", "a", "text of a", "b", "", "c", "text of c")
	want := []buildFile{{drv.PassAsFileName("a"), []byte("text of a"), true}, {drv.PassAsFileName("b"), nil, true}}
	if !slices.EqualFunc(files, want, func(a, b buildFile) bool { return a.Name == b.Name && string(a.Contents) == string(b.Contents) }) {
		t.Errorf("files: %v, want %v", files, want)
	}
	if _, files = environOf(t, false, "__json", `{"a":"1","passAsFile":["a"]}`); len(files) > 0 {
		t.Errorf("structured attributes made files: %v", files)
	}
}

func TestNoHome(t *testing.T) {
	dir := t.TempDir()
	if err := checkNoHome(dir + "/none"); err != nil {
		t.Error(err)
	}
	want := "home directory '" + dir + "' exists; please remove it to assure purity of builds without sandboxing"
	if err := checkNoHome(dir); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestRewrites(t *testing.T) {
	a, b, c := strings.Repeat("a", 32), strings.Repeat("b", 32), strings.Repeat("c", 32)
	r := rewrites{a: c, b: strings.Repeat("d", 32)}
	for text, want := range map[string]string{
		"":                       "",
		"nothing here":           "nothing here",
		"/store/" + a + "-x":     "/store/" + c + "-x",
		a + a + b:                c + c + strings.Repeat("d", 32),
		a[1:] + "-" + c:          a[1:] + "-" + c,
		"x=" + b + ":" + a + "/": "x=" + strings.Repeat("d", 32) + ":" + c + "/",
	} {
		if got := r.apply(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
	list := []string{"x", a}
	if got := r.applyAll(list); got[0] != "x" || got[1] != c || list[1] != a {
		t.Errorf("the list became %q, and the old one is %q", got, list)
	}
	if got := rewrites(nil).applyAll(list); &got[0] != &list[0] {
		t.Error("nothing to rewrite, and yet a copy")
	}
}
