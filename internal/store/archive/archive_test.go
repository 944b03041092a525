package archive_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gobuild/internal/protocol"
	"gobuild/internal/store"
	"gobuild/internal/store/archive"
	"gobuild/internal/store/digest"
	"gobuild/internal/store/fstree"
	"gobuild/internal/store/nar"
	"gobuild/internal/store/storepath"
)

const golden = "../../../testdata/golden/"

func readGolden(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(golden + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// newStore makes an empty store whose paths begin with /nix/store, in memory if
// it can.
func newStore(t testing.TB) *store.Store {
	t.Helper()
	root, err := os.MkdirTemp("/dev/shm", "archive-")
	if err != nil {
		root = t.TempDir()
	}
	s, err := store.Open(store.Config{
		Dir: "/nix/store", RealDir: root + "/nix/store", StateDir: root + "/nix/var/nix", WAL: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		_, _ = fstree.RemoveAll(root)
	})
	return s
}

func importAll(t testing.TB, s *store.Store, stream []byte) ([]storepath.Path, error) {
	t.Helper()
	in := bytes.NewReader(stream)
	return archive.Import(protocol.NewReader(in), s, nil)
}

func export(s *store.Store, paths ...storepath.Path) ([]byte, error) {
	var b bytes.Buffer
	err := archive.Export(protocol.NewWriter(&b), s, paths)
	return b.Bytes(), err
}

// leftovers are what lies in a store beside valid paths and their locks.
func leftovers(t testing.TB, s *store.Store) []string {
	t.Helper()
	entries, err := os.ReadDir(s.RealDir())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		p, err := s.Dir().FromBase(e.Name())
		if err == nil {
			if valid, _ := s.IsValid(p); valid {
				continue
			}
		}
		if e.Name() != ".links" && !strings.HasSuffix(e.Name(), ".lock") {
			names = append(names, e.Name())
		}
	}
	return names
}

type exported struct {
	Path, NarHash, Deriver string
	NarSize                uint64
	References             []string
}

func manifest(t testing.TB) map[string][]exported {
	t.Helper()
	var m map[string][]exported
	if err := json.Unmarshal(readGolden(t, "export/export-manifest.json"), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestGoldenExportsSurvive(t *testing.T) {
	for name, items := range manifest(t) {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			if name == "two-paths.export" { // it has not all that it refers to
				if _, err := importAll(t, s, readGolden(t, "export/user-closure.export")); err != nil {
					t.Fatal(err)
				}
			}
			stream := readGolden(t, "export/"+name)
			paths, err := importAll(t, s, stream)
			if err != nil || len(paths) != len(items) {
				t.Fatalf("%v, %v", paths, err)
			}
			for i, item := range items {
				info, err := s.Info(paths[i])
				if err != nil {
					t.Fatal(err)
				}
				var refs []string
				for _, r := range info.References {
					refs = append(refs, string(r))
				}
				if string(info.Path) != item.Path || info.NarHash.String() != item.NarHash || info.NarSize != item.NarSize ||
					string(info.Deriver) != item.Deriver || !slices.Equal(refs, item.References) || info.Ultimate || len(info.Sigs) > 0 {
					t.Errorf("%+v, want %+v", info, item)
				}
			}
			if again, err := export(s, paths...); err != nil || !bytes.Equal(again, stream) {
				t.Errorf("exported again: %d bytes, want %d; %v", len(again), len(stream), err)
			}
			if more, err := importAll(t, s, stream); err != nil || !slices.Equal(more, paths) {
				t.Errorf("imported again: %v, %v", more, err)
			}
			if l := leftovers(t, s); len(l) > 0 {
				t.Errorf("left behind: %v", l)
			}
		})
	}
}

func TestBadExports(t *testing.T) {
	good := readGolden(t, "export/drv.export")
	one := bytes.Index(good, []byte("NIXE"))
	if one < 0 {
		t.Fatal("the sample has no magic number")
	}
	words := func(values ...any) []byte {
		var b bytes.Buffer
		w := protocol.NewWriter(&b)
		for _, v := range values {
			switch v := v.(type) {
			case int:
				w.Uint64(uint64(v))
			case string:
				w.Text(v)
			case []byte:
				_, _ = w.Write(v)
			}
		}
		_ = w.Flush()
		return b.Bytes()
	}
	const magic, a = 0x4558494e, "/nix/store/94f9f6i31zwzwbf0kclq1naqxxi4c7v9-a"
	item := good[8:one]
	for name, test := range map[string]struct {
		stream []byte
		want   string
	}{
		"nothing":         {nil, "reading an export: unexpected end-of-file"},
		"text":            {[]byte("#!/bin/sh\necho\n\n"), "input doesn't look like something created by 'nix-store --export'"},
		"no archive":      {words(1, "nix-archive-2", 0), "importing a path: bad archive: input doesn't look like a Nix archive"},
		"cut archive":     {good[:one-9], "importing a path: "},
		"no magic":        {words(1, item, 1), "the archive cannot be imported; wrong format"},
		"other directory": {words(1, item, magic, "/gnu/store/94f9f6i31zwzwbf0kclq1naqxxi4c7v9-a", 0, "", 0, 0), "not a store path"},
		"traversal":       {words(1, item, magic, "/nix/store/../../etc/passwd", 0, "", 0, 0), "not a store path"},
		"bad reference":   {words(1, item, magic, a, 1, "x", "", 0, 0), "not a store path"},
		"bad deriver":     {words(1, item, magic, a, 0, a, 0, 0), "is not a derivation"},
		"many references": {words(1, item, magic, a, 1<<50), "is too long"},
		"missing":         {words(1, item, magic, a, 1, a[:len(a)-1]+"b", "", 0, 0), "is not valid"},
		"no end":          {words(1, item, magic, a, 0, "", 0), "reading an export: unexpected end-of-file"},
		"bad derivation":  {words(1, item, magic, a+".drv", 0, "", 0, 0), "has incorrect output"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			_, err := importAll(t, s, test.stream)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want '%s'", err, test.want)
			}
			if l := leftovers(t, s); len(l) > 0 {
				t.Errorf("left behind: %v", l)
			}
		})
	}
}

