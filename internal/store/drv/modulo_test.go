package drv

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"gobuild/internal/store/storepath"
)

// goldenReader reads derivations of the manifest by path.
func goldenReader(t testing.TB) func(storepath.Path) (*Derivation, error) {
	byPath := map[storepath.Path]vector{}
	for _, v := range vectors(t) {
		byPath[v.Path] = v
	}
	return func(p storepath.Path) (*Derivation, error) {
		v, ok := byPath[p]
		if !ok {
			return nil, fmt.Errorf("opening file '%s': No such file or directory", p)
		}
		return Parse(nixStore, v.drvName(), v.text(t))
	}
}

func TestModuloGolden(t *testing.T) {
	h := NewHasher(goldenReader(t))
	for _, v := range vectors(t) {
		d := mustParse(t, v)
		m, err := h.Masked(d)
		checkModulo(t, v, "masked", m, err, v.ModuloMasked)
		m, err = h.AsInput(d)
		checkModulo(t, v, "as input", m, err, v.ModuloAsInput)
		if err := d.CheckInvariants(nixStore, v.Path, h); err != nil {
			t.Errorf("%s: %v", v.Path, err)
		}
	}
}

func checkModulo(t *testing.T, v vector, what string, m Modulo, err error, want map[string]string) {
	t.Helper()
	if err != nil {
		t.Errorf("%s, %s: %v", v.Path, what, err)
		return
	}
	for id, hex := range want {
		if m.Digest.Hex() != hex {
			t.Errorf("%s, %s, output %s: %s, want %s", v.Path, what, id, m.Digest.Hex(), hex)
		}
	}
	if m.Deferred != (v.ModuloKind == "deferred") {
		t.Errorf("%s, %s: deferred %v, want %s", v.Path, what, m.Deferred, v.ModuloKind)
	}
}

// chain returns a reader of derivations each of which needs the next, and the
// first of them. With loop, the last needs the first.
func chain(n int, loop bool) (*Derivation, func(storepath.Path) (*Derivation, error)) {
	path := func(i int) storepath.Path {
		return storepath.Path(fmt.Sprintf("/nix/store/%032d-c.drv", i))
	}
	link := func(i int) *Derivation {
		d := &Derivation{Name: "c", Outputs: []Output{{ID: "out", Path: "/nix/store/x"}}, Platform: "p", Builder: "/b"}
		if i+1 < n {
			d.InputDrvs = []Input{{path(i + 1), justOut}}
		} else if loop {
			d.InputDrvs = []Input{{path(0), justOut}}
		}
		return d
	}
	read := func(p storepath.Path) (*Derivation, error) {
		i, err := strconv.Atoi(p.HashPart())
		return link(i), err
	}
	return link(0), read
}

func TestModuloDeepChain(t *testing.T) {
	d, read := chain(100_000, false)
	m, err := NewHasher(read).Masked(d)
	if err != nil || !m.Digest.IsSet() {
		t.Fatalf("%+v, %v", m, err)
	}
}

// TestModuloReadsOnce hashes a graph with 2^200 ways from top to bottom.
func TestModuloReadsOnce(t *testing.T) {
	d, read := chain(200, false)
	double := func(d *Derivation) *Derivation {
		for _, in := range d.InputDrvs {
			d.InputDrvs = append(d.InputDrvs, Input{in.Path + "x", justOut})
		}
		return d
	}
	reads := 0
	m, err := NewHasher(func(p storepath.Path) (*Derivation, error) {
		reads++
		d, err := read(p)
		return double(d), err
	}).Masked(double(d))
	if err != nil || !m.Digest.IsSet() || reads != 2*199 {
		t.Errorf("%d reads, %v", reads, err)
	}
}

func TestModuloLoop(t *testing.T) {
	d, read := chain(50, true)
	h := NewHasher(read)
	for range 2 { // a failure must leave nothing behind
		if _, err := h.Masked(d); err == nil || !strings.Contains(err.Error(), "depends on itself") {
			t.Fatalf("error %v", err)
		}
	}
}

