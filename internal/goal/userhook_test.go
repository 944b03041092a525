package goal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gobuild/internal/store/storepath"
	"gobuild/internal/worker"
)

// userHook makes a program of a script, in which $LAB is the lab's directory.
func (l *lab) userHook(script string) string {
	l.Helper()
	file := filepath.Join(l.dir, "userhook")
	l.write(file, "#!/bin/sh\nLAB='"+l.dir+"'\n"+script)
	if err := os.Chmod(file, 0o755); err != nil {
		l.Fatal(err)
	}
	l.opt.HookEnv = os.Environ()
	return file
}

// TestPostBuildHook runs a program while the outputs are valid and locked.
func TestPostBuildHook(t *testing.T) {
	l := newLab(t)
	l.opt.PostBuildHook = l.userHook(`
echo "$# $DRV_PATH $OUT_PATHS $X" >> $LAB/told
for o in $OUT_PATHS; do cat $o; [ -e $o.lock ] && echo locked; done
echo to stderr >&2
`)
	l.opt.PostBuildEnv = append(os.Environ(), "X=y")
	a := l.drv("a", "echo built a > $out")
	b := l.drv("b", "echo > $dev; echo built b > $out", l.needs(a), outputs("dev", "out"))
	l.realise(b)
	want := fmt.Sprintf("0 %s %s y\n0 %s %s %s y\n", a, l.out(a, "out"), b, l.out(b, "dev"), l.out(b, "out"))
	if got := l.noted("told"); got != want {
		t.Errorf("told\n%s, want\n%s", got, want)
	}
	l.wantEvents("start 110 running post-build-hook '"+l.opt.PostBuildHook+"'", "result 107 of 110 [built a]", "result 107 of 110 [locked]",
		"result 107 of 110 [to stderr]", "stop 110")
	l.wantClean()
	// What is valid already is not built.
	l.realise(b)
	if got := l.noted("told"); got != want {
		t.Errorf("told again\n%s", got)
	}
}

// TestPostBuildHookElsewhere is about builds by the build hook.
func TestPostBuildHookElsewhere(t *testing.T) {
	l := newLab(t)
	l.opt.PostBuildHook = l.userHook("echo \"$OUT_PATHS\" >> $LAB/told")
	l.opt.MaxJobs = 0
	l.fakeHook("accept valid")
	a := l.drv("a", "")
	l.realise(a)
	if got := l.noted("told"); got != string(l.out(a, "out"))+"\n" {
		t.Errorf("told\n%s", got)
	}
	l.wantClean()
}

// TestPostBuildHookFails fails the goal, although its outputs stay valid.
func TestPostBuildHookFails(t *testing.T) {
	for script, want := range map[string]string{
		"exit 3": "program 'HOOK' failed with exit code 3", "kill -9 $$": "program 'HOOK' failed due to signal 9 (Killed)",
		"": "executing 'HOOK': no such file or directory",
	} {
		l := newLab(t)
		l.opt.PostBuildHook = l.userHook(script)
		if script == "" {
			if err := os.Remove(l.opt.PostBuildHook); err != nil {
				t.Fatal(err)
			}
		}
		a := l.drv("a", "echo > $out")
		b := l.drv("b", "echo > $out", l.needs(a))
		results, f := l.fails(b)
		if results[0].Status != DependencyFailed || f.ExitCode != 1 {
			t.Errorf("%+v, exit code %d", results[0], f.ExitCode)
		}
		if !l.sink.has("failure " + strings.ReplaceAll(want, "HOOK", l.opt.PostBuildHook)) {
			t.Errorf("nothing says %q in\n%s", want, l.sink)
		}
		if !l.valid(l.out(a, "out")) || l.valid(l.out(b, "out")) {
			t.Error("validity")
		}
		l.wantClean()
	}
}

// TestPostBuildHookInterrupted ends the hook, and gives the locks back.
func TestPostBuildHookInterrupted(t *testing.T) {
	l := newLab(t)
	l.opt.PostBuildHook = l.userHook("echo $$ >> $LAB/processes; exec sleep 1000")
	l.opt.Interrupted = func() error {
		if l.noted("processes") != "" {
			return worker.ErrInterrupted
		}
		return nil
	}
	a := l.drv("a", "echo > $out")
	if _, err := l.engine().Realise(targets(a)); !errors.Is(err, worker.ErrInterrupted) {
		t.Errorf("got %v", err)
	}
	l.wantNoProcess(t)
	l.wantNoLocks()
	l.wantClean()
}

// TestPreBuildHook has a program add to the sandbox.
func TestPreBuildHook(t *testing.T) {
	l := newLab(t)
	l.sandboxed()
	l.write(filepath.Join(l.dir, "extra"), "from the host")
	l.opt.PreBuildHook = l.userHook(`
echo "$@" >> $LAB/told
[ -d "$2" ] || exit 9
echo chatter >&2
echo extra-sandbox-paths
echo /there=$LAB/extra
echo
`)
	l.sink.level = 7
	a := l.drv("a", "read x < /there; echo $x > $out")
	l.realise(a)
	if got := l.read(l.out(a, "out")); got != "from the host\n" {
		t.Errorf("built %q", got)
	}
	if got := strings.Fields(l.noted("told")); len(got) != 2 || got[0] != string(a) || !strings.HasPrefix(got[1], l.store.RealDir()) {
		t.Errorf("told %q", got)
	}
	l.wantEvents("message 5 executing pre-build hook '", "message 0 chatter", "start 105 building '")
	l.wantClean()
}

// TestPreBuildHookOutside tells a hook no directory when there is no sandbox.
func TestPreBuildHookOutside(t *testing.T) {
	l := newLab(t)
	l.opt.PreBuildHook = l.userHook("echo \"$@\" >> $LAB/told")
	a := l.drv("a", "echo > $out")
	l.realise(a)
	if got := l.noted("told"); got != string(a)+"\n" {
		t.Errorf("told %q", got)
	}
	l.wantClean()
}

func TestPreBuildHookFails(t *testing.T) {
	for script, want := range map[string]string{
		"exit 3":        "program 'HOOK' failed with exit code 3",
		"echo nonsense": "unknown pre-build hook command 'nonsense'",
		"echo extra-sandbox-paths; echo relative; echo": "from the pre-build hook: sandbox path 'relative' is not absolute",
	} {
		l := newLab(t)
		l.opt.PreBuildHook = l.userHook(script)
		a, b := l.drv("a", "echo > $out"), l.drv("b", "echo > $out")
		l.opt.KeepGoing = true
		_, f := l.fails(a, b)
		for _, d := range []storepath.Path{a, b} {
			says := fmt.Sprintf("failure building '%s': %s", d, strings.ReplaceAll(want, "HOOK", l.opt.PreBuildHook))
			if !l.sink.has(says) {
				t.Errorf("nothing says %q in\n%s\n%v", says, l.sink, f)
			}
		}
		l.wantNoLocks()
		l.wantClean()
	}
}
