package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"gobuild/internal/store"
	"gobuild/internal/store/digest"
	"gobuild/internal/store/nar"
	"gobuild/internal/store/pathlock"
)

// patience is how long the kernel may take to end what was killed.
const patience = 3 * time.Second

// cmdClean checks that nothing of the script's runs is left: no process, no
// held lock, no mount, no build directory, and a store that verifies.
func cmdClean(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: clean")
	}
	expectNone(ts, leftovers)
	cmdVerify(ts, false, nil)
}

// cmdNoProcs checks that no process of the script's runs is left, and nothing
// that only processes can leave: locks and mounts. Files may be left by what
// was killed.
func cmdNoProcs(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: noprocs")
	}
	expectNone(ts, traces)
}

// expectNone waits until find has nothing to report, but not for long.
func expectNone(ts *testscript.TestScript, find func(*testscript.TestScript) []string) {
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		left := find(ts)
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("left behind:\n%s", strings.Join(left, "\n"))
		}
	}
}

func leftovers(ts *testscript.TestScript) []string {
	return append(traces(ts), glob(ts.Getenv("NIX_STATE_DIR")+"/builds/*")...)
}

func traces(ts *testscript.TestScript) []string {
	left := processes(ts.Getenv("WORK"))
	left = append(left, heldLocks(ts)...)
	return append(left, mounts(ts)...)
}

// processes are those that know the script's directory, which is in every
// builder's environment, and any that a dead engine was just about to make a
// builder: they know nothing of it yet.
func processes(work string) []string {
	var found []string
	mark := []byte(work + "/")
	for _, dir := range glob("/proc/[0-9]*") {
		environ, _ := os.ReadFile(dir + "/environ")
		cmdline, _ := os.ReadFile(dir + "/cmdline")
		mine := bytes.Contains(environ, mark) || bytes.Contains(cmdline, mark)
		if filepath.Base(dir) != strconv.Itoa(os.Getpid()) && (mine || orphanedInit(dir, string(cmdline))) {
			found = append(found, fmt.Sprintf("process %s %q", filepath.Base(dir), bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '})))
		}
	}
	return found
}

// orphanedInit tells whether a process is the beginning of a sandbox whose
// engine is dead.
func orphanedInit(dir, cmdline string) bool {
	if cmdline != "gobuild\x00__init\x00" {
		return false
	}
	stat, _ := os.ReadFile(dir + "/stat")
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 2 {
		return false
	}
	parent, _ := os.ReadFile("/proc/" + fields[1] + "/cmdline")
	return !bytes.Contains(parent, []byte("gobuild"))
}

// heldLocks are the lock files of store and state that somebody holds.
func heldLocks(ts *testscript.TestScript) []string {
	var files, held []string
	state := ts.Getenv("NIX_STATE_DIR")
	for _, pattern := range []string{
		ts.Getenv("NIX_STORE_DIR") + "/*.lock", state + "/db/*lock", state + "/*lock*", state + "/userpool*/*", state + "/temproots/*",
	} {
		files = append(files, glob(pattern)...)
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
			held = append(held, "lock '"+file+"'")
		}
		f.Close()
	}
	return held
}

// mounts are those below the script's directory that it has not made itself.
func mounts(ts *testscript.TestScript) []string {
	text, err := os.ReadFile("/proc/self/mountinfo")
	ts.Check(err)
	own := strings.Split(ts.Getenv("TMPFS"), "\n")
	var found []string
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); strings.Contains(line, ts.Getenv("WORK")+"/") && !slices.Contains(own, words[4]) {
			found = append(found, "mount "+line)
		}
	}
	return found
}

func glob(pattern string) []string {
	found, err := filepath.Glob(pattern)
	if err != nil {
		panic(err) // a malformed pattern
	}
	return found
}

// cmdVerify checks the store: all that is valid has the contents that it was
// registered with, and only what is valid is there, lock files apart.
func cmdVerify(ts *testscript.TestScript, _ bool, _ []string) {
	dir := ts.Getenv("NIX_STORE_DIR")
	names := map[string]bool{".links": true}
	if _, err := os.Stat(ts.Getenv("NIX_STATE_DIR") + "/db/db.sqlite"); err == nil {
		verifyValid(ts, names)
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		ts.Fatalf("%v", err)
	}
	for _, e := range entries {
		if !names[e.Name()] && !strings.HasSuffix(e.Name(), pathlock.Suffix) {
			ts.Fatalf("'%s' lies in the store and is not valid", e.Name())
		}
	}
}

// verifyValid compares the contents of valid paths with their registration and
// notes their names.
func verifyValid(ts *testscript.TestScript, names map[string]bool) {
	db, err := store.Open(store.Config{
		Dir: storeDir(ts), RealDir: ts.Getenv("NIX_STORE_DIR"), StateDir: ts.Getenv("NIX_STATE_DIR"), ReadOnly: true, WAL: true,
	})
	ts.Check(err)
	defer db.Close()
	all, err := db.AllValid()
	ts.Check(err)
	for _, p := range all {
		info, err := db.Info(p)
		ts.Check(err)
		sum := digest.SHA256.New()
		if err := nar.Dump(sum, db.RealPath(p)); err != nil {
			ts.Fatalf("'%s' is valid but cannot be read: %v", p, err)
		}
		if got := digest.FromHash(digest.SHA256, sum); got != info.NarHash {
			ts.Fatalf("'%s' was registered with hash %v and has %v", p, info.NarHash, got)
		}
		for _, r := range info.References {
			if valid, err := db.IsValid(r); err != nil || !valid {
				ts.Fatalf("'%s' refers to '%s', which is not valid (%v)", p, r, err)
			}
		}
		names[p.Base()] = true
	}
}
