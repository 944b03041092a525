package conformance_test

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gobuild/internal/conformance/nixtest"
	"gobuild/internal/remote/sshtest"
)

// ownHook gives gobuild the name under which Nix of that age runs its hook, which gets no arguments of its own.
func ownHook(t *testing.T, lab *nixtest.Lab) string {
	t.Helper()
	name := filepath.Join(lab.Dir, "bin/build-remote")
	if err := os.Symlink(nixtest.Program(t), name); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	return name
}

// TestOwnHook has gobuild's hook build elsewhere for Nix and for gobuild. What is left behind, here and there, is what Nix's own
// hook leaves for Nix.
func TestOwnHook(t *testing.T) {
	stock := stockHook(t)
	lab := nixtest.NewLab(t, nixtest.Sandbox)
	tmpl := lab.Instantiate(t, expression("hook.nix"), nil)
	own := ownHook(t, lab)
	for _, attr := range []string{"demanding", "failing"} {
		t.Run(attr, func(t *testing.T) {
			var here, there *nixtest.Snapshot // of Nix with its own hook
			for i, pair := range []struct {
				engine nixtest.Engine
				hook   string
			}{{nixtest.Nix(lab.Tools), stock}, {nixtest.Nix(lab.Tools), own}, {nixtest.Gobuild(t), own}} {
				store := tmpl.NewStore(t)
				remote := *store
				remote.Root = filepath.Join(lab.Dir, fmt.Sprintf("far-%s-%d", attr, i))
				r := pair.engine.Run(t, store, nixtest.Request{Targets: []string{tmpl.Drvs[attr]}, Args: []string{
					"-j", "0", "--option", "build-hook", pair.hook,
					"--option", "builders", "local?root=" + remote.Root + " x86_64-linux - 2 1 kvm,big-parallel,benchmark",
				}})
				want := 0
				if attr == "failing" {
					if want = 100; pair.hook == stock {
						want = 1 // it does not tell whose fault a failure is
					}
					if !strings.Contains(r.Stderr, "about to fail") {
						t.Errorf("%s does not show the log:\n%s", pair.engine.Name, r.Stderr)
					}
				}
				if r.Exit != want {
					t.Fatalf("%s with '%s' ended with %d:\n%s", pair.engine.Name, pair.hook, r.Exit, r.Stderr)
				}
				nixtest.Verify(t, lab.Tools, store)
				h, f := nixtest.Take(t, store), nixtest.Take(t, &remote)
				if i == 0 {
					here, there = h, f
					continue
				}
				for _, d := range nixtest.CompareSnapshots(here, h) {
					t.Errorf("%s with gobuild's hook: %s: %s", pair.engine.Name, d.Kind, d.Text)
				}
				for _, d := range nixtest.CompareSnapshots(there, f) {
					if d.Kind != "logs" { // nix-store --serve keeps none; Nix's own hook needs no such thing for local stores
						t.Errorf("%s with gobuild's hook, there: %s: %s", pair.engine.Name, d.Kind, d.Text)
					}
				}
			}
		})
	}
}

// TestOwnHookOverSSH builds by way of a real ssh server and a real nix-store behind it.
func TestOwnHookOverSSH(t *testing.T) {
	lab := nixtest.NewLab(t, nixtest.Sandbox)
	tmpl := lab.Instantiate(t, expression("hook.nix"), nil)
	conf := filepath.Join(lab.Dir, "conf")
	server, err := sshtest.Start(t.TempDir(), "NIX_CONF_DIR="+conf, "NIX_USER_CONF_FILES=", "PATH="+os.Getenv("PATH"))
	if errors.Is(err, sshtest.ErrMissing) {
		t.Skip("skipped: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	own := ownHook(t, lab)
	for _, engine := range []nixtest.Engine{nixtest.Nix(lab.Tools), nixtest.Gobuild(t)} {
		store := tmpl.NewStore(t)
		far := "local?root=" + filepath.Join(lab.Dir, "ssh-"+engine.Name[:3])
		builders := fmt.Sprintf("ssh://%s@127.0.0.1:%s?remote-store=%s x86_64-linux %s 2 1 - - %s",
			sshtest.User(), server.Port, url.QueryEscape(far), server.Key, server.HostKey)
		r := engine.Run(t, store, nixtest.Request{
			Targets: []string{tmpl.Drvs["several"] + "!out,dev"}, Env: []string{"NIX_SSHOPTS=-F none"},
			Args: []string{"-j", "0", "--option", "build-hook", own, "--option", "builders", builders},
		})
		if r.Exit != 0 || !strings.Contains(r.Stderr, "to the log") || !strings.Contains(r.Stderr, "' on 'ssh://") {
			t.Errorf("%s ended with %d:\n%s\n%s", engine.Name, r.Exit, r.Stderr, server.Log())
		}
		nixtest.Verify(t, lab.Tools, store)
	}
}

// TestOwnHookForOldEngines has gobuild's engine speak the protocol of Nix 1.x with gobuild's hook.
func TestOwnHookForOldEngines(t *testing.T) {
	lab := nixtest.NewLab(t, nixtest.Sandbox)
	tmpl := lab.Instantiate(t, expression("hook.nix"), nil)
	store := tmpl.NewStore(t)
	machines, load := filepath.Join(lab.Dir, "machines"), filepath.Join(lab.Dir, "load")
	line := "local?root=" + filepath.Join(lab.Dir, "old-far") + " x86_64-linux /no/key 1 1 kvm,big-parallel,benchmark\n"
	if err := os.WriteFile(machines, []byte("# a comment\n"+line), 0o644); err != nil {
		t.Fatal(err)
	}
	// an engine of that time does not say which store is meant
	hook := filepath.Join(lab.Dir, "bin/old-hook")
	script := "#!/bin/sh\nexec " + nixtest.Program(t) + " --root " + store.Root + " hook ssh \"$@\"\n"
	if err := os.WriteFile(hook, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	r := nixtest.Gobuild(t).Run(t, store, nixtest.Request{
		Targets: []string{tmpl.Drvs["demanding"]}, Args: []string{"-j", "0"},
		Env: []string{"NIX_BUILD_HOOK=" + hook, "NIX_REMOTE_SYSTEMS=" + machines, "NIX_CURRENT_LOAD=" + load},
	})
	if r.Exit != 0 || !strings.Contains(r.Stderr, "to the log") {
		t.Errorf("ended with %d:\n%s", r.Exit, r.Stderr)
	}
	if slots, _ := filepath.Glob(load + "/x86_64-linux-local*-0"); len(slots) != 1 {
		t.Errorf("locks of slots: %q", slots)
	}
	nixtest.Verify(t, lab.Tools, store)
}
