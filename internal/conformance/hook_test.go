package conformance_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gobuild/internal/conformance/nixtest"
)

// stockHook is the build hook that comes with Nix.
func stockHook(t *testing.T) string {
	t.Helper()
	for _, dir := range []string{"/usr/libexec/nix", "/usr/lib/nix", "/usr/local/libexec/nix"} {
		if file := filepath.Join(dir, "build-remote"); exists(file) {
			return file
		}
	}
	if os.Getenv(nixtest.RequireVar) == "1" {
		t.Fatal("Nix's build hook is not installed")
	}
	t.Skip("skipped: Nix's build hook is not installed")
	return ""
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// TestSameQuestions has a hook keep what it is sent by Nix and by gobuild: but for the values of settings that only one of them
// has, the bytes are the same.
func TestSameQuestions(t *testing.T) {
	lab := nixtest.NewLab(t, nixtest.Sandbox)
	tmpl := lab.Instantiate(t, expression("hook.nix"), nil)
	for _, jobs := range []string{"0", "1"} {
		t.Run(jobs+" jobs", func(t *testing.T) {
			said := map[string][]byte{}
			for _, engine := range []nixtest.Engine{nixtest.Nix(lab.Tools), nixtest.Gobuild(t)} {
				record, hook := filepath.Join(lab.Dir, "record"), filepath.Join(lab.Dir, "hook")
				script := "#!/bin/sh\n[ $# = 1 ] && [ $1 -ge 0 ] || exit 9\nprintf '# accept\\nssh://machine\\n' >&2\ncat > " + record + "\nexit 1\n"
				if err := os.WriteFile(hook, []byte(script), 0o755); err != nil {
					t.Fatal(err)
				}
				store := tmpl.NewStore(t)
				inputs := nixtest.Nix(lab.Tools).Run(t, store, nixtest.Request{Targets: []string{tmpl.Drvs["several"]}})
				if inputs.Exit != 0 {
					t.Fatal(inputs.Stderr)
				}
				engine.Run(t, store, nixtest.Request{
					Targets: []string{tmpl.Drvs["demanding"]}, Args: []string{"--option", "build-hook", hook, "-j", jobs},
				})
				text, err := os.ReadFile(record)
				if err != nil {
					t.Fatal(err)
				}
				os.Remove(record)
				said[engine.Name] = text
			}
			compareQuestions(t, said["nix"], said["gobuild"])
		})
	}
}

func compareQuestions(t *testing.T, nix, gobuild []byte) {
	t.Helper()
	nixSettings, nixRest := readSettings(t, nix)
	settings, rest := readSettings(t, gobuild)
	if string(nixRest) != string(rest) {
		t.Errorf("nix asked\n%q, gobuild\n%q", nixRest, rest)
	}
	for _, name := range []string{
		"builders", "builders-use-substitutes", "cores", "keep-failed", "keep-going", "max-jobs", "max-silent-time",
		"require-sigs", "sandbox", "substitute", "substituters", "system", "system-features", "timeout",
	} {
		if nixSettings[name] != settings[name] {
			t.Errorf("setting '%s': nix says '%s', gobuild '%s'", name, nixSettings[name], settings[name])
		}
	}
}

// readSettings reads what comes before the first request.
func readSettings(t *testing.T, said []byte) (settings map[string]string, rest []byte) {
	t.Helper()
	number := func() uint64 {
		if len(said) < 8 {
			t.Fatalf("the settings end early: %q", said)
		}
		n := binary.LittleEndian.Uint64(said)
		said = said[8:]
		return n
	}
	text := func() string {
		n := number()
		padded := (n + 7) &^ 7
		if padded > uint64(len(said)) {
			t.Fatalf("the settings end early: %q", said)
		}
		s := string(said[:n])
		said = said[padded:]
		return s
	}
	settings = map[string]string{}
	for number() == 1 {
		name := text()
		settings[name] = text()
	}
	return settings, said
}

// TestStockHook has Nix's own hook build elsewhere for Nix and for gobuild: each leaves the same behind, here and there.
func TestStockHook(t *testing.T) {
	hook := stockHook(t)
	lab := nixtest.NewLab(t, nixtest.Sandbox)
	tmpl := lab.Instantiate(t, expression("hook.nix"), nil)
	for _, attr := range []string{"demanding", "failing"} {
		t.Run(attr, func(t *testing.T) {
			var here, there [2]*nixtest.Snapshot
			for i, engine := range []nixtest.Engine{nixtest.Nix(lab.Tools), nixtest.Gobuild(t)} {
				store := tmpl.NewStore(t)
				remote := *store
				remote.Root = filepath.Join(lab.Dir, fmt.Sprintf("remote-%s-%d", attr, i))
				r := engine.Run(t, store, nixtest.Request{Targets: []string{tmpl.Drvs[attr]}, Args: []string{
					"-j", "0", "--option", "build-hook", hook,
					"--option", "builders", "local?root=" + remote.Root + " x86_64-linux - 2 1 kvm,big-parallel,benchmark",
				}})
				if (r.Exit == 0) != (attr != "failing") {
					t.Fatalf("%s ended with %d:\n%s", engine.Name, r.Exit, r.Stderr)
				}
				if !strings.Contains(r.Stderr, "' on 'local?root="+remote.Root+"'") {
					t.Errorf("%s does not say where it builds:\n%s", engine.Name, r.Stderr)
				}
				here[i], there[i] = nixtest.Take(t, store), nixtest.Take(t, &remote)
				nixtest.Verify(t, lab.Tools, store)
			}
			for _, d := range append(nixtest.CompareSnapshots(here[0], here[1]), nixtest.CompareSnapshots(there[0], there[1])...) {
				t.Errorf("%s: %s", d.Kind, d.Text)
			}
		})
	}
}

// TestStockHookKilled kills Nix's hook in the middle of a build.
func TestStockHookKilled(t *testing.T) {
	hook := stockHook(t)
	lab := nixtest.NewLab(t, nixtest.Sandbox)
	tmpl := lab.Instantiate(t, expression("hook.nix"), nil)
	store := tmpl.NewStore(t)
	clearLog(t, lab)
	run := nixtest.Gobuild(t).Start(t, store, nixtest.Request{Targets: []string{tmpl.Drvs["slow"]}, Args: []string{
		"-j", "0", "--option", "build-hook", hook, "--option", "builders", "local?root=" + filepath.Join(lab.Dir, "remote"),
	}})
	deadline := time.Now().Add(30 * time.Second)
	for len(started(t, lab)) == 0 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	killed := children(t, run.Pid(), "build-remote")
	for _, pid := range killed {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	}
	if len(killed) != 1 {
		t.Errorf("%d hooks ran", len(killed))
	}
	r := run.Wait(t)
	want := fmt.Sprintf("error: builder for '%s' failed due to signal 9 (Killed)\n", tmpl.Drvs["slow"])
	if r.Exit != 1 || !strings.Contains(r.Stderr, want) {
		t.Errorf("exit status %d, want 1 and %q:\n%s", r.Exit, want, r.Stderr)
	}
	if left := nixtest.Take(t, store).Leftovers; len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	nixtest.Verify(t, lab.Tools, store)
}

// children finds the children of a process that have a word in their command line.
func children(t *testing.T, parent int, word string) []int {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var found []int
	for _, dir := range dirs {
		stat, _ := os.ReadFile(dir + "/stat")
		_, after, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(after)
		command, _ := os.ReadFile(dir + "/cmdline")
		if len(fields) > 1 && fields[1] == strconv.Itoa(parent) && strings.Contains(string(command), word) {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			found = append(found, pid)
		}
	}
	slices.Sort(found)
	return found
}
