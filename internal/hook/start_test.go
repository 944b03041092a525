package hook

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/storepath"
	"gobuild/internal/worker/proc"
)

// script makes a program of a shell script.
func script(t *testing.T, text string) string {
	t.Helper()
	runtime.LockOSThread() // hooks die with the thread that started them
	name := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

// all reads a descriptor to its end and closes it.
func all(t *testing.T, fd int) string {
	t.Helper()
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "output")
	defer f.Close()
	var b strings.Builder
	if _, err := f.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestStart looks at what a hook finds: its descriptors, directory, arguments
// and environment.
func TestStart(t *testing.T) {
	file := script(t, `
read line || exit 9
echo "asked $line in $PWD with $* and $X"
echo log >&4
if [ -e /proc/self/fd/5 ]; then echo five; fi
[ "$(cut -d' ' -f6 /proc/self/stat)" = $$ ] && echo own session
exit 3
`)
	for _, c := range []struct {
		p    *Program
		want string
	}{
		{NewBinary(file, []string{"arg"}, 4, []string{"X=y", "PATH=/usr/bin:/bin"}, nil), "asked q in / with arg 4 and y\nfive\nown session\n"},
		{NewText(file, TextOptions{System: "s"}, []string{"X=z", "PATH=/usr/bin:/bin"}), "asked q in / with s 0 0 0 and z\nown session\n"},
	} {
		h, err := Start(c.p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Write(h.Input, []byte("q\n")); err != nil {
			t.Error(err)
		}
		proc.Close(h.Input)
		if got := all(t, h.Replies); got != c.want {
			t.Errorf("replies %q, want %q", got, c.want)
		}
		st, err := h.Wait()
		if err != nil || st.Wait.ExitStatus() != 3 {
			t.Errorf("%v, %v", st, err)
		}
		if got := all(t, h.Builder); got != "log\n" {
			t.Errorf("builder %q", got)
		}
	}
}

func TestStartFails(t *testing.T) {
	before := descriptors(t)
	_, err := Start(NewBinary("/nonexistent/hook", nil, 3, nil, nil))
	if err == nil || !strings.HasPrefix(err.Error(), "starting the build hook '/nonexistent/hook': ") {
		t.Errorf("got %v", err)
	}
	s := &Substituter{Path: "/nonexistent/substituter"}
	if _, _, _, _, err = s.StartQuery(); err == nil || !strings.HasPrefix(err.Error(), "starting the substituter '/nonexistent/substituter': ") {
		t.Errorf("got %v", err)
	}
	if _, _, _, err = s.StartFetch(pA, "/tmp/x"); err == nil {
		t.Error("it was started")
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors are open, before it were %d", after, before)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestSubstituter asks a program and has it fetch.
func TestSubstituter(t *testing.T) {
	s := &Substituter{Env: []string{"_NIX_OPTIONS=x=y\n", "PATH=/usr/bin:/bin"}, Path: script(t, `
case $1 in
--query) while read verb rest; do echo "$verb: $rest" >&2; echo; done;;
--substitute) echo "sha256:abc"; echo "$0 $2 $3 $_NIX_OPTIONS" >&2; cat;;
esac
`)}
	p, in, replies, stderr, err := s.StartQuery()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(in, AppendInfo(nil, []storepath.Path{pA})); err != nil {
		t.Error(err)
	}
	proc.Close(in)
	if got := answer(ReadInfo(dir, paths(pA)), all(t, replies)); len(got) != 1 || got[0] != "done" {
		t.Errorf("answer %q", got)
	}
	if got := all(t, stderr); got != "info: "+pA+"\n" {
		t.Errorf("log %q", got)
	}
	if st, err := p.Wait(); err != nil || !st.OK() {
		t.Errorf("%v, %v", st, err)
	}
	p, result, log, err := s.StartFetch(pA, "/dest")
	if err != nil {
		t.Fatal(err)
	}
	if got := all(t, result); got != "sha256:abc\n" {
		t.Errorf("result %q", got)
	}
	if got := all(t, log); !strings.HasSuffix(got, " "+pA+" /dest x=y\n\n") {
		t.Errorf("log %q", got)
	}
	if st, err := p.Wait(); err != nil || !st.OK() {
		t.Errorf("%v, %v", st, err)
	}
}