func TestModuloReadError(t *testing.T) {
	sentinel := errors.New("gone")
	d, read := chain(3, false)
	fail := true
	h := NewHasher(func(p storepath.Path) (*Derivation, error) {
		if fail && strings.HasPrefix(p.HashPart(), "00000000000000000000000000000002") {
			return nil, sentinel
		}
		return read(p)
	})
	if _, err := h.Masked(d); !errors.Is(err, sentinel) {
		t.Fatalf("error %v", err)
	}
	fail = false
	if _, err := h.Masked(d); err != nil {
		t.Errorf("after a failure: %v", err)
	}
}

// TestCheckInvariantsBad registers every text of drv-bad.json that can be read.
func TestCheckInvariantsBad(t *testing.T) {
	read := goldenReader(t)
	var reactions map[string]map[string]string
	goldenJSON(t, "drv-bad.json", &reactions)
	for name, v := range badVectors(t) {
		if badVerdicts[name] != "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			text := goldenFile(t, v.File)
			d, err := Parse(nixStore, v.DrvName, text)
			if err != nil {
				t.Fatal(err)
			}
			const path = "/nix/store/00000000000000000000000000000000-"
			want := strings.TrimPrefix(reactions[name]["nix-2.26.3"], "error: ")
			if name == "duplicate-output" {
				want = "derivation '" + path + d.Name + ".drv' has more than one output 'out'"
			}
			// The recorded texts had been added as plain files, whose paths differ.
			if _, rest, ok := strings.Cut(want, ".drv' has"); ok {
				want = "derivation '" + path + d.Name + ".drv' has" + rest
			}
			got := "accepted"
			if err := d.CheckInvariants(nixStore, storepath.Path(path+d.Name+".drv"), NewHasher(read)); err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestCheckInvariantsNames(t *testing.T) {
	h := NewHasher(nil)
	const path = "/nix/store/3ghsl9sd83mc26i81adpa2fzf3yw4f68-n.drv"
	d := &Derivation{Name: "other", Outputs: []Output{{ID: "out"}}}
	if err := d.CheckInvariants(nixStore, path, h); err == nil || !strings.Contains(err.Error(), "is not named 'other.drv'") {
		t.Errorf("wrong name: %v", err)
	}
	const nested = "/nix/store/3ghsl9sd83mc26i81adpa2fzf3yw4f68-n.drv.drv"
	d.Name = "n.drv"
	if err := d.CheckInvariants(nixStore, nested, h); err == nil || !strings.Contains(err.Error(), "single derivation file") {
		t.Errorf("name in .drv: %v", err)
	}
	d.Outputs[0].MethodAlgo = "text:sha256"
	if err := d.CheckInvariants(nixStore, nested, h); err != nil {
		t.Errorf("text output named .drv: %v", err)
	}
}

// TestFillOutputs strips golden derivations of what can be computed.
func TestFillOutputs(t *testing.T) {
	h := NewHasher(goldenReader(t))
	for _, v := range vectors(t) {
		whole, bare := mustParse(t, v), mustParse(t, v)
		if k := whole.Kind(); k == Floating || k == Impure {
			continue
		}
		var env []EnvVar
		for _, e := range bare.Env {
			if _, ok := bare.Output(e.Name); !ok {
				env = append(env, e)
			}
		}
		bare.Env = env
		for i := range bare.Outputs {
			bare.Outputs[i].Path = ""
		}
		if err := bare.FillOutputs(nixStore, h); err != nil {
			t.Errorf("%s: %v", v.Path, err)
		}
		if !reflect.DeepEqual(bare, whole) {
			t.Errorf("%s: filled\n%s\nwant\n%s", v.Path, bare.Unparse(), whole.Unparse())
		}
	}
}

func TestFillOutputsLeavesWrongValues(t *testing.T) {
	d := mustParse(t, vectors(t)[0])
	d.Outputs[0].Path = ""
	i, _ := d.envIndex(d.Outputs[0].ID)
	d.Env[i].Value = "/nix/store/wrong"
	h := NewHasher(goldenReader(t))
	if err := d.FillOutputs(nixStore, h); err != nil {
		t.Fatal(err)
	}
	path, err := d.Path(nixStore)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.CheckInvariants(nixStore, path, h); err == nil || !strings.Contains(err.Error(), "incorrect environment variable 'out'") {
		t.Errorf("error %v", err)
	}
}
