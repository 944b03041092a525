package conformance_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gobuild/internal/conformance/nixtest"
)

// killsVar names the environment variable with the number of rounds that TestKilled goes.
const killsVar = "GOBUILD_KILLS"

// A deed is something that gobuild is killed at.
type deed struct {
	name    string
	victims []string // names of processes, as they are called by the one that starts them
	prepare func(t *testing.T, s *nixtest.Store)
	request nixtest.Request
}

// TestKilled ends gobuild, or one of the programs that it works with, without warning at random moments of fetching, repairing
// and having others build. Real Nix must then find every valid path whole, and a second run must bring the work to an end.
func TestKilled(t *testing.T) {
	rounds := 20
	if text := os.Getenv(killsVar); text != "" {
		var err error
		if rounds, err = strconv.Atoi(text); err != nil {
			t.Fatalf("%s: %v", killsVar, err)
		}
	}
	lab := nixtest.NewLab(t, nixtest.Sandbox)
	gobuild := nixtest.Gobuild(t)
	tmpl := lab.Instantiate(t, expression("graph.nix"), map[string]string{"work": `"seq 1 20000;"`})
	tops := slices.Sorted(maps.Values(tmpl.Drvs))
	deeds := killDeeds(t, lab, tmpl, tops)

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	whole := map[string]time.Duration{}
	for _, d := range deeds {
		s := tmpl.NewStore(t)
		clearLog(t, lab)
		d.prepare(t, s)
		begin := time.Now()
		if r := gobuild.Run(t, s, d.request); r.Exit != 0 {
			t.Fatalf("%s: an undisturbed run ended with %d:\n%s", d.name, r.Exit, r.Stderr)
		}
		whole[d.name] = time.Since(begin)
		nixtest.Verify(t, lab.Tools, s)
	}
	type choice struct {
		deed   deed
		victim string
	}
	var choices []choice
	for _, d := range deeds {
		for _, v := range d.victims {
			choices = append(choices, choice{d, v})
		}
	}
	for i := range rounds {
		c := choices[i%len(choices)]
		moment := time.Duration(random.Int64N(int64(whole[c.deed.name])))
		ok := t.Run(fmt.Sprintf("%d %s %s after %v", i, c.deed.name, c.victim, moment), func(t *testing.T) {
			s := tmpl.NewStore(t)
			clearLog(t, lab)
			c.deed.prepare(t, s)
			killed := killAt(t, gobuild, s, c.deed, c.victim, moment)
			verifyAfterKill(t, lab, s, c.deed)
			r := gobuild.Run(t, s, c.deed.request)
			if r.Exit != 0 {
				t.Errorf("the second run ended with %d:\n%s\nthe first one (killed: %v) said:\n%s", r.Exit, r.Stderr, killed.Exit, killed.Stderr)
			}
			if left := nixtest.Take(t, s).Leftovers; len(left) > 0 {
				t.Errorf("left in the store: %v", left)
			}
			nixtest.Verify(t, lab.Tools, s)
		})
		if !ok {
			return
		}
	}
}

// verifyAfterKill is nixtest.Verify, except for the paths that the deed was to repair.
func verifyAfterKill(t *testing.T, lab *nixtest.Lab, s *nixtest.Store, d deed) {
	t.Helper()
	if !strings.Contains(d.name, "repair") {
		nixtest.Verify(t, lab.Tools, s)
		return
	}
	r := nixtest.Command(t, s, []string{lab.Tools.NixStore, "--verify", "--check-contents"}).Wait(t)
	for line := range strings.Lines(r.Stderr) {
		spoilt := strings.Contains(line, "-node-0-") && strings.Contains(line, "was modified") || strings.Contains(line, "not all store errors were fixed")
		if !spoilt && !strings.HasPrefix(line, "reading the Nix store") && !strings.HasPrefix(line, "checking ") {
			t.Errorf("nix-store --verify --check-contents: %s", line)
		}
	}
}

