package hook

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"gobuild/internal/store/storepath"
)

// A session is a recording of what Nix and its own hook said to each other.
type session struct {
	Title string
	Argv  [][]string
	Stdin []struct {
		What             string
		Count            int
		Names            []string
		AmWilling        uint64
		Platform         string
		DrvPath          string
		RequiredFeatures []string
		Inputs           []string
		Outputs          []string
		Hex              string
	} `json:"stdin_decoded"`
	Stderr []string `json:"stderr_text"`
}

func sessions(t *testing.T) []session {
	t.Helper()
	var all []session
	for _, name := range []string{"nix28", "nix226", "decline226", "declperm226"} {
		text, err := os.ReadFile("../../testdata/golden/protocol/hook-" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var s session
		if err := json.Unmarshal(text, &s); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

// TestGoldenRequests makes the very bytes that Nix sent.
func TestGoldenRequests(t *testing.T) {
	for _, s := range sessions(t) {
		for _, part := range s.Stdin {
			var got []byte
			switch {
			case part.DrvPath != "":
				var err error
				got, err = Binary.AppendRequest(nil, Request{
					Willing: part.AmWilling == 1, Platform: part.Platform, Drv: storepath.Path(part.DrvPath), Features: part.RequiredFeatures,
				})
				if err != nil {
					t.Fatal(err)
				}
			case part.Outputs != nil:
				got = Binary.AppendJob(nil, Job{Inputs: paths(part.Inputs...), Outputs: part.Outputs})
			default:
				continue
			}
			if hex.EncodeToString(got) != part.Hex {
				t.Errorf("%s: %s:\ngot  %x\nwant %s", s.Title, part.What, got, part.Hex)
			}
		}
	}
}

func paths(names ...string) []storepath.Path {
	all := make([]storepath.Path, len(names))
	for i, n := range names {
		all[i] = storepath.Path(n)
	}
	return all
}

func TestSettings(t *testing.T) {
	got := Binary.AppendSettings(nil, []Setting{{"cores", "2"}, {"builders", ""}})
	want := "0100000000000000" + "0500000000000000" + "636f726573000000" + "0100000000000000" + "3200000000000000" +
		"0100000000000000" + "0800000000000000" + "6275696c64657273" + "0000000000000000" + "0000000000000000"
	if hex.EncodeToString(got) != want {
		t.Errorf("got  %x\nwant %s", got, want)
	}
	if got := Text.AppendSettings(nil, []Setting{{"cores", "2"}}); len(got) > 0 {
		t.Errorf("an old hook is told %q", got)
	}
}

func TestTextRequests(t *testing.T) {
	const drv = "/nix/store/c0k6b6r6fysqq5a55lbjrg98didik67i-hello.drv"
	for want, r := range map[string]Request{
		"1 x86_64-linux " + drv + " \n":        {Willing: true, Platform: "x86_64-linux", Drv: drv},
		"0 i686-linux " + drv + " big,kvm\n":   {Platform: "i686-linux", Drv: drv, Features: []string{"big", "kvm"}},
		"0 builtin " + drv + " big-parallel\n": {Platform: "builtin", Drv: drv, Features: []string{"big-parallel"}},
	} {
		got, err := Text.AppendRequest([]byte("kept "), r)
		if err != nil || string(got) != "kept "+want {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	// What a derivation says must not become requests of its own.
	for _, r := range []Request{
		{Platform: "x\n1", Drv: drv}, {Platform: "a b", Drv: drv}, {Drv: drv},
		{Platform: "x", Drv: drv, Features: []string{"a b"}}, {Platform: "x", Drv: drv, Features: []string{"a\n1"}},
		{Platform: "x", Drv: drv, Features: []string{""}}, {Platform: "x", Drv: drv, Features: []string{"a,b"}},
	} {
		if got, err := Text.AppendRequest(nil, r); err == nil {
			t.Errorf("%+v gives %q", r, got)
		}
	}
}

func TestTextJob(t *testing.T) {
	got := Text.AppendJob(nil, Job{
		Inputs: paths("/s/a", "/s/c", "/s/e"), Drvs: paths("/s/b", "/s/c", "/s/f"), Outputs: []string{"out"}, Paths: paths("/s/x", "/s/y"),
	})
	if want := "/s/a /s/b /s/c /s/e /s/f \n/s/x /s/y \n"; string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := Text.AppendJob(nil, Job{}); string(got) != "\n\n" {
		t.Errorf("got %q", got)
	}
}

func TestPrograms(t *testing.T) {
	p := NewBinary("/bin/nix", []string{"__build-remote"}, 3, nil, nil)
	if want := []string{"nix", "__build-remote", "3"}; !slices.Equal(p.Argv, want) {
		t.Errorf("%q, want %q", p.Argv, want)
	}
	p = NewText("/x/hook", TextOptions{System: "s", Silence: 90e9, Trace: true}, nil)
	if got := strings.Join(p.Argv, " "); got != "/x/hook s 90 1 0" {
		t.Errorf("got %q", got)
	}
}
