package storepath

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"gobuild/internal/store/digest"
)

const nixStore = Dir("/nix/store")

const hashPart = "3ghsl9sd83mc26i81adpa2fzf3yw4f68"

// A vector is one entry of storepaths.json; which fields are set depends on
// the kind.
type vector struct {
	Kind, Method, Algo, Hash, Name, Content, Output, Value, DrvName string
	References                                                      []Path
	StoreDir                                                        Dir
	Path                                                            Path
	FromContent                                                     *string
}

func goldenVectors(t testing.TB) []vector {
	t.Helper()
	var all []vector
	b, err := os.ReadFile("../../../testdata/golden/storepaths.json")
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil || len(all) < 80 {
		t.Fatalf("%d vectors, %v", len(all), err)
	}
	return all
}

func TestGoldenPaths(t *testing.T) {
	for _, v := range goldenVectors(t) {
		switch v.Kind {
		case "fixed":
			checkFixed(t, v)
		case "text":
			checkPath(t, v, func() (Path, error) { return v.StoreDir.Text([]byte(v.Content), v.Name, v.References) })
		case "placeholder":
			if got := Placeholder(v.Output); got != v.Value {
				t.Errorf("placeholder of %s: %s, want %s", v.Output, got, v.Value)
			}
		case "outputName":
			if got := OutputName(v.DrvName, v.Output); got != v.Name {
				t.Errorf("output %s of %s: %s, want %s", v.Output, v.DrvName, got, v.Name)
			}
		default:
			t.Errorf("unknown kind '%s'", v.Kind)
		}
	}
}

func checkFixed(t *testing.T, v vector) {
	t.Helper()
	method, algo, err := ParseMethodAlgo(strings.Replace(v.Method, "nar", "r:", 1) + v.Algo)
	if v.Method == "flat" {
		method, algo, err = ParseMethodAlgo(v.Algo)
	}
	if err != nil {
		t.Fatal(err)
	}
	h, err := digest.ParseHex(algo, v.Hash)
	if err != nil {
		t.Fatal(err)
	}
	if v.FromContent != nil && method == Flat && digest.Of(algo, []byte(*v.FromContent)) != h {
		t.Errorf("%s: hash of the content differs", v.Path)
	}
	ca := ContentAddress{method, h}
	checkPath(t, v, func() (Path, error) { return v.StoreDir.Content(ca, v.Name, References{}) })
	if again, err := ParseContentAddress(ca.String()); err != nil || again != ca {
		t.Errorf("%s: read as %+v, %v", ca, again, err)
	}
}

func checkPath(t *testing.T, v vector, compute func() (Path, error)) {
	t.Helper()
	got, err := compute()
	if err != nil || got != v.Path {
		t.Errorf("%s %s: %s, %v, want %s", v.Kind, v.Name, got, err, v.Path)
	}
	if p, err := v.StoreDir.ParseExact(string(v.Path)); err != nil || p != v.Path || p.Name() != v.Name || p.Dir() != v.StoreDir {
		t.Errorf("%s: read as %s, %v", v.Path, p, err)
	}
}

func TestContentRefuses(t *testing.T) {
	sha1 := digest.Of(digest.SHA1, nil)
	sha256 := digest.Of(digest.SHA256, nil)
	ref := References{Others: []Path{"/nix/store/" + hashPart + "-a"}}
	for _, c := range []struct {
		ca   ContentAddress
		refs References
		ok   bool
	}{
		{ContentAddress{Text, sha256}, ref, true},
		{ContentAddress{Text, sha256}, References{Self: true}, false},
		{ContentAddress{Text, sha1}, References{}, false},
		{ContentAddress{NAR, sha256}, References{Self: true, Others: ref.Others}, true},
		{ContentAddress{NAR, sha1}, References{}, true},
		{ContentAddress{NAR, sha1}, References{Self: true}, false},
		{ContentAddress{NAR, sha1}, ref, false},
		{ContentAddress{Flat, sha256}, ref, false},
	} {
		if _, err := nixStore.Content(c.ca, "n", c.refs); (err == nil) != c.ok {
			t.Errorf("%s with %+v: %v", c.ca, c.refs, err)
		}
	}
	if _, err := nixStore.Text(nil, "a/b", nil); err == nil {
		t.Error("a name with a slash was accepted")
	}
}