func killDeeds(t *testing.T, lab *nixtest.Lab, tmpl *nixtest.Template, tops []string) []deed {
	t.Helper()
	none := func(*testing.T, *nixtest.Store) {}
	built := tmpl.NewStore(t)
	if r := nixtest.Nix(lab.Tools).Run(t, built, nixtest.Request{Targets: tops}); r.Exit != 0 {
		t.Fatalf("building: %s", r.Stderr)
	}
	cache := filepath.Join(lab.Dir, "cache")
	copied := nixtest.Command(t, built, []string{nixProgram(t), "--extra-experimental-features", "nix-command", "copy", "--all", "--to",
		"file://" + cache + "?compression=zstd"}).Wait(t)
	if copied.Exit != 0 {
		t.Fatalf("writing the cache: %s", copied.Stderr)
	}
	fetch := []string{"--option", "substituters", "file://" + cache, "--option", "require-sigs", "false"}
	whole := filepath.Join(lab.Dir, "whole")
	copyTree(t, built.Root, whole)
	spoil := func(t *testing.T, s *nixtest.Store) {
		t.Helper()
		nixtest.RemoveAll(t, s.Root)
		copyTree(t, whole, s.Root)
		found, _ := filepath.Glob(s.Dir() + "/*-node-0-*")
		found = slices.DeleteFunc(found, func(name string) bool { return strings.HasSuffix(name, ".drv") })
		if len(found) < 2 {
			t.Fatal("nothing to spoil")
		}
		for _, name := range found {
			if err := os.Chmod(name, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, []byte("spoilt"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return []deed{
		{name: "fetch", victims: []string{"gobuild", "gobuild-net"}, prepare: none, request: nixtest.Request{Targets: tops, Args: fetch}},
		{name: "repair", victims: []string{"gobuild", "gobuild-net"}, prepare: spoil,
			request: nixtest.Request{Targets: tops, Args: append([]string{"--repair"}, fetch...)}},
		{name: "build again to repair", victims: []string{"gobuild"}, prepare: spoil,
			request: nixtest.Request{Targets: tops, Args: []string{"--repair", "-j2"}}},
		{name: "hook", victims: []string{"gobuild", "build-hook"}, prepare: none,
			request: nixtest.Request{Targets: tops, Args: []string{"-j", "0"}, Env: []string{"NIX_BUILD_HOOK=" + buildHook(t, lab)}}},
	}
}

// buildHook is a program that takes every build, and makes up the outputs.
func buildHook(t *testing.T, lab *nixtest.Lab) string {
	t.Helper()
	name := filepath.Join(lab.Dir, "build-hook")
	script := `#!/bin/sh
while read willing platform drv features; do
	echo '# accept' >&2
	read inputs
	read outputs
	for o in $outputs; do
		o=${TMPDIR%/tmp}$o
		rm -rf $o
		mkdir $o
		for i in 1 2 3 4 5; do seq 1 2000 >$o/$i; done
	done
	exit 0
done
`
	if err := os.WriteFile(name, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

func nixProgram(t *testing.T) string {
	t.Helper()
	nix, err := exec.LookPath("nix")
	if err != nil {
		t.Skip("skipped: no program 'nix' here to write caches with")
	}
	return nix
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("copying '%s': %v\n%s", from, err, out)
	}
}

// killAt starts a deed and kills the victim after a while: gobuild itself, or the next process of that name among those that it
// started, if there comes one.
func killAt(t *testing.T, gobuild nixtest.Engine, s *nixtest.Store, d deed, victim string, moment time.Duration) nixtest.Result {
	t.Helper()
	run := gobuild.Start(t, s, d.request)
	<-time.NewTimer(moment).C
	if victim == "gobuild" {
		_ = run.Signal(syscall.SIGKILL)
	} else {
		killChild(run.Pid(), victim)
	}
	r := run.Wait(t)
	// Its children hear of its end, and end.
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline) && len(processes(s.Root)) > 0; {
		time.Sleep(5 * time.Millisecond)
	}
	return r
}

// killChild looks for a descendant by what it is called, until it finds one or the parent has ended.
func killChild(parent int, name string) {
	for !ended(parent) {
		for _, pid := range descendants(parent) {
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			words := strings.SplitN(string(text), "\x00", 3)
			for _, word := range words[:min(len(words), 2)] { // a script is its interpreter's argument
				if filepath.Base(word) == name {
					_ = syscall.Kill(pid, syscall.SIGKILL)
					return
				}
			}
		}
		time.Sleep(time.Millisecond)
	}
}

// ended tells whether a child of ours has ended, though nobody has waited for it.
func ended(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := bytes.Cut(text, []byte(") "))
	return err != nil || bytes.HasPrefix(rest, []byte("Z"))
}

func descendants(parent int) []int {
	var found []int
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", parent, parent))
	for _, word := range strings.Fields(string(text)) {
		if pid, err := strconv.Atoi(word); err == nil {
			found = append(append(found, pid), descendants(pid)...)
		}
	}
	return found
}
