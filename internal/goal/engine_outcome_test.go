package goal

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/drv"
	"gobuild/internal/store/storepath"
	"gobuild/internal/worker"
)

// TestEngineStatuses ends builds in every way.
func TestEngineStatuses(t *testing.T) {
	for name, tc := range map[string]struct {
		script string
		edits  []func(*drv.Derivation)
		opt    func(*Options)
		want   Status
		code   int
		err    string // with D and O for the derivation and its output
	}{
		"exit code":  {script: "exit 7", want: PermanentFailure, code: 100, err: "builder for 'D' failed with exit code 7"},
		"a signal":   {script: "kill -9 $$", want: PermanentFailure, code: 100, err: "builder for 'D' failed due to signal 9 (Killed)"},
		"no builder": {edits: []func(*drv.Derivation){func(d *drv.Derivation) { d.Builder = "/nonexistent" }}, want: PermanentFailure, code: 100, err: "builder for 'D' failed with exit code 1"},
		"no output":  {script: ":", want: OutputRejected, code: 1, err: "builder for 'D' failed to produce output path for output 'out' at 'O'"},
		"open output": {
			script: "echo > $out; chmod 666 $out", want: OutputRejected, code: 1,
			err: "suspicious ownership or permission on 'O' for output 'out'; rejecting this build output",
		},
		"fixed, but fails": {script: "exit 1", edits: []func(*drv.Derivation){fixed("sha256", helloHash)}, want: TransientFailure, code: 1, err: "builder for 'D' failed with exit code 1"},
		"another hash": {
			script: "echo hallo > $out", edits: []func(*drv.Derivation){fixed("sha256", helloHash)}, want: OutputRejected, code: 102,
			err: "hash mismatch in fixed-output derivation 'D':\n  specified: " + helloSRI + "\n     got:    sha256-YiyzNxwaCAluqsVk+1mszNofzb4Tqd0QtIbmRjyMJSU=",
		},
		"a disallowed reference": {
			script: "echo $out > $out", edits: []func(*drv.Derivation){env("disallowedReferences", "out")}, want: OutputRejected, code: 1,
			err: "output 'O' is not allowed to refer to the following paths:\n  O",
		},
		"too quiet": {
			script: "sleep 1000", opt: func(o *Options) { o.Silence = 1 }, want: TimedOut, code: 101,
			err: "building of 'D^*' from .drv file timed out after 0 seconds of silence",
		},
		"too slow": {
			script: "while :; do echo; done", opt: func(o *Options) { o.Timeout = 1 }, want: TimedOut, code: 101,
			err: "building of 'D^*' from .drv file timed out after 0 seconds",
		},
		"too loud": {
			script: "while :; do echo; done", opt: func(o *Options) { o.MaxLogSize = 100 }, want: LogLimitExceeded, code: 1,
			err: "building of 'D^*' from .drv file killed after writing more than 100 bytes of log output",
		},
		"bad attribute": {
			edits: []func(*drv.Derivation){env("exportReferencesGraph", "one")}, want: InputRejected, code: 100,
			err: "odd number of tokens in 'exportReferencesGraph': 'one'",
		},
		"unknown builtin": {
			edits: []func(*drv.Derivation){func(d *drv.Derivation) { d.Builder = "builtin:nothing" }}, want: PermanentFailure, code: 100,
			err: "builder for 'D' failed with exit code 1",
		},
		"another system": {
			edits: []func(*drv.Derivation){func(d *drv.Derivation) { d.Platform = "elsewhere" }}, want: MiscFailure, code: 1,
			err: "a 'elsewhere' with features {} is required to build 'D', but I am a 'test-system' with features {}",
		},
		"a feature": {
			edits: []func(*drv.Derivation){env("requiredSystemFeatures", "b a")}, opt: func(o *Options) { o.Features = []string{"c"} },
			want: MiscFailure, code: 1,
			err: "a 'test-system' with features {a, b} is required to build 'D', but I am a 'test-system' with features {c}",
		},
		"read-only": {
			script: "echo > $out", opt: func(o *Options) { o.ReadOnly = true }, want: MiscFailure, code: 1,
			err: "cannot build derivation 'D' - no write access to the Nix store",
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.opt.BuildTrace = true
			if tc.opt != nil {
				tc.opt(&l.opt)
			}
			d := l.drv("x", tc.script, tc.edits...)
			results, failure := l.fails(d)
			l.wantStatuses(results, tc.want)
			want := strings.ReplaceAll(strings.ReplaceAll(tc.err, "'D", "'"+string(d)), "  O", "  "+string(l.out(d, "out")))
			want = strings.ReplaceAll(want, "'O'", "'"+string(l.out(d, "out"))+"'")
			if failure.Error() != want || failure.ExitCode != tc.code {
				t.Errorf("failed with %d: %q, want %d: %q", failure.ExitCode, failure, tc.code, want)
			}
			started, failed := strings.Count(l.sink.String(), "@ build-started"), strings.Count(l.sink.String(), "@ build-failed")
			if refused := "@ build-failed " + string(d) + " " + string(l.out(d, "out")) + " 0 "; tc.want == InputRejected && !strings.Contains(l.sink.String(), refused) {
				t.Errorf("the build trace lacks %q:\n%s", refused, l.sink)
			}
			if failed > 1 || started > failed {
				t.Errorf("the build trace says that %d builds started and %d failed:\n%s", started, failed, l.sink)
			}
			l.wantNoLocks()
			l.wantClean()
		})
	}
}

