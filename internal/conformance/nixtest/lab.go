package nixtest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A Lab is a directory in which stores of one mode are made from templates.
type Lab struct {
	Tools Tools
	Mode  Mode
	Dir   string
	shell string // the builder's path as derivations know it
	next  int
}

// NewLab makes a lab that is removed at the end of the test. It lies in memory where the machine offers that.
func NewLab(t testing.TB, mode Mode) *Lab {
	t.Helper()
	tools := FindTools(t)
	base := ""
	if os.Getenv("TMPDIR") == "" && writable("/dev/shm") {
		base = "/dev/shm"
	}
	dir, err := os.MkdirTemp(base, "conformance-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { RemoveAll(t, dir) })
	// Build users must be able to pass.
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l := &Lab{Tools: tools, Mode: mode, Dir: dir, shell: "/bin/sh"}
	for _, d := range []string{"bin", "conf", "counter"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(l.CounterDir(), 0o777); err != nil {
		t.Fatal(err)
	}
	if mode == Plain {
		l.shell = filepath.Join(dir, "bin/sh")
		if err := os.Symlink(tools.Shell, l.shell); err != nil {
			t.Fatal(err)
		}
	}
	l.writeConf(t)
	return l
}

func writable(dir string) bool {
	f, err := os.CreateTemp(dir, "probe-")
	if err != nil {
		return false
	}
	f.Close()
	os.Remove(f.Name())
	return true
}

// CounterDir is the directory outside the store that builders may write to; in a sandbox it is /counter.
func (l *Lab) CounterDir() string { return filepath.Join(l.Dir, "counter") }

// writeConf pins every setting whose default depends on the machine or on the version of Nix.
func (l *Lab) writeConf(t testing.TB) {
	t.Helper()
	users := ""
	if l.Mode == Users {
		users = "nixbld"
	}
	conf := fmt.Sprintf(`sandbox = %v
sandbox-fallback = false
sandbox-paths = /bin/sh=%s /counter=%s
build-users-group = %s
substituters =
builders =
gc-reserved-space = 0
system = x86_64-linux
system-features = benchmark big-parallel
max-jobs = 1
cores = 2
build-poll-interval = 1
`, l.Mode != Plain, l.Tools.Shell, l.CounterDir(), users)
	if err := os.WriteFile(filepath.Join(l.Dir, "conf/nix.conf"), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (l *Lab) store(name string) *Store {
	root := filepath.Join(l.Dir, name)
	return &Store{Mode: l.Mode, Root: root, Conf: filepath.Join(l.Dir, "conf"), Tmp: filepath.Join(root, "tmp")}
}

// A Template is a store with derivations in it and nothing built.
type Template struct {
	lab   *Lab
	store *Store            // a copy to copy from; for Plain not at its logical place
	Drvs  map[string]string // attribute to derivation path
}

// Instantiate evaluates a file that holds a function to a set of derivations, with the lab's shell and more arguments given
// as Nix expressions. Real Nix writes the derivations, so that the suite rests on its parser and path computation.
func (l *Lab) Instantiate(t testing.TB, file string, args map[string]string) *Template {
	t.Helper()
	s := l.store(l.placeName())
	mkdir(t, s.Tmp)
	expr := "builtins.mapAttrs (n: d: d.drvPath) (import " + file + " { shell = \"" + l.shell + "\";"
	if l.Mode == Plain {
		expr += " counter = \"" + l.CounterDir() + "\";"
	}
	for name, value := range args {
		expr += " " + name + " = " + value + ";"
	}
	expr += " })"
	cmdArgs := append(s.storeArgs(), "--eval", "--read-write-mode", "--json", "--strict", "-E", expr)
	cmd := exec.Command(l.Tools.NixInstantiate, cmdArgs...)
	cmd.Env = s.env(nil)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("nix-instantiate '%s': %v\n%s", file, err, stderr.String())
	}
	tmpl := &Template{lab: l, store: s}
	if err := json.Unmarshal(out, &tmpl.Drvs); err != nil {
		t.Fatalf("reading what nix-instantiate said: %v", err)
	}
	if l.Mode == Plain {
		kept := *s
		kept.Root = filepath.Join(l.Dir, fmt.Sprintf("template%d", l.next))
		l.next++
		if err := os.Rename(s.Root, kept.Root); err != nil {
			t.Fatal(err)
		}
		tmpl.store = &kept
	}
	return tmpl
}

// placeName is the name of the next store's directory: a new one, or for Plain always the same.
func (l *Lab) placeName() string {
	if l.Mode == Plain {
		return "plain"
	}
	l.next++
	return fmt.Sprintf("store%d", l.next)
}

// NewStore makes a store with the template's contents. A Plain store replaces the one before it.
func (tmpl *Template) NewStore(t testing.TB) *Store {
	t.Helper()
	s := tmpl.lab.store(tmpl.lab.placeName())
	RemoveAll(t, s.Root)
	if out, err := exec.Command("cp", "-a", tmpl.store.Root, s.Root).CombinedOutput(); err != nil {
		t.Fatalf("copying the template: %v\n%s", err, out)
	}
	return s
}

func mkdir(t testing.TB, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}
