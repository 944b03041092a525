package goal

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"gobuild/internal/hook"
	"gobuild/internal/store"
	"gobuild/internal/store/drv"
	"gobuild/internal/store/finalise"
	"gobuild/internal/store/storepath"
)

// fakeHookChild makes the test program a build hook of today's kind.
const fakeHookChild = "__fakehook"

// fakeHook has the lab's engines ask a hook that behaves as told, question by
// question; the last behaviour stays. It notes what it is told in files of the
// lab's directory: settings, requests, jobs.
func (l *lab) fakeHook(behaviours ...string) {
	l.Helper()
	args := append([]string{fakeHookChild, l.dir}, behaviours...)
	self, err := os.Executable()
	if err != nil {
		l.Fatal(err)
	}
	l.opt.BuildHook = hook.NewBinary(self, args, 3, os.Environ(), []hook.Setting{{Name: "cores", Value: "2"}, {Name: "system", Value: "test-system"}})
}

// noted is what a hook has noted.
func (l *lab) noted(name string) string {
	l.Helper()
	text, err := os.ReadFile(filepath.Join(l.dir, name))
	if err != nil && !os.IsNotExist(err) {
		l.Fatal(err)
	}
	return string(text)
}

// A fakeHooker is the hook in its process.
type fakeHooker struct {
	dir string
	in  *bufio.Reader
}

func fakeHookMain(args []string) int {
	h := &fakeHooker{dir: args[0], in: bufio.NewReader(os.Stdin)}
	behaviours := args[1 : len(args)-1] // the last is the verbosity
	for h.number() == 1 {
		h.note("settings", h.text()+"="+h.text())
	}
	h.note("processes", strconv.Itoa(os.Getpid()))
	for {
		word, err := h.readText()
		if err != nil || word != "try" {
			return 0
		}
		willing, platform, drv := h.number(), h.text(), h.text()
		features := h.texts()
		before, _ := os.ReadFile(filepath.Join(h.dir, "requests"))
		n := bytes.Count(before, []byte("\n"))
		h.note("requests", fmt.Sprintf("%d %s %s %v", willing, platform, drv, features))
		reply, action, _ := strings.Cut(behaviours[min(n, len(behaviours)-1)], " ")
		switch {
		case reply == "die":
			fmt.Fprintln(os.Stderr, "last words")
			return 7
		case reply == "half": // an acceptance
			fmt.Fprintln(os.Stderr, "# accept")
			return 7
		case reply == "ponder": // for ever
			h.note("pondering", drv)
			time.Sleep(time.Hour)
		case reply == "willing": // "willing X Y": X when there is a slot, else Y
			words := strings.Fields(action)
			reply = words[1-willing]
			fallthrough
		default:
			fmt.Fprintf(os.Stderr, "@nix {\"action\":\"msg\",\"level\":3,\"msg\":\"thinking\"}\n# %s\n", reply)
		}
		if reply == "accept" {
			return h.build(storepath.Path(drv), action)
		}
	}
}

func (h *fakeHooker) build(drvPath storepath.Path, action string) int {
	fmt.Fprintln(os.Stderr, "ssh://machine")
	inputs, outputs := h.texts(), h.texts()
	if _, err := h.in.ReadByte(); err != io.EOF {
		return 99
	}
	h.note("jobs", fmt.Sprintf("%v %v", inputs, outputs))
	builder := os.NewFile(4, "builder")
	fmt.Fprintln(builder, "said by the builder")
	verb, arg, _ := strings.Cut(action, " ")
	switch verb {
	case "valid":
		if err := h.makeValid(drvPath, outputs); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 98
		}
	case "json":
		fmt.Fprint(os.Stderr, `@nix {"action":"start","id":5,"level":3,"type":105,"text":"building elsewhere","fields":["x","",1,1]}
@nix {"action":"start","id":6,"level":0,"type":104,"text":""}
@nix {"action":"result","id":6,"type":105,"fields":[1,1,0,0]}
@nix {"action":"result","id":5,"type":104,"fields":["phase one"]}
@nix {"action":"result","id":5,"type":101,"fields":["line of JSON"]}
not JSON
`)
		return 1
	case "exit":
		code, _ := strconv.Atoi(arg)
		return code
	case "kill":
		self, _ := os.FindProcess(os.Getpid())
		_ = self.Kill()
		time.Sleep(time.Hour)
	case "hang":
		h.leaveHalf(drvPath)
		h.note("hanging", string(drvPath))
		time.Sleep(time.Hour)
	case "loud":
		for range 1000 {
			fmt.Fprintln(builder, strings.Repeat("x", 1000))
		}
		time.Sleep(time.Hour)
	}
	return 0
}