func TestOldSignaturesCountForNothing(t *testing.T) {
	stream := readGolden(t, "export/drv.export")
	var signed bytes.Buffer
	signed.Write(stream[:len(stream)-16])
	w := protocol.NewWriter(&signed)
	w.Uint64(1)
	w.Text(";cache.nixos.org\nnonsense")
	w.Uint64(0)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	s := newStore(t)
	paths, err := importAll(t, s, signed.Bytes())
	if err != nil || len(paths) != 1 {
		t.Fatalf("%v, %v", paths, err)
	}
	if info, err := s.Info(paths[0]); err != nil || info.Ultimate || len(info.Sigs) > 0 {
		t.Errorf("%+v, %v", info, err)
	}
}

func TestChangedPathsAreNotExported(t *testing.T) {
	s := newStore(t)
	p, err := s.AddText("a", []byte("one"), nil)
	if err != nil {
		t.Fatal(err)
	}
	file := s.RealPath(p)
	if err := errors.Join(os.Chmod(file, 0o644), os.WriteFile(file, []byte("two"), 0o644)); err != nil {
		t.Fatal(err)
	}
	_, err = export(s, p)
	if err == nil || !strings.HasPrefix(err.Error(), "hash of path '"+string(p)+"' has changed from 'sha256:") {
		t.Errorf("%v", err)
	}
	if _, err := export(s, "/nix/store/94f9f6i31zwzwbf0kclq1naqxxi4c7v9-none"); !errors.Is(err, store.ErrInvalidPath) {
		t.Errorf("%v", err)
	}
}

func TestTheJudgeDecides(t *testing.T) {
	s := newStore(t)
	refusal := errors.New("not this one")
	seen := 0
	paths, err := archive.Import(protocol.NewReader(bytes.NewReader(readGolden(t, "export/user-closure.export"))), s, func(info *store.Info) error {
		if seen++; seen == 3 {
			return refusal
		}
		info.Deriver = ""
		return nil
	})
	if !errors.Is(err, refusal) || len(paths) != 2 || seen != 3 {
		t.Fatalf("%v, %v", paths, err)
	}
	all, err := s.AllValid()
	if err != nil || len(all) != 2 {
		t.Errorf("valid: %v, %v", all, err)
	}
	for _, p := range all {
		if info, err := s.Info(p); err != nil || info.Deriver != "" {
			t.Errorf("%+v, %v", info, err)
		}
	}
}