func TestParseContentAddress(t *testing.T) {
	const sum = "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73"
	for text, ok := range map[string]bool{
		"":                                       true,
		"text:" + sum:                            true,
		"fixed:" + sum:                           true,
		"fixed:r:" + sum:                         true,
		"fixed:git:" + sum:                       true,
		"fixed:r:git:" + sum:                     false,
		"fixed:text:" + sum:                      false,
		"text:r:" + sum:                          false,
		"fixed:" + strings.Repeat("r:", 2) + sum: false,
		sum:                                      false,
		"fixed":                                  false,
		"fixed:":                                 false,
		"fixed:r:":                               false,
		"fixed:sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=": false,
		"other:" + sum: false,
	} {
		ca, err := ParseContentAddress(text)
		if (err == nil) != ok || ok && ca.String() != text {
			t.Errorf("%s: %s, %v", text, ca, err)
		}
	}
}

func TestParse(t *testing.T) {
	const good = "/nix/store/" + hashPart + "-a"
	for _, c := range []struct {
		text          string
		parses, exact bool
	}{
		{good, true, true},
		{good + "/", true, false},
		{"/nix//store/./x/../" + hashPart + "-a", true, false},
		{good + "/b", false, false},
		{"nix/store/" + hashPart + "-a", false, false},
		{"/nix/store", false, false},
		{"/nix/store/", false, false},
		{"/nix/store2/" + hashPart + "-a", false, false},
		{"/nix/stor/" + hashPart + "-a", false, false},
		{"/nix/store/.links", false, false},
		{"", false, false},
		{"/nix/store/" + hashPart, false, false},
		{"/nix/store/" + hashPart + "-", false, false},
		{"/nix/store/" + hashPart + "_a", false, false},
		{"/nix/store/" + strings.ToUpper(hashPart) + "-a", false, false},
		{good + " ", false, false},
		{good + "\x00", false, false},
		{good + "é", false, false},
		{good + strings.Repeat("n", MaxNameLen-1), true, true},
		{good + strings.Repeat("n", MaxNameLen), false, false},
		{"/nix/store/" + hashPart + "-.", false, false},
		{"/nix/store/" + hashPart + "-..", false, false},
		{"/nix/store/" + hashPart + "-.-a", false, false},
		{"/nix/store/" + hashPart + "-..-a", false, false},
		{"/nix/store/" + hashPart + "-.a", true, true},
		{"/nix/store/" + hashPart + "-...", true, true},
		{"/nix/store/" + hashPart + "-+-._?=", true, true},
	} {
		if p, err := nixStore.Parse(c.text); (err == nil) != c.parses || c.exact && string(p) != c.text {
			t.Errorf("Parse(%q): %s, %v", c.text, p, err)
		}
		if p, err := nixStore.ParseExact(c.text); (err == nil) != c.exact || c.exact && string(p) != c.text {
			t.Errorf("ParseExact(%q): %s, %v", c.text, p, err)
		}
	}
	if _, err := nixStore.Parse("/etc/passwd"); !errors.Is(err, ErrNotInStore) {
		t.Errorf("outside the store: %v", err)
	}
}

func TestSplit(t *testing.T) {
	const good = "/nix/store/" + hashPart + "-a"
	for _, c := range []struct {
		text string
		path Path
		rest string
	}{
		{good, good, ""},
		{good + "/", good, ""},
		{good + "/bin//sh", good, "/bin/sh"},
		{good + "/../" + hashPart + "-b/x", "/nix/store/" + hashPart + "-b", "/x"},
		{good + "/../../etc", "", ""},
		{"/nix/store", "", ""},
		{hashPart + "-a", "", ""},
	} {
		p, rest, err := nixStore.Split(c.text)
		if p != c.path || rest != c.rest || (err == nil) != (c.path != "") {
			t.Errorf("%s: %s, %s, %v", c.text, p, rest, err)
		}
	}
}

