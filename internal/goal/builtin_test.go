package goal

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/builtin"
	"gobuild/internal/sandbox"
	"gobuild/internal/store/drv"
	"gobuild/internal/store/storepath"
	"gobuild/internal/worker/proc"
)

// fakeBuiltinMain is the program for builders that are built in: it writes what
// it has been told to its log, and "hello" to the output.
func fakeBuiltinMain() int {
	req, err := builtin.Decode(os.NewFile(sandbox.FirstFile, "request"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for _, name := range slices.Sorted(maps.Keys(req.Env)) {
		fmt.Fprintf(os.Stderr, "attribute %s=%q\n", name, req.Env[name])
	}
	fmt.Fprintf(os.Stderr, "builder %s\nfetch %+v\n", req.Builder, req.Fetch)
	for _, name := range slices.Sorted(slices.Values(os.Environ())) {
		fmt.Fprintf(os.Stderr, "environment %s\n", name)
	}
	if err := os.WriteFile(string(req.Env["out"]), []byte("hello\n"), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// builtins makes the lab's engines use the fake program.
func (l *lab) builtins() *Builtins {
	l.Helper()
	fd, err := unix.Open("/proc/self/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { proc.Close(fd) })
	l.opt.Builtins = Builtins{Program: func() (int, error) { return fd, nil }}
	return &l.opt.Builtins
}

// builtBy makes a derivation one of a builder that is built in.
func builtBy(name string) func(*drv.Derivation) {
	return func(d *drv.Derivation) { d.Platform, d.Builder, d.Args = "builtin", drv.BuiltinPrefix+name, nil }
}

func TestBuiltinIsToldWhatItNeeds(t *testing.T) {
	l := newLab(t)
	b := l.builtins()
	secret := filepath.Join(l.dir, "netrc")
	if err := os.WriteFile(secret, []byte("machine m password secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.NetrcFile, b.CAFile = secret, filepath.Join(l.dir, "missing")
	b.Fetch = builtin.Fetch{Mirrors: []string{"http://mirror"}, Attempts: 3, StallTimeout: time.Minute}
	l.opt.Getenv = func(name string) string {
		return map[string]string{"http_proxy": "http://proxy", "HTTP_PROXY": "no"}[name]
	}
	d := l.drv("fetched", "", builtBy("fetchurl"), fixed("sha256", helloHash),
		env("url", "http://x/\xff", "place", "at "+storepath.Placeholder("out"), "LD_PRELOAD", "evil"))
	l.realise(d)
	out := l.out(d, "out")
	if got := l.read(out); got != "hello\n" {
		t.Errorf("the output is %q", got)
	}
	log := l.log(d)
	for _, want := range []string{
		"builder fetchurl\n", `attribute url="http://x/\xff"` + "\n", "attribute place=\"at " + string(out) + "\"\n",
		"Fixed:true FlatHash:sha256/" + helloHash + " Mirrors:[http://mirror] Netrc:machine m password secret CAs:[] Proxies:map[http_proxy:http://proxy]",
		"Attempts:3", "StallTimeout:1m0s", "environment NIX_BUILD_TOP=", "environment TMPDIR=",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the program was not told %q:\n%s", want, log)
		}
	}
	if n := strings.Count(log, "environment "); n != 2 {
		t.Errorf("its environment has %d variables:\n%s", n, log)
	}
	if len(l.opt.Builtins.Fetch.Netrc) != 0 || l.opt.Builtins.Fetch.Fixed {
		t.Error("one build's request has changed the settings of all")
	}
}

// Secrets are for downloads only, and hashes of trees say nothing about files.
func TestBuiltinIsToldNoMore(t *testing.T) {
	l := newLab(t)
	l.builtins().NetrcFile = filepath.Join(l.dir, "netrc")
	if err := os.WriteFile(l.opt.Builtins.NetrcFile, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := l.drv("env", "", builtBy("buildenv"))
	tree := l.drv("tree", "", builtBy("fetchurl"), fixed("r:sha256", "20c1e4b5bd4e7d4eb3c9b84a5f3cbc9c5a7e8a1b4e9a4d7a41a9d2b1b1a3a2c4"))
	l.realise(env)
	if log := l.log(env); strings.Contains(log, "secret") || !strings.Contains(log, "fetch <nil>") {
		t.Errorf("the program was told too much:\n%s", log)
	}
	l.fails(tree)
	if log := l.log(tree); !strings.Contains(log, "Fixed:true FlatHash: ") {
		t.Errorf("the program was told of a file's hash:\n%s", log)
	}
}

// Without the program the machine is at fault, and nothing is left behind.
func TestBuiltinWithoutProgram(t *testing.T) {
	l := newLab(t)
	missing := errors.New("the program is not there")
	l.builtins().Program = func() (int, error) { return -1, missing }
	d := l.drv("fetched", "", builtBy("fetchurl"), fixed("sha256", helloHash))
	results, _ := l.fails(d)
	l.wantStatuses(results, MiscFailure)
	if !errors.Is(results[0].Err, missing) {
		t.Errorf("error: %v, want %v", results[0].Err, missing)
	}
	unknown := l.drv("unknown", "", builtBy("nonsense"))
	results, _ = l.fails(unknown)
	l.wantStatuses(results, PermanentFailure)
	if log := l.log(unknown); log != "error: unsupported builtin builder 'nonsense'\n" {
		t.Errorf("the log is %q", log)
	}
}