// fileInfo describes the archive of a file with a name that means nothing.
func fileInfo(text string) (store.Info, []byte) {
	var b bytes.Buffer
	_ = nar.WriteFile(&b, []byte(text)) // a buffer takes all
	info := store.Info{
		Path: "/nix/store/94f9f6i31zwzwbf0kclq1naqxxi4c7v9-a", NarSize: uint64(b.Len()), NarHash: digest.Of(digest.SHA256, b.Bytes()),
	}
	return info, b.Bytes()
}

func TestReceive(t *testing.T) {
	s := newStore(t)
	info, archived := fileInfo("hello")
	in := strings.NewReader(string(archived) + "more")
	if err := archive.Receive(s, info, in); err != nil {
		t.Fatal(err)
	}
	if in.Len() != len("more") {
		t.Errorf("%d bytes left", in.Len())
	}
	got, err := os.ReadFile(s.RealPath(info.Path))
	st, _ := os.Stat(s.RealPath(info.Path))
	if err != nil || string(got) != "hello" || st.Mode() != 0o444 || st.ModTime().Unix() != 1 {
		t.Errorf("%q, %v, %v", got, st, err)
	}
	other, archived2 := fileInfo("something else, which must be passed over")
	in = strings.NewReader(string(archived2) + "more")
	if err := archive.Receive(s, other, in); err != nil || in.Len() != len("more") {
		t.Errorf("a valid path: %v, %d bytes left", err, in.Len())
	}
}

func TestReceiveRefuses(t *testing.T) {
	address := func(method storepath.Method, algo digest.Algorithm, text string) storepath.ContentAddress {
		return storepath.ContentAddress{Method: method, Digest: digest.Of(algo, []byte(text))}
	}
	for name, test := range map[string]struct {
		change func(*store.Info)
		want   string
	}{
		"another hash": {func(i *store.Info) { i.NarHash = digest.Of(digest.SHA256, nil) }, "specified: sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="},
		"more":         {func(i *store.Info) { i.NarSize -= 8 }, "is longer than announced"},
		"less":         {func(i *store.Info) { i.NarSize += 8 }, "specified: 136 bytes\n  got:       128 bytes"},
		"flat address": {func(i *store.Info) { i.CA = address(storepath.Flat, digest.SHA1, "x") }, "hash mismatch importing path"},
		"text address": {func(i *store.Info) { i.CA = address(storepath.Text, digest.SHA256, "x") }, "hash mismatch importing path"},
		"nar address":  {func(i *store.Info) { i.CA = address(storepath.NAR, digest.SHA256, "x") }, "hash mismatch importing path"},
		"git address":  {func(i *store.Info) { i.CA = address(storepath.Git, digest.SHA1, "x") }, "of a kind that is not supported"},
		"wrong name":   {func(i *store.Info) { i.CA = address(storepath.Flat, digest.SHA256, "hello, world") }, "claims to be content-addressed but isn't"},
		"self reference": {func(i *store.Info) {
			i.References, i.CA = []storepath.Path{i.Path}, address(storepath.NAR, digest.SHA256, "x")
		}, "hash mismatch"},
		"reference": {func(i *store.Info) { i.References = []storepath.Path{i.Path + "b"} }, "is not valid"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			info, archived := fileInfo("hello, world")
			test.change(&info)
			err := archive.Receive(s, info, bytes.NewReader(archived))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want '%s'", err, test.want)
			}
			if valid, _ := s.IsValid(info.Path); valid {
				t.Error("the path is valid")
			}
			if l := leftovers(t, s); len(l) > 0 {
				t.Errorf("left behind: %v", l)
			}
		})
	}
}

func TestContentAddressesAreVerified(t *testing.T) {
	s := newStore(t)
	for _, a := range []store.Addition{
		{Name: "flat", Method: storepath.Flat, Algorithm: digest.SHA1},
		{Name: "text", Method: storepath.Text, Algorithm: digest.SHA256},
		{Name: "tree", Method: storepath.NAR, Algorithm: digest.SHA512},
	} {
		in := []byte("contents")
		if a.Method == storepath.NAR {
			_, in = fileInfo("contents")
		}
		p, err := s.AddStream(a, bytes.NewReader(in))
		if err != nil {
			t.Fatal(err)
		}
		info, err := s.Info(p)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := archive.Send(&b, s, &info); err != nil {
			t.Fatal(err)
		}
		to := newStore(t)
		if err := archive.Receive(to, info, &b); err != nil {
			t.Errorf("%s: %v", a.Name, err)
		}
	}
}

