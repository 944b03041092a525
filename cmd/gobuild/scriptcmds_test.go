package main

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// testSystem is the platform of derivations that do not say.
var testSystem = map[string]string{"amd64": "x86_64-linux", "arm64": "aarch64-linux"}[runtime.GOARCH]

// cmdStatus runs a program that must end with an exact exit status:
//
//	status 100 gobuild realise $fail
func cmdStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N program [args...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := exitStatus(ts.Exec(args[1], args[2:]...))
	if got != want {
		ts.Fatalf("'%s' ended with status %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

// exitStatus is what a shell would say: 128 and the number for a signal.
func exitStatus(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &exit):
		return -1
	}
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return exit.ExitCode()
}

// cmdLet runs a program that must succeed and keeps what it prints in a
// variable:
//
//	let src gobuild add file
func cmdLet(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: let NAME program [args...]")
	}
	ts.Check(ts.Exec(args[1], args[2:]...))
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// cmdDrv adds a derivation, made of the shell script NAME.sh, of what the JSON
// file NAME.json says otherwise, and of the outputs "out" of the derivations
// named after it:
//
//	drv NAME [INPUT...]
//
// '@x@' in the files stands for the variable x. The derivation's path is then
// in the variable NAME, its outputs' paths in NAME_out and so on.
func cmdDrv(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: drv NAME [INPUT...]")
	}
	name, inputs := args[0], map[string]any{}
	for _, in := range args[1:] {
		inputs[ts.Getenv(in)] = map[string]any{"outputs": []string{"out"}, "dynamicOutputs": map[string]any{}}
	}
	d := map[string]any{
		"name": name, "system": testSystem, "builder": "/bin/sh", "args": []string{}, "env": map[string]string{},
		"inputSrcs": []string{}, "inputDrvs": inputs, "outputs": map[string]any{"out": map[string]any{}},
	}
	if script, ok := template(ts, name+".sh"); ok {
		d["args"] = []string{"-e", "-c", script}
	}
	if text, ok := template(ts, name+".json"); ok {
		var more map[string]any
		ts.Check(json.Unmarshal([]byte(text), &more))
		maps.Copy(d, more)
	}
	text, err := json.Marshal(d)
	ts.Check(err)
	file := ts.MkAbs(name + ".drv.json")
	ts.Check(os.WriteFile(file, text, 0o644))
	if err := ts.Exec("gobuild", "derivation", "add", file); err != nil {
		ts.Fatalf("adding '%s': %v\n%s", name, err, text)
	}
	ts.Setenv(name, strings.TrimSpace(ts.ReadFile("stdout")))
	setOutputs(ts, name)
}

func setOutputs(ts *testscript.TestScript, name string) {
	ts.Check(ts.Exec("gobuild", "derivation", "show", ts.Getenv(name)))
	var shown map[string]struct {
		Outputs map[string]struct{ Path string }
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &shown))
	for id, out := range shown[ts.Getenv(name)].Outputs {
		ts.Setenv(name+"_"+id, out.Path)
	}
}

// template reads a file of the script and fills in variables.
func template(ts *testscript.TestScript, file string) (string, bool) {
	text, err := os.ReadFile(ts.MkAbs(file))
	if errors.Is(err, os.ErrNotExist) {
		return "", false
	}
	ts.Check(err)
	return regexp.MustCompile(`@\w+@`).ReplaceAllStringFunc(string(text), func(word string) string {
		return ts.Getenv(strings.Trim(word, "@"))
	}), true
}

// cmdCC compiles a static C program and adds it to the store, at the path in a
// variable:
//
//	cc NAME       (from NAME.c)
func cmdCC(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: cc NAME")
	}
	name := args[0]
	if err := ts.Exec("cc", "-static", "-O1", "-Wall", "-Werror", "-o", ts.MkAbs(name), ts.MkAbs(name+".c")); err != nil {
		ts.Fatalf("compiling '%s.c': %v", name, err)
	}
	cmdLet(ts, false, []string{name, "gobuild", "add", ts.MkAbs(name)})
}

// cmdMode checks the type and permissions of a file, as "ls -l" prints them:
//
//	mode -r--r--r-- $one_out
func cmdMode(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: [!] mode MODE FILE")
	}
	st, err := os.Lstat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := st.Mode().String(); (got == args[0]) == neg {
		ts.Fatalf("'%s' has mode %s", args[1], got)
	}
}

// cmdOneLine checks that a program said exactly one line of error on stderr:
//
//	oneline      (after the first line, at most indented ones)
func cmdOneLine(ts *testscript.TestScript, neg bool, _ []string) {
	n := 0
	for line := range strings.Lines(ts.ReadFile("stderr")) {
		if strings.HasPrefix(line, "error: ") {
			n++
		}
	}
	if (n == 1) == neg {
		ts.Fatalf("%d lines of error", n)
	}
}

// cmdCount checks how many files match:
//
//	count 1 $WORK/var/nix/builds/*
func cmdCount(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: count N GLOB")
	}
	found := glob(ts.MkAbs(args[1]))
	if strconv.Itoa(len(found)) != args[0] {
		ts.Fatalf("found %d: %v", len(found), found)
	}
}

// cmdTmpfs mounts a small file system in memory until the script's end:
//
//	tmpfs SIZE DIR
func cmdTmpfs(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: tmpfs SIZE DIR")
	}
	dir := ts.MkAbs(args[1])
	ts.Check(os.MkdirAll(dir, 0o755))
	ts.Check(syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=755,size="+args[0]))
	ts.Setenv("TMPFS", ts.Getenv("TMPFS")+dir+"\n")
	ts.Defer(func() {
		for range 50 { // whoever still uses it may need a moment to end
			if syscall.Unmount(dir, 0) == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		ts.Fatalf("'%s' is still in use", dir)
	})
}
