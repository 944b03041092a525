package goal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gobuild/internal/sandbox"
	"gobuild/internal/store"
	"gobuild/internal/store/sign"
	"gobuild/internal/worker"
)

// TestCheckEqual builds again what is there, self references and all, and
// changes nothing.
func TestCheckEqual(t *testing.T) {
	inBoth(t, func(t *testing.T, l *lab) {
		two := l.drv("two", twoOutputs, outputs("dev", "out"))
		large := l.drv("large", "dd if=/dev/zero of=$out bs=1024 count=1024")
		l.realise(two, large)
		out, dev := l.out(two, "out"), l.out(two, "dev")
		want, before := l.snapshot(out, dev), inode(t, l.store.RealPath(out))
		l.sink.events = nil
		results, err := l.in(Check, two, large)
		if err != nil {
			t.Fatalf("checking: %v\n%s", err, l.sink)
		}
		l.wantStatuses(results, Built, Built)
		l.wantBuilt("checking outputs of '"+string(large)+"'", "checking outputs of '"+string(two)+"'")
		if got := l.snapshot(out, dev); got != want || inode(t, l.store.RealPath(out)) != before {
			t.Errorf("after the check there is\n%swant\n%s", got, want)
		}
		l.wantClean()
	})
}

// fickle is a script that makes something else each time, but for one output.
const fickle = `PATH=$PATH:/usr/bin:/bin
mkdir $a $b $same
read x < /proc/sys/kernel/random/uuid
echo $x > $a/x; echo $x $b > $b/x; echo $a > $same/x`

func TestCheckDiffers(t *testing.T) {
	inBoth(t, func(t *testing.T, l *lab) {
		d := l.drv("fickle", fickle, outputs("a", "b", "same"))
		l.realise(d)
		a, b, same := l.out(d, "a"), l.out(d, "b"), l.out(d, "same")
		want := l.snapshot(a, b, same)

		got := l.failsIn(Check, 104, d)
		if want := fmt.Sprintf("derivation '%s' may not be deterministic: output '%s' differs, output '%s' differs",
			d, l.store.RealPath(a), l.store.RealPath(b)); got != want {
			t.Errorf("error %q, want %q", got, want)
		}
		l.wantClean()

		l.opt.KeepFailed = true
		must(t, os.WriteFile(l.store.RealPath(a)+".check", []byte("of an earlier check"), 0o444))
		got = l.failsIn(Check, 104, d)
		text := fmt.Sprintf("derivation '%s' may not be deterministic:", d)
		for i, p := range []string{l.store.RealPath(a), l.store.RealPath(b)} {
			text += fmt.Sprintf("%s output '%s' differs from '%s.check'", strings.Repeat(",", i), p, p)
		}
		if got != text {
			t.Errorf("error %q, want %q", got, text)
		}
		old, err := os.ReadFile(l.store.RealPath(b) + "/x")
		must(t, err)
		made, err := os.ReadFile(l.store.RealPath(b) + ".check/x")
		must(t, err)
		if string(made) == string(old) || !strings.HasSuffix(string(made), " "+string(b)+"\n") {
			t.Errorf("b was %q and is in the check %q", old, made)
		}
		if _, err := os.Lstat(l.store.RealPath(same) + ".check"); err == nil {
			t.Error("an output that does not differ is kept")
		}
		l.wantMessage("note: keeping build directory '")
		if got := l.snapshot(a, b, same); got != want {
			t.Errorf("after the checks there is\n%swant\n%s", got, want)
		}
	})
}

// TestCheckReportsAll wants the differences of all derivations in one run.
func TestCheckReportsAll(t *testing.T) {
	l := newLab(t)
	l.opt.KeepGoing = true
	x, y := l.drv("x", "read x < /proc/sys/kernel/random/uuid; echo $x > $out"), l.drv("y", "echo > $out")
	z := l.drv("z", "read x < /proc/sys/kernel/random/uuid; echo $x > $out")
	l.realise(x, y, z)
	results, err := l.in(Check, x, y, z)
	l.wantStatuses(results, NotDeterministic, Built, NotDeterministic)
	var f *Failure
	if !errors.As(err, &f) || f.ExitCode != 104 || len(f.Targets) != 2 {
		t.Errorf("ended with %v", err)
	}
	l.wantClean()
}

