package refscan

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/storepath"
)

const golden = "../../../testdata/golden"

func readJSON(t *testing.T, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(golden, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

func hashParts(r *rand.Rand, n int) []string {
	out := make([]string, n)
	for i := range out {
		b := make([]byte, HashLen)
		for j := range b {
			b[j] = digest.Alphabet[r.IntN(32)]
		}
		out[i] = string(b)
	}
	return out
}

func TestGoldenReferences(t *testing.T) {
	var v struct {
		NAR        string
		Candidates map[string]string
		References []string
	}
	readJSON(t, "refscan/refscan.json", &v)
	data, err := os.ReadFile(filepath.Join(golden, v.NAR))
	if err != nil {
		t.Fatal(err)
	}
	var candidates, want []string
	for _, p := range v.Candidates {
		candidates = append(candidates, storepath.Path(p).HashPart())
	}
	for _, p := range v.References {
		want = append(want, storepath.Path(p).HashPart())
	}
	slices.Sort(want)
	for _, piece := range []int{1, 7, 31, 32, 33, 97, 98, 4096, 65536, len(data)} {
		s := New(candidates)
		for part := range slices.Chunk(data, piece) {
			s.Write(part)
		}
		if got := s.Found(); !slices.Equal(got, want) {
			t.Errorf("in pieces of %d: found %v, want %v", piece, got, want)
		}
	}
}

func TestGoldenModulo(t *testing.T) {
	var vs []struct {
		Path, NarBase64, SelfHashPart, ModuloSha256nix32 string
		Positions                                        []int64
	}
	readJSON(t, "hash-modulo.json", &vs)
	for _, v := range vs {
		nar, err := base64.StdEncoding.DecodeString(v.NarBase64)
		if err != nil {
			t.Fatal(err)
		}
		for _, piece := range []int{1, 31, 100, len(nar)} {
			m, err := NewModulo(digest.SHA256, v.SelfHashPart)
			if err != nil {
				t.Fatal(err)
			}
			for part := range slices.Chunk(nar, piece) {
				m.Write(part)
			}
			places := ""
			for _, p := range v.Positions {
				places += fmt.Sprintf("|%d", p)
			}
			if got := m.Digest().Nix32(); got != v.ModuloSha256nix32 {
				t.Errorf("%s in pieces of %d: hash %s, want %s (places %s)", v.Path, piece, got, v.ModuloSha256nix32, places)
			}
		}
	}
}

func TestModuloWithoutSelfIsThePlainHash(t *testing.T) {
	text := []byte("nothing of the kind")
	m, err := NewModulo(digest.SHA1, strings.Repeat("a", HashLen))
	if err != nil {
		t.Fatal(err)
	}
	m.Write(text)
	if got, want := m.Digest(), digest.Of(digest.SHA1, text); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestEveryPlaceAndBorder(t *testing.T) {
	c := hashParts(rand.New(rand.NewPCG(1, 2)), 3)
	for at := range 80 {
		text := bytes.Repeat([]byte{'x'}, 150)
		copy(text[at:], c[1])
		for cut := range len(text) {
			s := New(c)
			s.Write(text[:cut])
			s.Write(text[cut:])
			if got := s.Found(); !slices.Equal(got, c[1:2]) {
				t.Fatalf("at %d, cut at %d: found %v", at, cut, got)
			}
		}
	}
}

func TestNoFalseFinds(t *testing.T) {
	c := hashParts(rand.New(rand.NewPCG(3, 4)), 1)
	for name, text := range map[string]string{
		"upper case":   strings.ToUpper(c[0]),
		"one short":    c[0][:31] + "-",
		"one missing":  c[0][1:],
		"interrupted":  c[0][:16] + "\x00" + c[0][16:],
		"one changed":  c[0][:20] + "e" + c[0][21:],
		"back to back": c[0][16:] + c[0][:16],
	} {
		s := New(c)
		s.Write([]byte(text))
		if got := s.Found(); len(got) != 0 {
			t.Errorf("%s: found %v", name, got)
		}
	}
}

func TestOddCandidates(t *testing.T) {
	same := strings.Repeat("a", HashLen)
	s := New([]string{"short", same, same, "", same[1:] + "b"})
	s.Write([]byte("short" + same + "b"))
	if got := s.Found(); !slices.Equal(got, []string{same, same[1:] + "b"}) {
		t.Errorf("found %v", got)
	}
	if got := New(nil); len(got.Found()) != 0 {
		t.Error("found something of nothing")
	}
}

func TestManyCandidates(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	c := hashParts(r, 20000)
	var text []byte
	var want []string
	for i := 0; i < len(c); i += 7 {
		want = append(want, c[i])
		text = append(text, c[i]...)
		text = append(text, make([]byte, r.IntN(40))...)
	}
	slices.Sort(want)
	s := New(c)
	for len(text) > 0 {
		n := min(len(text), 1+r.IntN(5000))
		s.Write(text[:n])
		text = text[n:]
	}
	if got := s.Found(); !slices.Equal(got, want) {
		t.Errorf("found %d, want %d", len(got), len(want))
	}
}

func TestRewriter(t *testing.T) {
	a, b, z := strings.Repeat("a", 32), strings.Repeat("b", 32), strings.Repeat("z", 32)
	for _, c := range []struct{ name, in, want string }{
		{"empty", "", ""},
		{"none", "hello", "hello"},
		{"alone", a, b},
		{"inside", "x" + a + "y", "x" + b + "y"},
		{"first of overlapping", a + "aaaa", b + "aaaa"},
		{"twice", a + a, b + b},
		{"nearly twice", a + a[1:], b + a[1:]},
		{"both", a + "-" + b, b + "-" + z},
		{"what is new is not looked at", a[:16] + b + a[16:], a[:16] + z + a[16:]},
	} {
		for piece := 1; piece <= len(c.in)+1; piece++ {
			var out strings.Builder
			r, err := NewRewriter(&out, map[string]string{a: b, b: z})
			if err != nil {
				t.Fatal(err)
			}
			for part := range slices.Chunk([]byte(c.in), piece) {
				r.Write(part)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			if out.String() != c.want {
				t.Fatalf("%s in pieces of %d: %q, want %q", c.name, piece, out.String(), c.want)
			}
		}
	}
	if _, err := NewRewriter(nil, map[string]string{a: "b"}); err == nil {
		t.Error("a rewrite that changes the length was taken")
	}
}

// naive is the definition, without any thought of speed.
func naive(text []byte, candidates []string) []string {
	var out []string
	for _, c := range candidates {
		if len(c) == HashLen && bytes.Contains(text, []byte(c)) {
			out = append(out, c)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func FuzzScanner(f *testing.F) {
	f.Add([]byte("0123456789abcdfghijklmnpqrsvwxyz0123"), uint64(1), uint8(40))
	f.Add(bytes.Repeat([]byte("a"), 100), uint64(2), uint8(1))
	f.Fuzz(func(t *testing.T, text []byte, seed uint64, pieces uint8) {
		r := rand.New(rand.NewPCG(seed, 0))
		c := hashParts(r, 2)
		for range r.IntN(6) { // candidates out of the text itself, so that they overlap
			if at := r.IntN(len(text) + 1); at+HashLen <= len(text) {
				c = append(c, string(text[at:at+HashLen]))
			}
		}
		for range r.IntN(4) {
			at := r.IntN(len(text) + 1)
			text = slices.Insert(text, at, []byte(c[r.IntN(len(c))][r.IntN(8):])...)
		}
		s := New(c)
		for rest := text; len(rest) > 0; {
			n := min(len(rest), 1+r.IntN(int(pieces)+1))
			s.Write(rest[:n])
			rest = rest[n:]
		}
		if got, want := s.Found(), naive(text, c); !slices.Equal(got, want) {
			t.Errorf("found %q, want %q", got, want)
		}
	})
}

func FuzzRewriter(f *testing.F) {
	f.Add(bytes.Repeat([]byte("ab"), 60), uint64(1))
	f.Add([]byte("zzzz0123456789abcdfghijklmnpqrsvwxyz0123456789abcdfghijklmnpqrsvwxyz"), uint64(9))
	f.Fuzz(func(t *testing.T, text []byte, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		to := hashParts(r, 3)
		rewrites := map[string]string{}
		for _, h := range to {
			if at := r.IntN(len(text) + 1); at+HashLen <= len(text) {
				rewrites[string(text[at:at+HashLen])] = h
			}
		}
		var want []byte
		for i := 0; i < len(text); {
			if i+HashLen <= len(text) {
				if h, ok := rewrites[string(text[i:i+HashLen])]; ok {
					want = append(want, h...)
					i += HashLen
					continue
				}
			}
			want = append(want, text[i])
			i++
		}
		var got bytes.Buffer
		w, err := NewRewriter(&got, rewrites)
		if err != nil {
			t.Fatal(err)
		}
		for rest := text; len(rest) > 0; {
			n := min(len(rest), 1+r.IntN(70))
			w.Write(rest[:n])
			rest = rest[n:]
		}
		w.Close()
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("got %q, want %q", got.Bytes(), want)
		}
	})
}

func BenchmarkScanner(b *testing.B) {
	const size = 4 << 20
	r := rand.New(rand.NewPCG(7, 8))
	for _, n := range []int{1, 100, 2000, 20000} {
		c := hashParts(r, n)
		random := make([]byte, size)
		for i := range random {
			random[i] = byte(r.Uint32())
		}
		contents := map[string][]byte{
			"random": random,
			"base32": []byte(strings.Join(hashParts(r, size/HashLen), "")),
			"zeros":  make([]byte, size),
			"prefix": bytes.Repeat([]byte(c[0][:28]), size/28),
			"almost": bytes.Repeat([]byte(c[0][:31]+"e"), size/32),
			"full":   bytes.Repeat([]byte(c[0]), size/32),
		}
		for _, name := range []string{"random", "base32", "zeros", "prefix", "almost", "full"} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				s := New(c)
				b.SetBytes(int64(len(contents[name])))
				for b.Loop() {
					for part := range slices.Chunk(contents[name], 256<<10) {
						s.Write(part)
					}
				}
			})
		}
	}
}

func BenchmarkNew(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 20000} {
		c := hashParts(rand.New(rand.NewPCG(7, 8)), n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				New(c)
			}
		})
	}
}