func TestParseDir(t *testing.T) {
	for text, want := range map[string]Dir{"/nix/store": "/nix/store", "//a/./b/": "/a/b", "": "", "a": "", "/": "", "/..": ""} {
		if d, err := ParseDir(text); d != want || (err == nil) != (want != "") {
			t.Errorf("%q: %s, %v", text, d, err)
		}
	}
}

func TestPathParts(t *testing.T) {
	p := Path("/nix/store/" + hashPart + "-simple.drv")
	if p.Base() != hashPart+"-simple.drv" || p.HashPart() != hashPart || p.Name() != "simple.drv" || p.Dir() != nixStore || !p.IsDerivation() {
		t.Errorf("parts of %s: %s, %s, %s, %s", p, p.Base(), p.HashPart(), p.Name(), p.Dir())
	}
}

// TestScratch holds scratch paths to what rewriting needs: the same length as
// the output, another hash part, and a different one for every derivation.
func TestScratch(t *testing.T) {
	drv, out := Path("/nix/store/"+hashPart+"-simple.drv"), Path("/nix/store/94f9f6i31zwzwbf0kclq1naqxxi4c7v9-simple-dev")
	known, err := nixStore.Scratch(drv, out)
	if err != nil || len(known) != len(out) || known == out || known.Name() != out.Name() {
		t.Errorf("scratch %s, %v", known, err)
	}
	unknown, err := nixStore.ScratchUnknown(drv, "dev")
	if err != nil || len(unknown) != len(out) || unknown == known {
		t.Errorf("scratch of an unknown output %s, %v", unknown, err)
	}
}

func TestUpstreamPlaceholder(t *testing.T) {
	// As the derivation depends-on-ca of the golden data names its input.
	got := UpstreamPlaceholder("/nix/store/8nfwvdw6dmdv52z8lf6hrgm0bnbxljx9-ca-floating.drv", "out")
	if got != "/1a7ik5j61zjjd70j44czpdp6jb49ncmlalgjda5sb14x9j6sq59s" {
		t.Error(got)
	}
}

func FuzzDirParse(f *testing.F) {
	for _, v := range goldenVectors(f) {
		f.Add(string(v.Path))
	}
	f.Add("/nix//store/./" + hashPart + "-a/")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := nixStore.Parse(text)
		exact, exactErr := nixStore.ParseExact(text)
		if exactErr == nil && (err != nil || exact != p || string(p) != text) {
			t.Errorf("%q: exactly %s, else %s, %v", text, exact, p, err)
		}
		if err != nil {
			return
		}
		again, err := nixStore.ParseExact(string(p))
		if err != nil || again != p || nixStore+"/"+Dir(p.HashPart())+"-"+Dir(p.Name()) != Dir(p) {
			t.Errorf("%q: %s, read again: %s, %v", text, p, again, err)
		}
		if q, rest, err := nixStore.Split(text); err != nil || q != p || rest != "" {
			t.Errorf("%q: split into %s and %s, %v", text, q, rest, err)
		}
	})
}

func FuzzParseContentAddress(f *testing.F) {
	const sum = "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73"
	for _, prefix := range []string{"text:", "fixed:", "fixed:r:", "fixed:git:", "fixed:r:git:"} {
		f.Add(prefix + sum)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ca, err := ParseContentAddress(text)
		if err != nil {
			return
		}
		if again, err := ParseContentAddress(ca.String()); err != nil || again != ca {
			t.Errorf("%q: printed as %s, read as %s, %v", text, ca, again, err)
		}
	})
}