func TestCheckNeedsValidOutputs(t *testing.T) {
	l := newLab(t)
	dep := l.drv("dep", "echo > $out")
	d := l.drv("d", "echo > $out", l.needs(dep))
	want := "some outputs of '" + string(d) + "' are not valid, so checking is not possible"
	if got := l.failsIn(Check, 1, d); got != want {
		t.Errorf("error %q, want %q", got, want)
	}
	if l.valid(l.out(dep, "out")) {
		t.Error("the input was built for nothing")
	}
	l.wantClean()
}

// TestCheckSomeOutputs checks a derivation of whose outputs some are not valid:
// they stay so.
func TestCheckSomeOutputs(t *testing.T) {
	inBoth(t, func(t *testing.T, l *lab) {
		d := l.drv("two", twoOutputs, outputs("dev", "out"))
		l.realise(d)
		must(t, l.store.Invalidate(l.out(d, "dev")))
		l.remove(l.out(d, "dev"))
		l.store = l.open()
		if _, err := l.engine().Realise([]Target{{Path: d, Outputs: []string{"out"}, Mode: Check}}); err != nil {
			t.Errorf("checking: %v\n%s", err, l.sink)
		}
		if l.valid(l.out(d, "dev")) {
			t.Error("an output became valid by a check")
		}
		l.wantClean()
	})
}

func TestCheckFixed(t *testing.T) {
	inBoth(t, func(t *testing.T, l *lab) {
		text := l.dir + "/text"
		must(t, os.WriteFile(text, []byte("hello\n"), 0o644))
		l.opt.Sandbox.Paths = append(l.opt.Sandbox.Paths, sandbox.Bind{Target: text, Source: text})
		d := l.drv("fixed", "read x < "+text+"; echo $x > $out",
			fixed("sha256", "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"))
		l.realise(d)
		if _, err := l.in(Check, d); err != nil {
			t.Errorf("checking: %v\n%s", err, l.sink)
		}
		must(t, os.WriteFile(text, []byte("other\n"), 0o644))
		if got := l.failsIn(Check, 102, d); !strings.HasPrefix(got, "hash mismatch in fixed-output derivation '"+string(d)+"'") {
			t.Errorf("error %q", got)
		}
		if got := l.read(l.out(d, "out")); got != "hello\n" {
			t.Errorf("the valid output is now %q", got)
		}
		l.wantClean() // also of what another hash would deserve
	})
}

// TestCheckConfirms wants what was fetched to count as built here when a check
// has made the same, signed by our keys.
func TestCheckConfirms(t *testing.T) {
	l := newLab(t)
	d := l.drv("d", "echo > $out")
	l.realise(d)
	p := l.out(d, "out")
	info, err := l.store.Info(p)
	must(t, err)
	key, err := sign.Generate("key-1")
	must(t, err)
	must(t, os.WriteFile(l.dir+"/key", []byte(key.Export()), 0o600))
	info.Ultimate, info.Sigs = false, []string{"other-1:AAAA"}
	must(t, l.store.Register([]store.Info{info}))
	l.opt.SecretKeys = []string{l.dir + "/key"}
	for range 2 {
		if _, err := l.in(Check, d); err != nil {
			t.Fatalf("checking: %v", err)
		}
		got, err := l.store.Info(p)
		must(t, err)
		if !got.Ultimate || len(got.Sigs) != 2 || !strings.HasPrefix(got.Sigs[0], "key-1:") {
			t.Errorf("registered: ultimate %v, signatures %v", got.Ultimate, got.Sigs)
		}
	}
}

