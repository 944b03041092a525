package goal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gobuild/internal/store"
	"gobuild/internal/store/drv"
	"gobuild/internal/store/pathlock"
	"gobuild/internal/store/storepath"
	"gobuild/internal/worker/proc"
)

// recorded are the outputs that are on record to fail.
func (l *lab) recorded() []storepath.Path {
	l.Helper()
	failures, err := l.store.Failures()
	if err != nil {
		l.Fatal(err)
	}
	var paths []storepath.Path
	for _, f := range failures {
		paths = append(paths, f.Path)
	}
	return paths
}

// TestEngineRemembersFailures tells a builder that fails by itself from all
// other failures.
func TestEngineRemembersFailures(t *testing.T) {
	for name, tc := range map[string]struct {
		script string
		edits  []func(*drv.Derivation)
		opt    func(*Options)
		want   bool
	}{
		"exit code":          {script: "exit 7", want: true},
		"a crash":            {script: "kill -SEGV $$", want: true},
		"an abort":           {script: "sh -c 'kill -ABRT $$'; exit 134", want: true},
		"killed":             {script: "kill -9 $$"},
		"told to end":        {script: "kill -TERM $$"},
		"a child was killed": {script: "sh -c 'kill -9 $$'"},
		"no space":           {script: "echo cp: error writing: No space left on device; exit 1"},
		"no memory":          {script: "echo fork: Cannot allocate memory; echo stop; exit 1"},
		"no builder":         {edits: []func(*drv.Derivation){func(d *drv.Derivation) { d.Builder = "/nonexistent" }}},
		"no output":          {script: ":"},
		"bad output":         {script: "echo > $out; chmod 666 $out"},
		"fixed":              {script: "exit 1", edits: []func(*drv.Derivation){fixed("sha256", helloHash)}},
		"wrong hash":         {script: "echo > $out", edits: []func(*drv.Derivation){fixed("sha256", helloHash)}},
		"too quiet":          {script: "sleep 1000", opt: func(o *Options) { o.Silence = 1 }},
		"too slow":           {script: "sleep 1000", opt: func(o *Options) { o.Timeout = 1 }},
		"too loud":           {script: "while :; do echo; done", opt: func(o *Options) { o.MaxLogSize = 100 }},
		"another system":     {edits: []func(*drv.Derivation){func(d *drv.Derivation) { d.Platform = "elsewhere" }}},
		"bad attribute":      {edits: []func(*drv.Derivation){env("exportReferencesGraph", "one")}},
		"not asked to":       {script: "exit 7", opt: func(o *Options) { o.CacheFailure = false }},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			d := l.drv("x", tc.script, tc.edits...)
			l.opt.CacheFailure = true
			if tc.opt != nil {
				tc.opt(&l.opt)
			}
			results, _ := l.fails(d)
			if got := len(l.recorded()) > 0; got != tc.want {
				t.Errorf("remembered: %v, want %v\n%s", got, tc.want, l.sink)
			}
			l.sink = newRecorder()
			again, _ := l.fails(d)
			if cached := again[0].Status == CachedFailure; cached != tc.want || !cached && again[0].Status != results[0].Status {
				t.Errorf("the second time it is %v, the first time %v", again[0].Status, results[0].Status)
			}
			l.wantClean()
		})
	}
}

