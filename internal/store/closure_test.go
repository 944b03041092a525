package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"gobuild/internal/store/storepath"
)

// naive computes a closure from References or Referrers.
func naive(t *testing.T, roots []storepath.Path, next func(storepath.Path) ([]storepath.Path, error)) []storepath.Path {
	t.Helper()
	seen := map[storepath.Path]bool{}
	todo := slices.Clone(roots)
	for len(todo) > 0 {
		p := todo[0]
		todo = todo[1:]
		if seen[p] {
			continue
		}
		seen[p] = true
		more, err := next(p)
		if err != nil {
			t.Fatal(err)
		}
		todo = append(todo, more...)
	}
	var out []storepath.Path
	for p := range seen {
		out = append(out, p)
	}
	slices.Sort(out)
	return out
}

// Whether it asks for single paths or scans, a closure must be the same; the
// store is large enough for the scan to happen on the way.
func TestClosuresAgree(t *testing.T) {
	s := newStore(t)
	rng := rand.New(rand.NewPCG(3, 4))
	const n = 1500
	paths := make([]storepath.Path, n)
	infos := make([]Info, n)
	for i := range paths {
		paths[i] = fakePath(s.dir, rng.IntN(1<<30)*n+i, "p")
		refs := []storepath.Path{paths[i]} // selves must not matter
		for range min(i, 3) {
			refs = append(refs, paths[rng.IntN(i)])
		}
		infos[i] = fakeInfo(paths[i], refs...)
	}
	mustRegister(t, s, infos...)
	if err := s.Invalidate(paths[n-1]); err != nil { // a gap in the row ids
		t.Fatal(err)
	}
	paths = paths[:n-1]
	cached := s.NewClosures()
	for i := range 60 {
		roots := []storepath.Path{paths[rng.IntN(len(paths))], paths[rng.IntN(len(paths))]}
		want := naive(t, roots, s.References)
		for name, of := range map[string]func(...storepath.Path) ([]storepath.Path, error){
			"fresh": s.Closure, "cached": cached.Of,
		} {
			if got, err := of(roots...); err != nil || !slices.Equal(got, want) {
				t.Fatalf("%d: %s closure of %v: %d paths, %v; want %d", i, name, roots, len(got), err, len(want))
			}
		}
		if got, err := s.ReferrersClosure(roots...); err != nil || !slices.Equal(got, naive(t, roots, s.Referrers)) {
			t.Fatalf("referrers closure of %v: %d paths, %v", roots, len(got), err)
		}
	}
	if cached.scanned == 0 {
		t.Error("the table was never scanned: the test tests half")
	}
	checkGrowth(t, s, cached, paths)
}

// checkGrowth registers more paths after the scan.
func checkGrowth(t *testing.T, s *Store, cached *Closures, paths []storepath.Path) {
	t.Helper()
	fresh := fakePath(s.dir, 1, "fresh")
	if _, err := cached.Of(fresh); !errors.Is(err, ErrInvalidPath) {
		t.Errorf("closure of a path to come: %v", err)
	}
	user := fakePath(s.dir, 1<<60, "user")
	mustRegister(t, s, fakeInfo(fresh, paths[40], fresh), fakeInfo(user, fresh, paths[3]))
	want := naive(t, []storepath.Path{user}, s.References)
	if got, err := cached.Of(user); err != nil || !slices.Equal(got, want) {
		t.Errorf("closure after registration: %v, %v; want %v", got, err, want)
	}
	checkTopological(t, s, cached, want)
}

func checkTopological(t *testing.T, s *Store, c *Closures, paths []storepath.Path) {
	t.Helper()
	got, err := c.Topological(append(slices.Clone(paths), paths[0]))
	if err != nil || len(got) != len(paths) {
		t.Fatalf("sorted %d of %d paths: %v", len(got), len(paths), err)
	}
	at := map[storepath.Path]int{}
	for i, p := range got {
		at[p] = i
	}
	for _, p := range got {
		refs, err := s.References(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range refs {
			if at[r] > at[p] {
				t.Errorf("'%s' comes before its reference '%s'", p, r)
			}
		}
	}
	again, err := s.Topological(paths)
	if err != nil || !slices.Equal(got, again) {
		t.Errorf("the order depends on what was read before: %v\n%v\n%v", err, got, again)
	}
}

// A chain as long as this would end a recursive walk of some languages.
func TestLongChain(t *testing.T) {
	s := newStore(t)
	const n = 20_000
	infos := make([]Info, n)
	for i := range infos {
		infos[i] = fakeInfo(fakePath(s.dir, i, "link"))
		if i > 0 {
			infos[i].References = []storepath.Path{infos[i-1].Path}
		}
	}
	slices.Reverse(infos)
	mustRegister(t, s, infos...)
	all, err := s.Closure(infos[0].Path)
	if err != nil || len(all) != n {
		t.Fatal(len(all), err)
	}
	sorted, err := s.Topological(all)
	if err != nil || !slices.Equal(sorted, all) {
		t.Errorf("topological order of a chain: %v", err)
	}
}

func TestValidityAgrees(t *testing.T) {
	s := newStore(t)
	infos := make([]Info, 600)
	for i := range infos {
		infos[i] = fakeInfo(fakePath(s.dir, 2*i, "p"))
	}
	mustRegister(t, s, infos...)
	v := s.NewValidity()
	moved := fakePath(s.dir, 1, "p")
	v.Set(moved, true)
	for i := range 1200 {
		p := fakePath(s.dir, i, "p")
		ok, err := v.IsValid(p)
		if want := i%2 == 0 || p == moved; err != nil || ok != want {
			t.Fatalf("IsValid(%s) = %v, %v; want %v", p, ok, err, want)
		}
	}
	if !v.scanned {
		t.Error("the table was never scanned: the test tests half")
	}
}

func ExampleCycleError() {
	fmt.Println(&CycleError{Path: "/nix/store/a", From: "/nix/store/b"})
	// Output: cycle detected in the references of '/nix/store/a' from '/nix/store/b'
}