func TestAddressesOfSelfReferences(t *testing.T) {
	var samples []struct {
		Path, NarHash, NarBase64 string
		Modulo                   string `json:"moduloSha256nix32"`
	}
	if err := json.Unmarshal(readGolden(t, "hash-modulo.json"), &samples); err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, v := range samples {
		data, err := base64.StdEncoding.DecodeString(v.NarBase64)
		if err != nil {
			t.Fatal(err)
		}
		hash, err := digest.Parse(v.NarHash, digest.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		modulo, err := digest.ParseBare(digest.SHA256, v.Modulo)
		if err != nil {
			t.Fatal(err)
		}
		info := store.Info{
			Path: storepath.Path(v.Path), NarHash: hash, NarSize: uint64(len(data)), References: []storepath.Path{storepath.Path(v.Path)},
			CA: storepath.ContentAddress{Method: storepath.NAR, Digest: modulo},
		}
		if want, err := storepath.Dir("/nix/store").Content(info.CA, info.Path.Name(), storepath.References{Self: true}); err != nil || want != info.Path {
			continue // it refers to more than itself
		}
		tried++
		if err := archive.Receive(newStore(t), info, bytes.NewReader(data)); err != nil {
			t.Errorf("%s: %v", v.Path, err)
		}
	}
	if tried == 0 {
		t.Error("no sample refers to itself alone")
	}
}

// TestNixAgrees exchanges exports with the real one.
func TestNixAgrees(t *testing.T) {
	nix, err := exec.LookPath("nix-store")
	if err != nil {
		if os.Getenv("GOBUILD_REQUIRE_NIX") == "1" {
			t.Fatal("nix-store is not installed")
		}
		t.Skip("skipped: nix-store is not installed")
	}
	dir := t.TempDir()
	t.Cleanup(func() { _, _ = fstree.RemoveAll(dir + "/nix") })
	run := func(in io.Reader, args ...string) []byte {
		t.Helper()
		cmd := exec.Command(nix, append([]string{"--store", dir, "--option", "build-users-group", ""}, args...)...)
		cmd.Env = append(os.Environ(), "NIX_CONF_DIR="+dir, "HOME="+dir, "NIX_USER_CONF_FILES=")
		cmd.Stdin = in
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("nix-store %v: %v\n%s", args, err, stderr.Bytes())
		}
		return out
	}
	s := newStore(t)
	paths, err := importAll(t, s, readGolden(t, "export/user-closure.export"))
	if err != nil {
		t.Fatal(err)
	}
	src := filepath.Join(t.TempDir(), "tree")
	if err := errors.Join(os.Mkdir(src, 0o755), os.Symlink("x", src+"/link"), os.WriteFile(src+"/prog", make([]byte, 1<<20), 0o755)); err != nil {
		t.Fatal(err)
	}
	p, err := s.AddTree(store.Addition{Name: "tree", Method: storepath.NAR, Algorithm: digest.SHA256, References: paths[:2]}, src)
	if err != nil {
		t.Fatal(err)
	}
	paths = append(paths, p)
	slices.Reverse(paths)
	stream, err := export(s, paths...)
	if err != nil {
		t.Fatal(err)
	}
	printed := run(bytes.NewReader(stream), "--import")
	args := []string{"--export"}
	for _, p := range paths {
		args = append(args, string(p))
	}
	if theirs := run(nil, args...); !bytes.Equal(theirs, stream) {
		t.Errorf("Nix exports %d bytes, we %d", len(theirs), len(stream))
	}
	to := newStore(t)
	order, err := importAll(t, to, stream)
	if err != nil {
		t.Fatal(err)
	}
	var ours strings.Builder
	for _, p := range order {
		ours.WriteString(string(p) + "\n")
	}
	if ours.String() != string(printed) {
		t.Errorf("Nix imports\n%s, we\n%s", printed, ours.String())
	}
}

func FuzzImport(f *testing.F) {
	for _, name := range []string{"drv", "empty", "two-paths"} {
		f.Add(readGolden(f, "export/"+name+".export"))
	}
	s := newStore(f) // shared: what is valid already is another case
	f.Fuzz(func(t *testing.T, stream []byte) {
		paths, err := archive.Import(protocol.NewReader(bytes.NewReader(stream)), s, nil)
		if err == nil && len(paths) > 0 {
			if _, err := export(s, paths...); err != nil {
				t.Error(err)
			}
		}
		if l := leftovers(t, s); len(l) > 0 {
			t.Errorf("left behind: %v", l)
		}
	})
}