// store opens the lab's store as a hook does, whose parent has the locks.
func (h *fakeHooker) store(held []storepath.Path) (*store.Store, error) {
	return store.Open(store.Config{
		Dir: storepath.Dir(h.dir + "/store"), StateDir: h.dir + "/var", LogDir: h.dir + "/log", WAL: true, HeldLocks: held,
	})
}

// makeValid imports outputs.
func (h *fakeHooker) makeValid(p storepath.Path, ids []string) error {
	s, err := h.store(nil)
	if err != nil {
		return err
	}
	d, err := s.Derivation(p)
	if err != nil {
		return err
	}
	s.Close()
	for _, id := range ids {
		o, _ := d.Output(id)
		if err := h.importOne(o, p); err != nil {
			return err
		}
	}
	return nil
}

func (h *fakeHooker) importOne(o drv.Output, deriver storepath.Path) error {
	s, err := h.store([]storepath.Path{o.Path})
	if err != nil {
		return err
	}
	defer s.Close()
	dir, err := s.NewTempDir()
	if err != nil {
		return err
	}
	defer dir.Remove()
	tree := dir.Path + "/x"
	if err := os.WriteFile(tree, []byte("made elsewhere\n"), 0o644); err != nil {
		return err
	}
	if err := finalise.Canonicalise(tree, finalise.Options{}); err != nil {
		return err
	}
	sum, err := finalise.HashAndScan(tree, nil)
	if err != nil {
		return err
	}
	return s.Adopt(store.Info{Path: o.Path, NarHash: sum.NarHash, NarSize: uint64(sum.NarSize), Deriver: deriver}, tree)
}

// leaveHalf puts something in the place of the first output.
func (h *fakeHooker) leaveHalf(p storepath.Path) {
	s, err := h.store(nil)
	if err != nil {
		return
	}
	defer s.Close()
	if d, err := s.Derivation(p); err == nil {
		_ = os.WriteFile(s.RealPath(d.Outputs[0].Path), []byte("half"), 0o644)
	}
}

func (h *fakeHooker) note(name, line string) {
	f, err := os.OpenFile(filepath.Join(h.dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err == nil {
		fmt.Fprintln(f, line)
		err = f.Close()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

func (h *fakeHooker) number() uint64 {
	var b [8]byte
	if _, err := io.ReadFull(h.in, b[:]); err != nil {
		os.Exit(97)
	}
	return binary.LittleEndian.Uint64(b[:])
}

func (h *fakeHooker) readText() (string, error) {
	if _, err := h.in.Peek(1); errors.Is(err, io.EOF) {
		return "", err
	}
	n := h.number()
	b := make([]byte, (n+7)/8*8)
	if _, err := io.ReadFull(h.in, b); err != nil {
		os.Exit(96)
	}
	return string(b[:n]), nil
}

func (h *fakeHooker) text() string {
	s, err := h.readText()
	if err != nil {
		os.Exit(95)
	}
	return s
}

func (h *fakeHooker) texts() []string {
	list := make([]string, 0, 8)
	for range h.number() {
		list = append(list, h.text())
	}
	return list
}

// textHook has the lab's engines ask a hook of the old kind: a shell script, in
// which $LAB is the lab's directory.
func (l *lab) textHook(script string) {
	l.Helper()
	file := filepath.Join(l.dir, "texthook")
	if err := os.WriteFile(file, []byte("#!/bin/sh\nLAB='"+l.dir+"'\n"+script), 0o755); err != nil {
		l.Fatal(err)
	}
	l.opt.BuildHook = hook.NewText(file, hook.TextOptions{System: "test-system"}, os.Environ())
}

// countLines counts.
func countLines(text string) int { return strings.Count(text, "\n") }

// wantEvents looks for messages and the like by their beginnings, in order.
func (l *lab) wantEvents(prefixes ...string) {
	l.Helper()
	rest := l.sink.events
	for _, p := range prefixes {
		i := 0
		for i < len(rest) && !strings.HasPrefix(rest[i], p) {
			i++
		}
		if i == len(rest) {
			l.Fatalf("there is no '%s' in its place in\n%s", p, l.sink)
		}
		rest = rest[i+1:]
	}
}

// wantNoProcess wants what was noted to have ended.
func (l *lab) wantNoProcess(t *testing.T) {
	t.Helper()
	for _, pid := range strings.Fields(l.noted("processes")) {
		if _, err := os.Stat("/proc/" + pid); err == nil {
			t.Errorf("hook %s lives on", pid)
		}
	}
}