// diffHook sets a shell script as the hook, which is told in $report where to
// write.
func (l *lab) diffHook(script string) (report string) {
	l.Helper()
	hook := l.dir + "/hook"
	report = l.dir + "/report"
	must(l, os.WriteFile(hook, []byte("#!/bin/sh\n"+script), 0o755))
	must(l, os.WriteFile(report, nil, 0o666))
	must(l, os.Chmod(report, 0o666))
	l.opt.RunDiffHook, l.opt.DiffHook, l.opt.HookEnv = true, hook, []string{"PATH=/bin:/usr/bin", "report=" + report}
	return report
}

func TestDiffHook(t *testing.T) {
	inBoth(t, func(t *testing.T, l *lab) {
		report := l.diffHook(`echo "$@" >> $report; pwd >> $report; id -u >> $report; id -G >> $report; ls "$4" >> $report
read x && echo 'has input' >> $report
echo line one; printf 'line two'`)
		d := l.drv("fickle", fickle+"; echo > here", outputs("a", "b", "same"))
		l.realise(d)
		l.sink.events = nil
		l.failsIn(Check, 104, d)
		text, err := os.ReadFile(report)
		must(t, err)
		lines := strings.Split(string(text), "\n")
		if len(lines) != 11 {
			t.Fatalf("the hook reported %q", lines)
		}
		for i, id := range []string{"a", "b"} {
			p := l.store.RealPath(l.out(d, id))
			got := strings.Fields(lines[5*i])
			if len(got) != 4 || got[0] != p || got[1] != p+".check" || got[2] != string(d) || !strings.HasPrefix(got[3], l.cfg.StateDir+"/builds/") {
				t.Errorf("arguments %q", got)
			}
			if lines[5*i+1] != "/" || lines[5*i+4] != "here" {
				t.Errorf("ran in %q, and found %q", lines[5*i+1], lines[5*i+4])
			}
			if user := lines[5*i+2]; (user == fmt.Sprint(os.Getuid())) != (os.Getuid() != 0) {
				t.Errorf("ran as %s", user)
			}
		}
		for range 2 {
			i := slices.Index(l.sink.events, "message 0 line one")
			if i < 0 || l.sink.events[i+1] != "message 0 line two" {
				t.Fatalf("what the hook said is not shown:\n%s", l.sink)
			}
			l.sink.events = l.sink.events[i+2:]
		}
		l.wantNoBuilds()
	})
}

// wantNoBuilds is wantClean where outputs are kept.
func (l *lab) wantNoBuilds() {
	l.Helper()
	if left, _ := filepath.Glob(l.cfg.StateDir + "/builds/*"); len(left) > 0 {
		l.Errorf("build directories are left: %v", left)
	}
}

func TestDiffHookFails(t *testing.T) {
	l := newLab(t)
	d := l.drv("fickle", fickle, outputs("a", "b", "same"))
	l.realise(d)
	l.diffHook("exit 3")
	l.failsIn(Check, 104, d)
	l.wantMessage("diff hook execution failed: diff-hook program '" + l.opt.DiffHook + "' failed with exit code 3")
	l.opt.DiffHook = l.dir + "/none"
	l.failsIn(Check, 104, d)
	l.wantMessage("diff hook execution failed: starting the diff-hook program '" + l.opt.DiffHook + "'")
	l.opt.DiffHook = ""
	got := l.failsIn(Check, 104, d)
	if !strings.Contains(got, ".check'") {
		t.Errorf("outputs are not kept: %s", got)
	}
	l.wantNoBuilds()
}

// TestDiffHookInterrupted stops a run in which the hook would go on for ever.
func TestDiffHookInterrupted(t *testing.T) {
	inBoth(t, func(t *testing.T, l *lab) {
		d := l.drv("fickle", fickle, outputs("a", "b", "same"))
		l.realise(d)
		report := l.diffHook("echo here > $report; echo here; exec sleep 1000")
		l.opt.Interrupted = func() error {
			if text, _ := os.ReadFile(report); len(text) > 0 {
				return worker.ErrInterrupted
			}
			return nil
		}
		l.opt.PollInterval = time.Second
		_, err := l.in(Check, d)
		if !errors.Is(err, worker.ErrInterrupted) {
			t.Errorf("ended with %v", err)
		}
		l.wantNoBuilds()
	})
}