// TestEngineCachedFailure follows a failure that is remembered.
func TestEngineCachedFailure(t *testing.T) {
	l := newLab(t)
	l.opt.CacheFailure, l.opt.BuildTrace, l.opt.LogLines = true, true, 2
	fixedUp := filepath.Join(l.dir, "fixed")
	script := fmt.Sprintf("echo one; echo two; echo three; test -e %s || exit 3; echo > $out; echo > $dev", fixedUp)
	d := l.drv("x", script, outputs("dev", "out"))
	needsIt, other := l.drv("y", "echo > $out", l.needs(d)), l.drv("z", "echo > $out")
	l.fails(d)
	paths := []storepath.Path{l.out(d, "dev"), l.out(d, "out")}
	slices.Sort(paths)
	if got := l.recorded(); !slices.Equal(got, paths) {
		t.Errorf("remembered are %v, want %v", got, paths)
	}

	l.sink = newRecorder()
	l.opt.KeepGoing = true
	results, failure := l.fails(d, needsIt, other)
	l.wantStatuses(results, CachedFailure, DependencyFailed, Built)
	if failure.ExitCode != 100 {
		t.Errorf("exit code %d", failure.ExitCode)
	}
	trace := fmt.Sprintf("@ build-failed %s %s cached\n", d, l.out(d, "dev"))
	if said := l.sink.String(); strings.Count(said, trace) != 1 || strings.Contains(said, "build-started "+string(d)) || strings.Count(said, "failed previously") != 1 {
		t.Errorf("said:\n%s", l.sink)
	}
	var err *BuildError
	if !errors.As(results[0].Err, &err) || !slices.Equal(err.Tail, []string{"two", "three"}) || !err.Logged {
		t.Fatalf("error %+v", results[0].Err)
	}
	start := fmt.Sprintf("builder for '%s' failed previously (cached): on ", l.out(d, "dev"))
	end := fmt.Sprintf(", builder for '%s' failed with exit code 3 (--retry-failed builds it again)", d)
	if text := err.Error(); !strings.HasPrefix(text, start) || !strings.HasSuffix(text, end) {
		t.Errorf("error %q, want %q and %q", text, start, end)
	}

	l.opt.RetryFailed = true
	results, _ = l.fails(d)
	l.wantStatuses(results, PermanentFailure)
	if err := os.WriteFile(fixedUp, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	l.wantStatuses(l.realise(d), Built)
	if left := l.recorded(); len(left) > 0 {
		t.Errorf("built, and still remembered: %v", left)
	}
	l.wantClean()
}

// TestEngineFailsAfterWaiting has somebody else try and fail while the goal
// waits for the lock.
func TestEngineFailsAfterWaiting(t *testing.T) {
	l := newLab(t)
	l.opt.CacheFailure = true
	d := l.drv("x", "echo > $out")
	lock, ok, err := pathlock.Acquire([]string{l.store.RealPath(l.out(d, "out"))}, pathlock.Try)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	other, asked := l.open(), 0
	l.opt.Interrupted = func() error {
		if asked++; asked == 8 {
			if err := other.MarkFailed(store.Failure{Drv: d, Message: "elsewhere"}, l.out(d, "out")); err != nil {
				t.Error(err)
			}
			lock.Release(pathlock.Keep)
		}
		return nil
	}
	results, _ := l.fails(d)
	l.wantStatuses(results, CachedFailure)
	if l.sink.has("start 105") {
		t.Error("it was built all the same")
	}
	l.wantClean()
	l.wantNoLocks()
}

// TestEngineBadFailureCache does without a cache that cannot be read.
func TestEngineBadFailureCache(t *testing.T) {
	l := newLab(t)
	l.opt.CacheFailure = true
	if err := os.WriteFile(filepath.Join(l.cfg.StateDir, "db/gobuild.sqlite"), []byte(strings.Repeat("damage ", 1000)), 0o644); err != nil {
		t.Fatal(err)
	}
	good, bad := l.drv("good", "echo > $out"), l.drv("bad", "exit 1")
	l.opt.KeepGoing = true
	results, _ := l.fails(good, bad)
	l.wantStatuses(results, Built, PermanentFailure)
	if n := strings.Count(l.sink.String(), "failed builds are not remembered: the database "); n != 1 {
		t.Errorf("it is said %d times:\n%s", n, l.sink)
	}
}

// TestDeterministic holds signals and codes to what a builder does by itself.
func TestDeterministic(t *testing.T) {
	for _, tc := range []struct {
		wait unix.WaitStatus
		want bool
	}{
		{1 << 8, true}, {255 << 8, true}, {139 << 8, true}, {137 << 8, false}, {143 << 8, false}, {130 << 8, false}, {128 << 8, true},
		{unix.WaitStatus(unix.SIGSEGV), true}, {unix.WaitStatus(unix.SIGSYS), true}, {unix.WaitStatus(unix.SIGKILL), false},
		{unix.WaitStatus(unix.SIGTERM), false}, {unix.WaitStatus(unix.SIGXCPU), false},
	} {
		if got := deterministic(proc.Status{Wait: tc.wait}, nil); got != tc.want {
			t.Errorf("status %#x: %v", int(tc.wait), got)
		}
	}
}
