package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/storepath"
)

// testConfig is a store in a directory of its own.
func testConfig(t testing.TB) Config {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Dir: storepath.Dir(dir + "/store"), StateDir: dir + "/var", LogDir: dir + "/log", WAL: true,
		Warn: func(line string) { t.Log("warning: " + line) },
		Now:  func() time.Time { return time.Unix(1_700_000_000, 0) },
	}
}

func openStore(t testing.TB, cfg Config) *Store {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return s
}

func newStore(t testing.TB) *Store {
	t.Helper()
	return openStore(t, testConfig(t))
}

// fakePath is a path whose hash part follows from n, growing with it.
func fakePath(dir storepath.Dir, n int, name string) storepath.Path {
	p, err := dir.FromBase(fmt.Sprintf("%032d-%s", n, name))
	if err != nil {
		panic(err)
	}
	return p
}

// fakeInfo is a valid-looking registration without files.
func fakeInfo(p storepath.Path, refs ...storepath.Path) Info {
	return Info{Path: p, NarHash: digest.Of(digest.SHA256, []byte(p)), NarSize: 112, References: refs}
}

func mustRegister(t testing.TB, s *Store, infos ...Info) {
	t.Helper()
	if err := s.Register(infos); err != nil {
		t.Fatal(err)
	}
}

func TestRegisterAndAsk(t *testing.T) {
	s := newStore(t)
	a, b, c := fakePath(s.dir, 1, "a"), fakePath(s.dir, 2, "b"), fakePath(s.dir, 3, "c")
	built := fakeInfo(c, c, a, b)
	built.Deriver, built.Ultimate = fakePath(s.dir, 9, "c.drv"), true
	built.Sigs = []string{"z-1:AAAA", "a-1:BBBB"}
	built.Registered = time.Unix(1234, 0)
	mustRegister(t, s, built, fakeInfo(b, a), fakeInfo(a))

	got, err := s.Info(c)
	if err != nil {
		t.Fatal(err)
	}
	want := built
	want.References, want.Sigs = []storepath.Path{a, b, c}, []string{"a-1:BBBB", "z-1:AAAA"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("Info:\n got %v\nwant %v", got, want)
	}
	if info, err := s.Info(a); err != nil || !info.Registered.Equal(s.cfg.Now()) || info.Deriver != "" || info.Ultimate {
		t.Errorf("Info of a plain path: %+v, %v", info, err)
	}
	check := func(name string, got []storepath.Path, err error, want ...storepath.Path) {
		t.Helper()
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, want)
		}
	}
	refs, err := s.References(c)
	check("references", refs, err, a, b, c)
	refs, err = s.Referrers(a)
	check("referrers", refs, err, b, c)
	refs, err = s.Closure(b)
	check("closure", refs, err, a, b)
	refs, err = s.ReferrersClosure(b)
	check("referrers closure", refs, err, b, c)
	refs, err = s.AllValid()
	check("all", refs, err, a, b, c)
	refs, err = s.Topological([]storepath.Path{c, b, a})
	check("topological", refs, err, a, b, c)
	if p, err := s.ByHashPart(b.HashPart()); err != nil || p != b {
		t.Errorf("by hash part: %v, %v", p, err)
	}
	if _, err := s.ByHashPart(fakePath(s.dir, 5, "x").HashPart()); !errors.Is(err, ErrInvalidPath) {
		t.Errorf("by absent hash part: %v", err)
	}
	if _, err := s.ByHashPart("0123"); err == nil || err.Error() != "invalid hash part '0123'" {
		t.Errorf("by short hash part: %v", err)
	}
	for _, q := range []func(storepath.Path) error{
		func(p storepath.Path) error { _, err := s.Info(p); return err },
		func(p storepath.Path) error { _, err := s.Referrers(p); return err },
		func(p storepath.Path) error { _, err := s.Closure(a, p); return err },
		func(p storepath.Path) error { _, err := s.Topological([]storepath.Path{p}); return err },
	} {
		nobody := fakePath(s.dir, 7, "nobody")
		if err := q(nobody); !errors.Is(err, ErrInvalidPath) || err.Error() != "path '"+string(nobody)+"' is not valid" {
			t.Errorf("question about an invalid path: %v", err)
		}
	}
}

func TestRegisterUpdates(t *testing.T) {
	s := newStore(t)
	a, b := fakePath(s.dir, 1, "a"), fakePath(s.dir, 2, "b")
	mustRegister(t, s, fakeInfo(a), fakeInfo(b))
	again := fakeInfo(a, b)
	again.NarSize, again.NarHash = 5000, digest.Of(digest.SHA256, []byte("other"))
	again.Deriver, again.Registered = fakePath(s.dir, 3, "a.drv"), time.Unix(5, 0)
	again.Sigs = []string{"k:sig"}
	mustRegister(t, s, again)
	again.References = nil
	mustRegister(t, s, again)
	got, err := s.Info(a)
	if err != nil {
		t.Fatal(err)
	}
	if got.NarSize != 5000 || got.NarHash != again.NarHash || !slices.Equal(got.Sigs, again.Sigs) {
		t.Errorf("not updated: %+v", got)
	}
	if got.Deriver != "" || !got.Registered.Equal(s.cfg.Now()) {
		t.Errorf("deriver and time must stay: %+v", got)
	}
	if !slices.Equal(got.References, []storepath.Path{b}) {
		t.Errorf("references must be kept: %v", got.References)
	}
}