// TestEngineMissing wants what is not there and cannot be had.
func TestEngineMissing(t *testing.T) {
	l := newLab(t)
	gone, err := l.store.Dir().FromBase("00000000000000000000000000000000-gone.drv")
	if err != nil {
		t.Fatal(err)
	}
	source, err := l.store.AddText("source", []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	d := l.drv("x", "echo > $out", func(d *drv.Derivation) { d.InputSrcs = []storepath.Path{source} })
	results, failure := l.fails(gone)
	l.wantStatuses(results, MiscFailure)
	if want := "cannot build missing derivation '" + string(gone) + "'"; failure.Error() != want {
		t.Errorf("got %q, want %q", failure, want)
	}
	results, failure = l.fails(l.out(d, "out"))
	l.wantStatuses(results, NoSubstituters)
	if want := "path '" + string(l.out(d, "out")) + "' is required, but there is no substituter that can build it"; failure.Error() != want {
		t.Errorf("got %q, want %q", failure, want)
	}
	results, err = l.engine().Realise(nil)
	if len(results) != 0 || err != nil {
		t.Errorf("nothing to realise: %v, %v", results, err)
	}
	l.opt.MaxJobs = 0
	l.realise(source)
	ok := l.drv("z", "echo > $out")
	if _, err := l.engine().Realise(targets(ok)); !errors.Is(err, worker.ErrNoJobs) {
		t.Errorf("without jobs: %v", err)
	}
	l.wantClean()
}

// TestEngineKeepsMismatch wants what a fixed output should not have been at
// the path that it deserves.
func TestEngineKeepsMismatch(t *testing.T) {
	l := newLab(t)
	wrong := l.drv("x", "echo hello > $out", fixed("sha256", strings.Repeat("0", 64)))
	right := l.drv("x", "echo hello > $out", fixed("sha256", helloHash))
	l.fails(wrong)
	if l.valid(l.out(wrong, "out")) {
		t.Error("the wrong contents are valid")
	}
	info, err := l.store.Info(l.out(right, "out"))
	if err != nil || info.CA.Digest != digest.Of(digest.SHA256, []byte("hello\n")) || info.Deriver != wrong {
		t.Errorf("kept as %+v, %v", info, err)
	}
	l.wantStatuses(l.realise(right), AlreadyValid)
	l.wantClean()
	l.wantNoLocks()
}

// TestEngineKeepsFailed wants the directory of a failed build to stay, and
// that only.
func TestEngineKeepsFailed(t *testing.T) {
	l := newLab(t)
	l.opt.KeepFailed = true
	good := l.drv("good", "echo > $out")
	bad := l.drv("bad", "echo here > trace; echo > $out; exit 1", l.needs(good))
	l.fails(bad)
	kept, _ := filepath.Glob(l.cfg.StateDir + "/builds/*/build/trace")
	if len(kept) != 1 {
		t.Fatalf("kept %v", kept)
	}
	dir := filepath.Dir(kept[0])
	if !l.sink.has("message 0 note: keeping build directory '" + dir + "'") {
		t.Errorf("nothing is said of '%s':\n%s", dir, l.sink)
	}
	if all, _ := filepath.Glob(l.cfg.StateDir + "/builds/*"); len(all) != 1 {
		t.Errorf("kept more: %v", all)
	}
}
