package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/drv"
	"gobuild/internal/store/nar"
	"gobuild/internal/store/pathlock"
	"gobuild/internal/store/storepath"
)

// left lists what lies in the store directory, but for .links.
func left(t *testing.T, s *Store) []string {
	t.Helper()
	entries, err := os.ReadDir(s.RealDir())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != ".links" {
			names = append(names, e.Name())
		}
	}
	return names
}

func sampleTree(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	if err := os.MkdirAll(dir+"/sub/empty", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"/plain": 0o644, "/sub/run": 0o700} {
		if err := os.WriteFile(dir+name, []byte("contents of "+name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../plain", dir+"/sub/link"); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAddTree(t *testing.T) {
	s := newStore(t)
	src := sampleTree(t)
	for _, a := range []Addition{
		{Name: "tree", Method: storepath.NAR, Algorithm: digest.SHA256},
		{Name: "tree", Method: storepath.NAR, Algorithm: digest.SHA1},
	} {
		want, err := s.ComputePath(a, src)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time it is valid already
			if p, err := s.AddTree(a, src); err != nil || p != want {
				t.Fatalf("AddTree: %v, %v; want %v", p, err, want)
			}
		}
		var orig, stored bytes.Buffer
		if err := errors.Join(nar.Dump(&orig, src), nar.Dump(&stored, s.RealPath(want))); err != nil || !bytes.Equal(orig.Bytes(), stored.Bytes()) {
			t.Errorf("the stored tree differs from its source: %v", err)
		}
		info, err := s.Info(want)
		if err != nil || info.NarHash != digest.Of(digest.SHA256, orig.Bytes()) || info.NarSize != uint64(orig.Len()) || info.CA.Method != storepath.NAR {
			t.Errorf("registered %+v, %v", info, err)
		}
		if good, err := s.ContentsGood(want); !good || err != nil {
			t.Errorf("ContentsGood: %v, %v", good, err)
		}
		st, err := os.Lstat(s.RealPath(want) + "/sub/run")
		if err != nil || st.Mode() != 0o555 || st.ModTime().Unix() != 1 {
			t.Errorf("not canonical: %v, %v", st, err)
		}
	}
	if names := left(t, s); len(names) != 2 {
		t.Errorf("left in the store: %v", names)
	}
}

func TestAddFlat(t *testing.T) {
	s := newStore(t)
	src := filepath.Join(t.TempDir(), "script")
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // more than is read ahead
	if err := os.WriteFile(src, big, 0o755); err != nil {
		t.Fatal(err)
	}
	a := Addition{Name: "script", Method: storepath.Flat, Algorithm: digest.SHA512}
	p, err := s.AddTree(a, src)
	if err != nil {
		t.Fatal(err)
	}
	want, err := s.dir.Content(storepath.ContentAddress{Method: storepath.Flat, Digest: digest.Of(digest.SHA512, big)}, "script", storepath.References{})
	if err != nil || p != want {
		t.Errorf("path %v; want %v, %v", p, want, err)
	}
	if st, err := os.Stat(s.RealPath(p)); err != nil || st.Mode() != 0o444 || st.Size() != int64(len(big)) {
		t.Errorf("stored as %v, %v", st, err)
	}
}

func TestAddReplacesGarbage(t *testing.T) {
	s := newStore(t)
	p, err := s.dir.Text([]byte("hello"), "greeting", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(s.RealPath(p)+"/half/built", 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := s.AddText("greeting", []byte("hello"), nil); err != nil || got != p {
		t.Fatal(got, err)
	}
	if text, err := os.ReadFile(s.RealPath(p)); string(text) != "hello" {
		t.Errorf("stored %q, %v", text, err)
	}
	if err := os.Chmod(s.RealPath(p), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.RealPath(p), []byte("jello"), 0o644); err != nil {
		t.Fatal(err)
	}
	if good, err := s.ContentsGood(p); good || err != nil {
		t.Errorf("ContentsGood of changed contents: %v, %v", good, err)
	}
	s.good = nil
	if err := os.Remove(s.RealPath(p)); err != nil {
		t.Fatal(err)
	}
	if good, err := s.ContentsGood(p); good || err != nil {
		t.Errorf("ContentsGood of missing contents: %v, %v", good, err)
	}
}

func TestAddRefuses(t *testing.T) {
	s := newStore(t)
	nobody := fakePath(s.dir, 1, "nobody")
	if _, err := s.AddText("x", []byte(nobody), []storepath.Path{nobody}); !errors.Is(err, ErrInvalidPath) {
		t.Errorf("invalid reference: %v", err)
	}
	for _, a := range []Addition{
		{Name: "x", Method: storepath.Git, Algorithm: digest.SHA1}, {Name: "x"},
		{Name: "x", Method: storepath.Text, Algorithm: digest.SHA1}, {Name: ".", Algorithm: digest.SHA1},
	} {
		if p, err := s.AddTree(a, "add_test.go"); err == nil {
			t.Errorf("%+v was added as '%s'", a, p)
		}
		if p, err := s.ComputePath(a, "add_test.go"); err == nil {
			t.Errorf("%+v has the path '%s'", a, p)
		}
	}
	if _, err := s.AddText("a/b", nil, nil); err == nil {
		t.Error("a name with a slash was accepted")
	}
	a := Addition{Name: "x", Method: storepath.NAR, Algorithm: digest.SHA256}
	if _, err := s.AddTree(a, filepath.Join(t.TempDir(), "missing")); !os.IsNotExist(errors.Unwrap(err)) && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing source: %v", err)
	}
	if _, err := s.AddStream(a, strings.NewReader("no archive at all")); err == nil {
		t.Error("garbage was restored as an archive")
	}
	var archive bytes.Buffer
	if err := nar.WriteFile(&archive, []byte("x")); err != nil {
		t.Fatal(err)
	}
	archive.WriteString("more")
	if _, err := s.AddStream(a, &archive); err == nil || !strings.Contains(err.Error(), "data after the end of the archive") {
		t.Errorf("data after an archive: %v", err)
	}
	if all, _ := s.AllValid(); len(all) > 0 {
		t.Errorf("valid: %v", all)
	}
	for _, name := range left(t, s) {
		if strings.HasSuffix(name, "-tmp") {
			t.Errorf("left in the store: %s", name)
		}
	}
}

// goldenDerivations adds derivations that real Nix made, dependencies first.
func goldenDerivations(t *testing.T, s *Store, most int) []storepath.Path {
	t.Helper()
	const golden = "../../testdata/golden/"
	files, err := filepath.Glob(golden + "drv/*-deep-*.drv")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden derivations", err)
	}
	files = append(files, golden+"drv/3ghsl9sd83mc26i81adpa2fzf3yw4f68-simple.drv") // where the chain begins
	texts := map[storepath.Path]*drv.Derivation{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		p, err := s.dir.FromBase(filepath.Base(f))
		if err != nil {
			t.Fatal(err)
		}
		if texts[p], err = drv.Parse(s.dir, drvName(p), text); err != nil {
			t.Fatal(err)
		}
	}
	var added []storepath.Path
	for progress := true; progress && len(added) < most; {
		progress = false
		for p, d := range texts {
			ready := len(d.InputSrcs) == 0
			for _, in := range d.InputDrvs {
				ok, err := s.IsValid(in.Path)
				ready = ready && ok && err == nil
			}
			if !ready || len(added) == most {
				continue
			}
			if got, err := s.AddDerivation(d); err != nil || got != p {
				t.Fatalf("adding '%s': %v, %v", p, got, err)
			}
			delete(texts, p)
			added, progress = append(added, p), true
		}
	}
	return added
}

func TestAddDerivations(t *testing.T) {
	cfg := testConfig(t)
	cfg.RealDir, cfg.Dir = string(cfg.Dir), "/nix/store"
	s := openStore(t, cfg)
	added := goldenDerivations(t, s, 12)
	if len(added) != 12 {
		t.Fatalf("only %d derivations could be added", len(added))
	}
	for _, p := range added {
		d, err := s.Derivation(p)
		if err != nil {
			t.Fatal(err)
		}
		o, err := s.Outline(p, nil)
		if err != nil || o.Name != d.Name {
			t.Errorf("outline of '%s': %v, %v", p, o, err)
		}
		outs, err := s.DerivationOutputs(p)
		if err != nil || len(outs) != len(d.Outputs) || outs[0].Path != d.Outputs[0].Path || outs[0].ID != d.Outputs[0].ID {
			t.Errorf("outputs of '%s': %v, %v", p, outs, err)
		}
		if by, err := s.ValidDerivers(outs[0].Path); err != nil || len(by) != 1 || by[0] != p {
			t.Errorf("derivers of '%s': %v, %v", outs[0].Path, by, err)
		}
	}
	first, err := s.Derivation(added[0])
	if err != nil {
		t.Fatal(err)
	}
	first.Outputs[0].Path = fakePath(s.dir, 1, first.Name)
	if _, err := s.AddDerivation(first); err == nil || !strings.Contains(err.Error(), "has incorrect output") {
		t.Errorf("derivation with a wrong output path: %v", err)
	}
}

func TestDerivationErrors(t *testing.T) {
	s := newStore(t)
	bad := fakePath(s.dir, 1, "bad.drv")
	if err := os.WriteFile(s.RealPath(bad), []byte("Derive(["), 0o444); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Derivation(bad); err == nil || !strings.HasPrefix(err.Error(), "error parsing derivation '"+string(bad)+"': ") {
		t.Errorf("malformed: %v", err)
	}
	link := fakePath(s.dir, 2, "link.drv")
	if err := os.Symlink("/etc/passwd", s.RealPath(link)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Derivation(link); err == nil || !strings.HasPrefix(err.Error(), "opening file '") {
		t.Errorf("symlink: %v", err)
	}
	if _, err := s.Derivation(fakePath(s.dir, 3, "text")); err == nil || !strings.HasSuffix(err.Error(), "is not a derivation") {
		t.Errorf("wrong name: %v", err)
	}
	dir := fakePath(s.dir, 4, "dir.drv")
	if err := os.Mkdir(s.RealPath(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Derivation(dir); err == nil || !strings.HasSuffix(err.Error(), "is not a regular file") {
		t.Errorf("directory: %v", err)
	}
}

// What is valid by the time that the lock is free must not be touched.
func TestAdoptLosesRace(t *testing.T) {
	cfg := testConfig(t)
	p := fakePath(cfg.Dir, 1, "x")
	cfg.HeldLocks = []storepath.Path{p}
	s := openStore(t, cfg)
	lock, _, err := pathlock.Acquire([]string{s.RealPath(p)}, pathlock.Block)
	must(t, err)
	defer lock.Release(pathlock.Delete)
	for _, contents := range []string{"first", "second"} {
		tmp, err := s.NewTempDir()
		must(t, err)
		must(t, os.WriteFile(tmp.Path+"/x", []byte(contents), 0o444))
		must(t, s.Adopt(fakeInfo(p), tmp.Path+"/x"))
		tmp.Remove()
	}
	if text, err := os.ReadFile(s.RealPath(p)); string(text) != "first" {
		t.Errorf("stored %q, %v", text, err)
	}
}
