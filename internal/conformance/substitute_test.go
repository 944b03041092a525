package conformance_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gobuild/internal/conformance/nixtest"
)

const signer = "example-1"

// key is a file of one of the two pairs of keys for tests.
func key(name string) string {
	return filepath.Join(nixtest.Tree(), "testdata/golden/keys", name)
}

func publicKey(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(key(name + ".pub"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// writeCache has real Nix build everything in a template but "top", and copy it to a binary cache, with parameters as they
// stand in a URL.
func writeCache(t *testing.T, lab *nixtest.Lab, tmpl *nixtest.Template, name, parameters string) (dir string) {
	t.Helper()
	nix, err := exec.LookPath("nix")
	if err != nil {
		t.Skip("skipped: no program 'nix' here to write caches with")
	}
	store := tmpl.NewStore(t)
	var built []string
	for attr, path := range tmpl.Drvs {
		if attr != "top" {
			built = append(built, path)
		}
	}
	slices.Sort(built)
	r := nixtest.Nix(lab.Tools).Run(t, store, nixtest.Request{Targets: built})
	if r.Exit != 0 {
		t.Fatalf("building what is to be cached: %s", r.Stderr)
	}
	dir = filepath.Join(lab.Dir, name)
	args := []string{nix, "--extra-experimental-features", "nix-command", "copy", "--to", "file://" + dir + "?" + parameters}
	args = append(args, strings.Fields(r.Stdout)...)
	if r := nixtest.Command(t, store, args).Wait(t); r.Exit != 0 {
		t.Fatalf("writing the cache: %s", r.Stderr)
	}
	return dir
}

// narinfo is the file that a cache has about a path, by the path's name.
func narinfo(t *testing.T, cache, name string) string {
	t.Helper()
	found, err := filepath.Glob(cache + "/*.narinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		path, _, _ := strings.Cut(string(text), "\n")
		if strings.HasSuffix(path, "-"+name) {
			return f
		}
	}
	t.Fatalf("the cache has no '%s'", name)
	return ""
}

// damage makes a cache one that cannot be relied on.
func damage(t *testing.T, cache string) {
	t.Helper()
	nar := func(name string) string {
		text, err := os.ReadFile(narinfo(t, cache, name))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), "\nURL: ")
		url, _, _ := strings.Cut(rest, "\n")
		return filepath.Join(cache, url)
	}
	other, err := os.ReadFile(nar("leaf"))
	if err == nil {
		err = os.WriteFile(nar("damaged"), other, 0o644)
	}
	for _, name := range []string{nar("gone"), narinfo(t, cache, "lacked")} {
		if err == nil {
			err = os.Remove(name)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestSubstitutes reads caches that real Nix wrote, with both engines.
func TestSubstitutes(t *testing.T) {
	lab := nixtest.NewLab(t, nixtest.Sandbox)
	tmpl := lab.Instantiate(t, expression("substitute.nix"), nil)
	nix, gobuild := nixtest.Nix(lab.Tools), nixtest.Gobuild(t)
	signed := writeCache(t, lab, tmpl, "signed", "compression=xz&secret-key="+key(signer+".sec"))
	damage(t, signed)
	with := func(cache string, more ...string) []string {
		return append([]string{"--option", "substituters", cache, "--option", "trusted-public-keys", publicKey(t, signer)}, more...)
	}
	const both = "gobuild says which cache is at fault"
	cases := []testCase{
		{name: "tree"}, {name: "multi"}, {name: "top"}, {name: "never"}, {name: "fixed"},
		{name: "one output", targets: []string{"multi!dev"}},
		{name: "path", targets: []string{"/tree"}},
		{name: "dry run", targets: []string{"top", "multi"}, args: []string{"--dry-run"}},
		{name: "lacking"},
		{name: "damaged", exit: 1, allow: allow(string(nixtest.Stderr), both), stderrHas: []string{
			"hash mismatch importing path '", "some substitutes for the outputs of derivation '"}},
		{name: "damaged, but fallback", targets: []string{"damaged"}, args: []string{"--fallback"}, allow: allow(string(nixtest.Stderr), both)},
		{name: "gone", allow: allow(string(nixtest.Stderr), both)},
		{name: "key of somebody else", targets: []string{"tree"}, args: []string{"--option", "trusted-public-keys", publicKey(t, "other-2")},
			allow: allow(string(nixtest.Stderr), "gobuild has the words of newer releases, and plans only with what it trusts"), stderrHas: []string{
				"ignoring substitute for '", "as it's not signed by any of the keys in 'trusted-public-keys'"}},
		{name: "no keys needed", targets: []string{"tree"}, args: []string{"--option", "trusted-public-keys", "", "--option", "require-sigs", "false"}},
		{name: "no substitution", targets: []string{"tree"}, args: []string{"--option", "substitute", "false"}},
		{name: "of nobody", targets: []string{"/nowhere"}, exit: 1,
			allow: allow(string(nixtest.Stderr), "gobuild says why"), stderrHas: []string{"there is no substituter that can build it"}},
	}
	for _, c := range cases {
		if c.name == "of nobody" {
			c.targets = []string{"/00000000000000000000000000000000-nowhere"}
		}
		t.Run(c.name, func(t *testing.T) {
			c.args = append(with("file://"+signed), c.args...)
			c.unordered = true
			if c.name == "path" {
				built := tmpl.NewStore(t)
				out := strings.TrimSpace(nix.Run(t, built, nixtest.Request{Targets: []string{tmpl.Drvs["tree"]}}).Stdout)
				c.targets = []string{"/" + filepath.Base(out)}
			}
			c.run(t, lab, tmpl, nix, gobuild)
		})
	}
	for _, compression := range []string{"none", "xz", "bzip2", "zstd", "gzip", "br"} {
		t.Run(compression, func(t *testing.T) {
			cache := writeCache(t, lab, tmpl, compression, "compression="+compression)
			c := testCase{name: "tree", args: with("file://"+cache+"?trusted=1", "--option", "max-jobs", "0")}
			c.unordered = true
			c.run(t, lab, tmpl, nix, gobuild)
		})
	}
}
