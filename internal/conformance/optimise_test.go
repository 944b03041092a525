package conformance_test

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"gobuild/internal/conformance/nixtest"
)

var linking = []string{"--option", "auto-optimise-store", "true"}

// TestLinkedFiles builds and adds with equal files linked: both engines must leave the same links, shared by the same files.
func TestLinkedFiles(t *testing.T) {
	for _, mode := range sharedModes {
		t.Run(mode.String(), func(t *testing.T) {
			lab := nixtest.NewLab(t, mode)
			tmpl := lab.Instantiate(t, expression("equal.nix"), nil)
			source := sourceTree(t)
			request := nixtest.Request{Targets: slices.Sorted(maps.Values(tmpl.Drvs)), Args: linking}
			var left []map[string]string
			for _, engine := range []nixtest.Engine{nixtest.Nix(lab.Tools), nixtest.Gobuild(t)} {
				store := tmpl.NewStore(t)
				if result := engine.Run(t, store, request); result.Exit != 0 {
					t.Fatalf("%s ended with %d:\n%s", engine.Name, result.Exit, result.Stderr)
				}
				if result := engine.Add(t, store, source, linking); result.Exit != 0 {
					t.Fatalf("%s ended with %d:\n%s", engine.Name, result.Exit, result.Stderr)
				}
				nixtest.Verify(t, lab.Tools, store)
				left = append(left, shared(t, store))
			}
			compareShared(t, left[0], left[1])
			if len(left[1]) < 8 {
				t.Errorf("only %d links", len(left[1]))
			}
		})
	}
}

// TestLinkedByBoth lets the engines link files with each other's.
func TestLinkedByBoth(t *testing.T) {
	lab := nixtest.NewLab(t, nixtest.Sandbox)
	tmpl := lab.Instantiate(t, expression("equal.nix"), nil)
	request := nixtest.Request{Targets: slices.Sorted(maps.Values(tmpl.Drvs)), Args: linking}
	nix, gobuild := nixtest.Nix(lab.Tools), nixtest.Gobuild(t)
	alone := tmpl.NewStore(t)
	if result := nix.Run(t, alone, request); result.Exit != 0 {
		t.Fatal(result.Stderr)
	}
	want := shared(t, alone)
	for name, run := range map[string]func(store *nixtest.Store) []nixtest.Result{
		"in turns": func(store *nixtest.Store) (results []nixtest.Result) {
			for i, target := range request.Targets {
				engine := []nixtest.Engine{nix, gobuild}[i%2]
				results = append(results, engine.Run(t, store, nixtest.Request{Targets: []string{target}, Args: linking}))
			}
			return results
		},
		"at once": func(store *nixtest.Store) []nixtest.Result {
			a, b := nix.Start(t, store, request), gobuild.Start(t, store, request)
			return []nixtest.Result{a.Wait(t), b.Wait(t)}
		},
		"gobuild twice at once": func(store *nixtest.Store) []nixtest.Result {
			a, b := gobuild.Start(t, store, request), gobuild.Start(t, store, request)
			return []nixtest.Result{a.Wait(t), b.Wait(t)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := tmpl.NewStore(t)
			for _, r := range run(store) {
				if r.Exit != 0 {
					t.Errorf("ended with %d:\n%s", r.Exit, r.Stderr)
				}
			}
			compareShared(t, want, shared(t, store))
			nixtest.Verify(t, lab.Tools, store)
			if left, _ := filepath.Glob(filepath.Join(store.Dir(), ".tmp-*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// sourceTree is something to add that has files in common with itself and with what is built.
func sourceTree(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "source")
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"x": "same\n", "sub/y": "same\n", "new": "new\n", "sub/new": "new\n", "empty": "", "longer": strings.Repeat("line\n", 1<<20)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a", filepath.Join(dir, "l")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// shared tells for each entry of the store's links which files it is, and its mode and times.
func shared(t *testing.T, store *nixtest.Store) map[string]string {
	t.Helper()
	names, found := map[uint64][]string{}, map[string]string{}
	walk(t, store.Dir(), func(name string, st *syscall.Stat_t) {
		if !strings.HasPrefix(name, ".links/") {
			names[st.Ino] = append(names[st.Ino], name)
		}
	})
	walk(t, store.Dir(), func(name string, st *syscall.Stat_t) {
		if link, ok := strings.CutPrefix(name, ".links/"); ok {
			found[link] = fmt.Sprintf("mode %o, time %v, %d names:\n%s", st.Mode, st.Mtim, st.Nlink, strings.Join(names[st.Ino], "\n"))
		}
	})
	return found
}

// walk visits all files and links of a store, in order.
func walk(t *testing.T, dir string, visit func(name string, st *syscall.Stat_t)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, ".lock") {
			return err
		}
		info, err := d.Info()
		if err == nil {
			name, _ := filepath.Rel(dir, path)
			visit(name, info.Sys().(*syscall.Stat_t))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func compareShared(t *testing.T, nix, gobuild map[string]string) {
	t.Helper()
	for link, files := range nix {
		if gobuild[link] != files {
			t.Errorf("link '%s'\nnix:     %s\ngobuild: %s", link, files, gobuild[link])
		}
	}
	for link, files := range gobuild {
		if _, ok := nix[link]; !ok {
			t.Errorf("link '%s' only with gobuild: %s", link, files)
		}
	}
}
