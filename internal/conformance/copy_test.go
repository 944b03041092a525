package conformance_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gobuild/internal/conformance/nixtest"
)

// copied are the derivations whose outputs are written to caches.
var copied = []string{"simple", "emptyDir", "execTop", "symlinkTop", "multi", "tree", "refSelf", "refSiblingChain",
	"refInputs", "fixedRecSha256", "fixedFlatMd5", "bigFile", "binary"}

// TestCopy has both engines write binary caches from one store, and compares them file for file. Then real Nix takes everything
// from gobuild's.
func TestCopy(t *testing.T) {
	nix, err := exec.LookPath("nix")
	if err != nil {
		t.Skip("skipped: no program 'nix' here to write caches with")
	}
	lab := nixtest.NewLab(t, nixtest.Sandbox)
	tmpl := lab.Instantiate(t, expression("default.nix"), nil)
	store := tmpl.NewStore(t)
	var drvs []string
	for _, attr := range copied {
		drvs = append(drvs, tmpl.Drvs[attr])
	}
	built := nixtest.Nix(lab.Tools).Run(t, store, nixtest.Request{Targets: drvs,
		Args: []string{"--option", "secret-key-files", key("other-2.sec")}})
	if built.Exit != 0 {
		t.Fatalf("building what is to be copied: %s", built.Stderr)
	}
	outputs := strings.Fields(built.Stdout)
	outputs = append(outputs, strangeNames(t, lab, store)) // content-addressed, unlike most outputs
	byNix := []string{nix, "--extra-experimental-features", "nix-command", "copy", "--to"}
	byGobuild := []string{nixtest.Program(t), "copy", "--root", store.Root, "--to"}

	for _, c := range []struct {
		name, parameters string
		same             bool // the archives, too: their compressors are one and the same
	}{
		{"plain", "compression=none", true},
		{"all", "compression=none&write-nar-listing=true&index-debug-info=true&secret-key=" + key("example-1.sec"), true},
		{"xz", "", false},
		{"level", "compression=xz&compression-level=1&secret-key=" + key("other-2.sec"), false},
		{"parallel", "compression=xz&parallel-compression=true", false},
		{"bzip2", "compression=bzip2&write-nar-listing=1", false},
		{"zstd", "compression=zstd", false},
		{"gzip", "compression=gzip", false},
		{"br", "compression=br", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			want, got := filepath.Join(lab.Dir, c.name+"-nix"), filepath.Join(lab.Dir, c.name+"-gobuild")
			nixResult := nixtest.Command(t, store, slices.Concat(byNix, []string{"file://" + want + "?" + c.parameters}, outputs)).Wait(t)
			result := nixtest.Run(t, store, slices.Concat(byGobuild, []string{"file://" + got + "?" + c.parameters}, outputs))
			if nixResult.Exit != 0 || result.Exit != 0 {
				t.Fatalf("nix ended with %d, gobuild with %d:\n%s\n%s", nixResult.Exit, result.Exit, nixResult.Stderr, result.Stderr)
			}
			compareCaches(t, want, got, c.same)
			takeAll(t, lab, tmpl, nix, store, got, outputs)
			stay(t, got, func() {
				again := nixtest.Command(t, store, slices.Concat(byNix, []string{"file://" + got + "?" + c.parameters}, outputs)).Wait(t)
				if again.Exit != 0 {
					t.Errorf("nix cannot copy to gobuild's cache:\n%s", again.Stderr)
				}
			})
			stay(t, want, func() {
				again := nixtest.Run(t, store, slices.Concat(byGobuild, []string{"file://" + want + "?" + c.parameters}, outputs))
				if again.Exit != 0 || again.Stderr != "" {
					t.Errorf("gobuild finds something to copy to Nix's cache:\n%s", again.Stderr)
				}
			})
		})
	}
}

// strangeNames adds a tree whose listing needs escapes.
func strangeNames(t *testing.T, lab *nixtest.Lab, store *nixtest.Store) string {
	t.Helper()
	dir := filepath.Join(lab.Dir, "strange")
	for _, name := range []string{`quo"te`, `back\slash`, "tab\t", "line\nfeed\r", "bell\x07", "\x7f", "ünï☃漢", "<&>", "\u2028", "sub dir"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(name, filepath.Join(dir, name, "link")); err != nil {
			t.Fatal(err)
		}
	}
	r := nixtest.Nix(lab.Tools).Add(t, store, dir, nil)
	if r.Exit != 0 {
		t.Fatal(r.Stderr)
	}
	return strings.TrimSpace(r.Stdout)
}