func TestRegisterIsAllOrNothing(t *testing.T) {
	s := newStore(t)
	a, b, c := fakePath(s.dir, 1, "a"), fakePath(s.dir, 2, "b"), fakePath(s.dir, 3, "c")
	claims := fakeInfo(c)
	claims.CA = storepath.ContentAddress{Method: storepath.NAR, Digest: digest.Of(digest.SHA256, []byte("x"))}
	change := func(f func(*Info)) []Info {
		info := fakeInfo(a)
		f(&info)
		return []Info{fakeInfo(b), info}
	}
	for name, tc := range map[string]struct {
		infos []Info
		want  string
	}{
		"foreign path":      {change(func(i *Info) { i.Path = fakePath("/else/where", 1, "a") }), "is not in the Nix store"},
		"foreign deriver":   {change(func(i *Info) { i.Deriver = fakePath("/else/where", 1, "a") }), "deriver is not in the Nix store"},
		"no hash":           {change(func(i *Info) { i.NarHash = digest.Digest{} }), "has no SHA-256 hash"},
		"huge":              {change(func(i *Info) { i.NarSize = 1 << 63 }), "size is out of range"},
		"two signatures":    {change(func(i *Info) { i.Sigs = []string{"a:b c:d"} }), "malformed signature"},
		"invalid reference": {[]Info{fakeInfo(a), fakeInfo(b, c)}, "path '" + string(c) + "' is not valid"},
		"cycle": {
			[]Info{fakeInfo(a, b), fakeInfo(b, c), fakeInfo(c, a)},
			fmt.Sprintf("cycle detected in the references of '%s' from '%s'", a, c),
		},
		"false content address": {[]Info{fakeInfo(a), claims}, fmt.Sprintf("cannot add path '%s' to the Nix store because it claims to be content-addressed but isn't", c)},
		"derivation without a file": {
			[]Info{fakeInfo(a), fakeInfo(fakePath(s.dir, 4, "x.drv"))}, "opening file '" + s.RealPath(fakePath(s.dir, 4, "x.drv")) + "'",
		},
	} {
		err := s.Register(tc.infos)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v", name, err)
		}
		var cycle *CycleError
		if errors.As(err, &cycle) != (name == "cycle") {
			t.Errorf("%s: error type %T", name, err)
		}
		if all, err := s.AllValid(); len(all) > 0 || err != nil {
			t.Errorf("%s: left behind %v, %v", name, all, err)
		}
	}
}

func TestInvalidate(t *testing.T) {
	s := newStore(t)
	a, b := fakePath(s.dir, 1, "a"), fakePath(s.dir, 2, "b")
	mustRegister(t, s, fakeInfo(a, a), fakeInfo(b, a))
	err := s.Invalidate(a)
	var use *InUseError
	if !errors.As(err, &use) || err.Error() != fmt.Sprintf("cannot delete path '%s' because it is in use by '%s'", a, b) {
		t.Fatalf("error %v", err)
	}
	if err := s.Invalidate(a, b); !errors.As(err, &use) {
		t.Errorf("wrong order: %v", err)
	}
	if err := s.Invalidate(b, a, fakePath(s.dir, 3, "never")); err != nil {
		t.Errorf("right order: %v", err)
	}
	if all, _ := s.AllValid(); len(all) > 0 {
		t.Errorf("still valid: %v", all)
	}
}

func TestReadOnly(t *testing.T) {
	cfg := testConfig(t)
	cfg.ReadOnly = true
	if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), "there is no store at") {
		t.Errorf("read-only open of nothing: %v", err)
	}
	if _, err := os.Stat(cfg.StateDir); !os.IsNotExist(err) {
		t.Errorf("a read-only open made something")
	}
	cfg.ReadOnly = false
	a := fakePath(cfg.Dir, 1, "a")
	w := openStore(t, cfg)
	mustRegister(t, w, fakeInfo(a))
	cfg.ReadOnly = true
	r := openStore(t, cfg)
	if ok, err := r.IsValid(a); !ok || err != nil {
		t.Errorf("IsValid: %v, %v", ok, err)
	}
	if err := r.Register([]Info{fakeInfo(a)}); !errors.Is(err, ErrReadOnly) {
		t.Errorf("Register: %v", err)
	}
	if err := r.Invalidate(a); !errors.Is(err, ErrReadOnly) {
		t.Errorf("Invalidate: %v", err)
	}
	for _, err := range []error{r.MarkFailed(Failure{}, a), r.ClearFailed(a), r.ClearAllFailed()} {
		if !errors.Is(err, ErrReadOnly) {
			t.Errorf("changing failures: %v", err)
		}
	}
}
