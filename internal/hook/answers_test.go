package hook

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/storepath"
)

const (
	dir = storepath.Dir("/nix/store")
	pA  = "/nix/store/00000000000000000000000000000000-a"
	pB  = "/nix/store/11111111111111111111111111111111-b"
	pD  = "/nix/store/22222222222222222222222222222222-a.drv"
)

// answer feeds pieces and notes offers, the end and the error.
func answer(a *Answers, pieces ...string) []string {
	var heard []string
	for _, p := range pieces {
		done, err := a.Feed([]byte(p), func(o Offer) {
			heard = append(heard, fmt.Sprintf("%s %s %s %d %d", o.Path, o.Deriver, o.References, o.Download, o.NarSize))
		})
		if err != nil {
			return append(heard, "error: "+err.Error())
		}
		if done {
			heard = append(heard, "done")
		}
	}
	return heard
}

func TestInfo(t *testing.T) {
	record := strings.Join([]string{pA, pD, "3", pB, pA, pB, "10", "20", ""}, "\n")
	for in, want := range map[string][]string{
		"\n":                                    {"done"},
		record + "\n":                           {pA + " " + pD + " [" + pA + " " + pB + "] 10 20", "done"},
		record + pB + "\n\n0\n0\n0\n\n":         {pA + " " + pD + " [" + pA + " " + pB + "] 10 20", pB + "  [] 0 0", "done"},
		pA:                                      nil,
		pA + "\n\n":                             nil,
		pD + "\n":                               {"error: got unexpected path '" + pD + "' from substituter"},
		"x\n":                                   {"error: got unexpected path 'x' from substituter"},
		pA + "\nx\n":                            {"error: from substituter: path 'x' is not in the Nix store"},
		pA + "\n\nfew\n":                        {"error: integer expected from substituter instead of 'few'"},
		pA + "\n\n-1\n":                         {"error: integer expected from substituter instead of '-1'"},
		pA + "\n\n99999999999\n":                {"error: 99999999999 references from substituter are too many"},
		pA + "\n\n1\n\n":                        {"error: from substituter: path '' is not in the Nix store"},
		pA + "\n\n0\n\n":                        {"error: integer expected from substituter instead of ''"},
		pA + "\n\n0\n1\n18446744073709551616\n": {"error: integer expected from substituter instead of '18446744073709551616'"},
	} {
		if got := answer(ReadInfo(dir, paths(pB, pA)), in); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
		if got := answer(ReadInfo(dir, paths(pB, pA)), strings.Split(in, "")...); !slices.Equal(slices.Compact(got), want) {
			t.Errorf("%q byte by byte: %q, want %q", in, got, want)
		}
	}
}

// TestMoreThanAnAnswer is about programs that do not wait to be asked.
func TestMoreThanAnAnswer(t *testing.T) {
	want := []string{"error: unexpected line 'more' from substituter"}
	if got := answer(ReadInfo(dir, nil), "\nmore\n"); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestAppendInfo(t *testing.T) {
	if got := string(AppendInfo(nil, paths(pA, pB))); got != "info "+pA+" "+pB+" \n" {
		t.Errorf("asked %q", got)
	}
}

// FuzzAnswers wants offers of nothing but what was asked for, and valid ones.
func FuzzAnswers(f *testing.F) {
	f.Add(strings.Join([]string{pA, pD, "1", pB, "10", "20", "\n"}, "\n"), uint8(5))
	f.Add(pB+"\n\n0\n0\n0\n\n", uint8(0))
	f.Fuzz(func(t *testing.T, in string, size uint8) {
		a := ReadInfo(dir, paths(pA, pB))
		offers := 0
		for rest := in; len(rest) > 0; {
			n := min(int(size)+1, len(rest))
			done, err := a.Feed([]byte(rest[:n]), func(o Offer) {
				offers++
				if o.Path != pA && o.Path != pB {
					t.Errorf("an offer of '%s'", o.Path)
				}
				for _, p := range append(o.References, o.Deriver) {
					if p == "" {
						continue
					}
					if _, err := dir.ParseExact(string(p)); err != nil {
						t.Error(err)
					}
				}
				if !slices.IsSorted(o.References) {
					t.Errorf("references %q", o.References)
				}
			})
			if err != nil || done {
				break
			}
			rest = rest[n:]
		}
		if offers > strings.Count(in, "\n") {
			t.Errorf("%d offers of %q", offers, in)
		}
	})
}

func TestParseHash(t *testing.T) {
	sum := digest.Of(digest.SHA256, []byte("x"))
	for _, text := range []string{sum.Hex(), sum.Nix32()} {
		if d, known, err := ParseHash("sha256:" + text); d != sum || !known || err != nil {
			t.Errorf("%s: %v, %v, %v", text, d, known, err)
		}
	}
	if _, known, err := ParseHash(" "); known || err != nil {
		t.Errorf("%v, %v", known, err)
	}
	for line, want := range map[string]string{
		"abc":                       "bad hash from substituter: abc",
		"crc32:abc":                 "unknown hash algorithm in 'crc32:abc' from substituter",
		"sha256:abc":                "bad hash from substituter: ",
		"sha256:" + sum.Hex() + "0": "bad hash from substituter: ",
	} {
		if _, _, err := ParseHash(line); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
}

func TestPackOptions(t *testing.T) {
	got, err := PackOptions([]Setting{{"cores", "2"}, {"x", "a b=c"}})
	if want := "cores=2\nx=a b=c\n"; got != want || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	for _, s := range []Setting{{"a=b", ""}, {"a\nb", ""}, {"a", "b\nc"}} {
		if _, err := PackOptions([]Setting{s}); err == nil {
			t.Errorf("%q is accepted", s)
		}
	}
}

func TestSandboxPaths(t *testing.T) {
	for in, want := range map[string]string{
		"":                                   "[]",
		"extra-sandbox-paths\n/a\n/b=/c\n\n": "[/a /b=/c]",
		"extra-chroot-dirs\n/a":              "[/a]",
		"extra-sandbox-paths\n\nextra-sandbox-paths\n/x\n": "[/x]",
		"extra-sandbox-paths\n/a\n\nnonsense\n":            "[/a] unknown pre-build hook command 'nonsense'",
		"\n":                                               "[] unknown pre-build hook command ''",
	} {
		var s SandboxPaths
		for _, b := range []byte(in) {
			s.Feed([]byte{b})
		}
		err := s.End()
		got := fmt.Sprint(s.Items)
		if err != nil {
			got += " " + err.Error()
		}
		if got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func FuzzSandboxPaths(f *testing.F) {
	f.Add("extra-sandbox-paths\n/a\n\n")
	f.Fuzz(func(t *testing.T, in string) {
		var s SandboxPaths
		s.Feed([]byte(in))
		if err := s.End(); err == nil && len(s.Items) > 0 && !strings.Contains(in, "extra-") {
			t.Errorf("%q gives %q", in, s.Items)
		}
	})
}