// TestCopyUnlistable wants an error where Nix 2.8 writes a listing that is no JSON; newer releases refuse, too.
func TestCopyUnlistable(t *testing.T) {
	lab := nixtest.NewLab(t, nixtest.Sandbox)
	tmpl := lab.Instantiate(t, expression("default.nix"), nil)
	store := tmpl.NewStore(t)
	built := nixtest.Nix(lab.Tools).Run(t, store, nixtest.Request{Targets: []string{tmpl.Drvs["oddNames"]}})
	if built.Exit != 0 {
		t.Fatal(built.Stderr)
	}
	to := "file://" + filepath.Join(lab.Dir, "cache") + "?compression=none"
	args := []string{nixtest.Program(t), "copy", "--root", store.Root, strings.TrimSpace(built.Stdout), "--to"}
	r := nixtest.Run(t, store, append(args, to+"&write-nar-listing=true"))
	if r.Exit != 1 || !strings.Contains(r.Stderr, `'"\xff\xfe"' cannot be listed, because it is not UTF-8`) {
		t.Errorf("exit status %d:\n%s", r.Exit, r.Stderr)
	}
	if r := nixtest.Run(t, store, append(args, to)); r.Exit != 0 {
		t.Errorf("exit status %d:\n%s", r.Exit, r.Stderr)
	}
}

// cacheFiles reads a cache.
func cacheFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	found, _ := filepath.Glob(dir + "/*")
	below, _ := filepath.Glob(dir + "/*/*")
	for _, name := range append(found, below...) {
		st, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if st.IsDir() {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files[name[len(dir)+1:]] = string(text)
	}
	return files
}

// ofCompressor are the lines of a narinfo that depend on which compressor wrote the archive.
var ofCompressor = regexp.MustCompile(`(?m)^(URL: nar/|FileHash: sha256:)[0-9a-z]{52}|^FileSize: \d+$`)

func compareCaches(t *testing.T, want, got string, same bool) {
	t.Helper()
	comparable := func(dir string) map[string]string {
		files := cacheFiles(t, dir)
		if same {
			return files
		}
		for name, text := range files {
			switch {
			case strings.HasPrefix(name, "nar/"):
				delete(files, name)
			case strings.HasSuffix(name, ".narinfo"):
				files[name] = ofCompressor.ReplaceAllString(text, "$1*")
			}
		}
		return files
	}
	nixFiles, gobuildFiles := comparable(want), comparable(got)
	if len(nixFiles) < len(copied) {
		t.Errorf("real Nix has written %d files only", len(nixFiles))
	}
	for _, name := range slices.Sorted(maps.Keys(nixFiles)) {
		if gobuildFiles[name] != nixFiles[name] {
			t.Errorf("%s: gobuild wrote\n%.2000s\nNix\n%.2000s", name, gobuildFiles[name], nixFiles[name])
		}
		delete(gobuildFiles, name)
	}
	for name := range gobuildFiles {
		t.Errorf("%s: written by gobuild only", name)
	}
}

// takeAll has real Nix fetch everything from a cache into an empty store, and compares what it has then with the store that the
// cache was made from. Paths with signatures are fetched by those, the rest because the cache is trusted.
func takeAll(t *testing.T, lab *nixtest.Lab, tmpl *nixtest.Template, nix string, from *nixtest.Store, cache string, outputs []string) {
	t.Helper()
	to := tmpl.NewStore(t)
	args := []string{nix, "--extra-experimental-features", "nix-command", "copy", "--from", "file://" + cache,
		"--option", "trusted-public-keys", publicKey(t, "other-2")}
	if r := nixtest.Command(t, to, append(args, outputs...)).Wait(t); r.Exit != 0 {
		t.Fatalf("real Nix cannot read the cache:\n%s", r.Stderr)
	}
	want, got := nixtest.Take(t, from), nixtest.Take(t, to)
	for _, p := range outputs {
		if got.Trees[p] == "" || got.Trees[p] != want.Trees[p] {
			t.Errorf("'%s' is\n%s\nwant\n%s", p, got.Trees[p], want.Trees[p])
		}
	}
	nixtest.Verify(t, lab.Tools, to)
}

// stay does something that must change nothing in a cache.
func stay(t *testing.T, cache string, do func()) {
	t.Helper()
	before := map[string]os.FileInfo{}
	for name := range cacheFiles(t, cache) {
		st, err := os.Stat(filepath.Join(cache, name))
		if err != nil {
			t.Fatal(err)
		}
		before[name] = st
	}
	do()
	for name := range cacheFiles(t, cache) {
		st, err := os.Stat(filepath.Join(cache, name))
		if err != nil || before[name] == nil || !os.SameFile(before[name], st) {
			t.Errorf("'%s' was written again", name)
		}
	}
}
