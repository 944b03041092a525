package store

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/storepath"
)

// A peer runs real Nix on the same store.
type peer struct {
	t   *testing.T
	env []string
}

func newPeer(t *testing.T, cfg Config) *peer {
	t.Helper()
	if _, err := exec.LookPath("nix-store"); err != nil {
		t.Skip("nix-store is not in PATH: not compared with real Nix")
	}
	return &peer{t: t, env: append(os.Environ(),
		"NIX_STORE_DIR="+string(cfg.Dir), "NIX_STATE_DIR="+cfg.StateDir, "NIX_LOG_DIR="+cfg.LogDir,
		"NIX_CONF_DIR="+t.TempDir(), "NIX_USER_CONF_FILES=", "NIX_REMOTE=local",
		"NIX_CONFIG=build-users-group =\nsandbox = false\nsubstituters =\n")}
}

func (n *peer) command(args ...string) *exec.Cmd {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = n.env
	return cmd
}

func (n *peer) run(args ...string) string {
	n.t.Helper()
	cmd := n.command(args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		n.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return string(out)
}

// alone keeps the machine's other processes from a collector: it looks for
// roots in them, and stops at one in a directory with too long a name.
func alone() []string {
	if _, err := exec.LookPath("unshare"); err != nil || os.Geteuid() != 0 {
		return nil
	}
	return []string{"unshare", "--fork", "--pid", "--mount-proc"}
}

func (n *peer) path(args ...string) storepath.Path {
	n.t.Helper()
	return storepath.Path(strings.TrimSpace(n.run(args...)))
}

func lines(paths []storepath.Path) string {
	var b strings.Builder
	for _, p := range paths {
		b.WriteString(string(p) + "\n")
	}
	return b.String()
}

// What we write, real Nix must find correct, and the other way round.
func TestSharedWithNix(t *testing.T) {
	cfg := testConfig(t)
	nix := newPeer(t, cfg)
	s := openStore(t, cfg)
	leaf, err := s.AddText("leaf", []byte("a leaf"), nil)
	must(t, err)
	mid, err := s.AddText("mid", []byte(leaf), []storepath.Path{leaf})
	must(t, err)
	top, err := s.AddText("top", []byte(leaf+mid), []storepath.Path{mid, leaf})
	must(t, err)
	tree, err := s.AddTree(Addition{Name: "tree", Method: storepath.NAR, Algorithm: digest.SHA256}, sampleTree(t))
	must(t, err)

	nix.run("nix-store", "--verify", "--check-contents")
	if got := fields(nix.run("nix-store", "-q", "--references", string(top))); !slices.Equal(got, fields(lines([]storepath.Path{leaf, mid}))) {
		t.Errorf("references according to Nix: %q", got)
	}
	checkDump(t, s, nix)

	// now Nix adds
	src := sampleTree(t)
	theirs := nix.path("nix-store", "--add", src)
	flat := nix.path("nix-store", "--add-fixed", "sha1", src+"/plain")
	for p, a := range map[storepath.Path]Addition{
		theirs: {Name: "tree", Method: storepath.NAR, Algorithm: digest.SHA256},
		flat:   {Name: "plain", Method: storepath.Flat, Algorithm: digest.SHA1},
	} {
		if ok, err := s.IsValid(p); !ok || err != nil {
			t.Errorf("what Nix added is not seen: '%s': %v", p, err)
		}
		source := map[storepath.Path]string{theirs: src, flat: src + "/plain"}[p]
		if got, err := s.AddTree(a, source); got != p || err != nil {
			t.Errorf("we would add it as %s, %v; Nix did as %s", got, err, p)
		}
	}
	if theirs != tree {
		t.Errorf("the same tree is %s for us, %s for Nix", tree, theirs)
	}
	checkDump(t, s, nix)
	checkBuild(t, s, nix)
	nix.run("nix-store", "--verify", "--check-contents")
}

// fields are the words of a text, sorted.
func fields(text string) []string { return slices.Sorted(strings.FieldsSeq(text)) }

func checkDump(t *testing.T, s *Store, nix *peer) {
	t.Helper()
	all, err := s.AllValid()
	must(t, err)
	got, err := s.RegistrationText(all, RegistrationFormat{Hash: true, Deriver: true})
	must(t, err)
	if want := nix.run("nix-store", "--dump-db"); string(got) != want {
		t.Errorf("our dump:\n%s\nNix's dump:\n%s", got, want)
	}
}

// checkBuild has Nix instantiate and build a small graph, and compares what
// both know of it.
func checkBuild(t *testing.T, s *Store, nix *peer) {
	t.Helper()
	expr := filepath.Join(t.TempDir(), "graph.nix")
	must(t, os.WriteFile(expr, []byte(`
let make = name: deps: derivation {
      inherit name deps;
      system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo $deps > $out" ];
    };
    a = make "a" [ ]; b = make "b" [ a ]; c = make "c" [ a b ]; d = make "d" [ c b ]; e = make "e" [ d a ];
in make "top" [ e c d a ]`), 0o644))
	drv := nix.path("nix-instantiate", expr)
	out := nix.path("nix-store", "--realise", string(drv))
	info, err := s.Info(out)
	if err != nil || info.Deriver != drv || !info.Ultimate {
		t.Errorf("built path: %+v, %v", info, err)
	}
	if outs, err := s.DerivationOutputs(drv); err != nil || len(outs) != 1 || outs[0].Path != out || outs[0].ID != "out" {
		t.Errorf("outputs of '%s': %v, %v", drv, outs, err)
	}
	for _, p := range []storepath.Path{out, drv} {
		closure, err := s.Closure(p)
		must(t, err)
		topological, err := s.Topological(closure)
		must(t, err)
		if want := nix.run("nix-store", "--query", "--requisites", string(p)); lines(topological) != want {
			t.Errorf("our closure of '%s':\n%s\nNix's:\n%s", p, lines(topological), want)
		}
	}
	leaf := drv // the derivation of everybody's dependency has the most referrers
	refs, err := s.Closure(drv)
	must(t, err)
	for _, p := range refs {
		if p.Name() == "a.drv" {
			leaf = p
		}
	}
	users, err := s.ReferrersClosure(leaf)
	must(t, err)
	want := fields(nix.run("nix-store", "--query", "--referrers-closure", string(leaf)))
	if got := fields(lines(users)); !slices.Equal(got, want) {
		t.Errorf("our referrers closure:\n%q\nNix's:\n%q", got, want)
	}
	d, err := s.Derivation(drv)
	must(t, err)
	if again, err := s.AddDerivation(d); again != drv || err != nil {
		t.Errorf("adding Nix's derivation again: %s, %v", again, err)
	}
	text, err := s.RegistrationText(refs, RegistrationFormat{Hash: true, Deriver: true})
	must(t, err)
	if want := nix.run(append([]string{"nix-store", "--dump-db"}, strings.Fields(lines(refs))...)...); !slices.Equal(fields(string(text)), fields(want)) {
		t.Errorf("our dump of a closure:\n%s\nNix's:\n%s", text, want)
	}
}

// Nix's collector must spare what a living process of ours has named, and
// take the rest.
func TestNixCollectsAroundUs(t *testing.T) {
	cfg := testConfig(t)
	nix := newPeer(t, cfg)
	s := openStore(t, cfg)
	kept, err := s.AddText("kept", []byte("1"), nil) // by a request's temporary root
	must(t, err)
	linked, err := s.AddText("linked", []byte("2"), nil)
	must(t, err)
	must(t, s.AddRoot(filepath.Join(t.TempDir(), "result"), linked, Indirect))
	request, err := s.NewTempRoots(strconv.Itoa(os.Getpid()) + "-req")
	must(t, err)
	must(t, request.Add(kept))
	dead, err := s.AddText("dead", []byte("3"), nil)
	must(t, err)
	must(t, s.roots.Close()) // and with it the roots of what was just added
	s.roots = nil
	must(t, s.AddTempRoots(linked))
	dir, err := s.NewTempDir()
	must(t, err)
	nix.run(append(alone(), "nix-store", "--gc")...)
	for p, want := range map[storepath.Path]bool{kept: true, linked: true, dead: false} {
		if ok, err := s.IsValid(p); ok != want || err != nil {
			t.Errorf("after the collection, IsValid(%s) = %v, %v", p, ok, err)
		}
		if _, err := os.Lstat(s.RealPath(p)); (err == nil) != want {
			t.Errorf("after the collection, '%s': %v", p, err)
		}
	}
	if _, err := os.Stat(dir.Path); err != nil {
		t.Errorf("a temporary directory was collected: %v", err)
	}
	dir.Remove()
	must(t, request.Close())
}

func TestNixAtTheSameTime(t *testing.T) {
	cfg := testConfig(t)
	nix := newPeer(t, cfg)
	openStore(t, cfg)
	ours := helper(cfg, "register-us")
	var out bytes.Buffer
	ours.Stdout = &out
	must(t, ours.Start())
	src := t.TempDir()
	var added []storepath.Path
	for n := range 5 {
		file := filepath.Join(src, "file"+strconv.Itoa(n))
		must(t, os.WriteFile(file, []byte(file), 0o644))
		added = append(added, nix.path("nix-store", "--add", file))
	}
	if err := ours.Wait(); err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
	s := openStore(t, cfg)
	all, err := s.AllValid()
	if err != nil || len(all) != 2*perProcess+len(added) {
		t.Errorf("%d paths valid, %v", len(all), err)
	}
	if got := nix.run("nix-store", "-q", "--referrers", string(fakePath(s.dir, 7, "shared"))); got != string(fakePath(s.dir, 7, "own-us"))+"\n" {
		t.Errorf("referrers according to Nix: %s", got)
	}
}
