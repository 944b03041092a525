package goal

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"gobuild/internal/store/storepath"
)

func TestExitCode(t *testing.T) {
	build := func(s Status) *BuildError { return &BuildError{Drv: "/s/d", Status: s, Err: errors.New("no")} }
	mismatch := &BuildError{Drv: "/s/d", Status: OutputRejected, Err: &mismatchError{}}
	hidden := &BuildError{Drv: "/s/d", Status: OutputRejected, Err: &referencesError{refs: []storepath.Path{"/s/r"}, mismatch: &mismatchError{}}}
	for _, tc := range []struct {
		errs []*BuildError
		want int
	}{
		{nil, 1},
		{[]*BuildError{build(PermanentFailure)}, 100},
		{[]*BuildError{build(InputRejected)}, 100},
		{[]*BuildError{build(TimedOut)}, 101},
		{[]*BuildError{mismatch}, 102},
		{[]*BuildError{hidden}, 102},
		{[]*BuildError{mismatch, build(TimedOut)}, 103},
		{[]*BuildError{build(NotDeterministic)}, 104},
		{[]*BuildError{build(NotDeterministic), build(PermanentFailure)}, 108},
		{[]*BuildError{build(NotDeterministic), build(TimedOut), mismatch}, 111},
		{[]*BuildError{build(PermanentFailure), build(MiscFailure), build(DependencyFailed)}, 100},
		{[]*BuildError{build(OutputRejected), build(TransientFailure), build(LogLimitExceeded), build(NoSubstituters)}, 1},
	} {
		var o outcome
		for _, err := range tc.errs {
			o.add(err)
		}
		if got := o.exitCode(); got != tc.want {
			t.Errorf("after %v: exit code %d, want %d", tc.errs, got, tc.want)
		}
	}
}

func TestStatuses(t *testing.T) {
	for s := Built; s <= NoSubstituters; s++ {
		ok := slices.Contains([]Status{Built, Substituted, AlreadyValid, ResolvesToAlreadyValid}, s)
		if s.OK() != ok || s.String() == "" {
			t.Errorf("status %d: '%s', OK is %v", s, s, s.OK())
		}
	}
	if NoSubstituters != 14 || NoSubstituters.String() != "NoSubstituters" {
		t.Errorf("the last status is %d, '%s'", NoSubstituters, NoSubstituters)
	}
}

func TestFailureTexts(t *testing.T) {
	inner := &BuildError{Drv: "/s/d.drv", Status: MiscFailure, Err: fmt.Errorf("reading: %w", errMismatch)}
	for _, tc := range []struct {
		err  error
		want string
	}{
		{inner, "reading: hash mismatch"},
		{&Failure{Targets: []string{"/s/d.drv"}, Err: inner}, "reading: hash mismatch"},
		{&Failure{Targets: []string{"/s/d.drv"}}, "build of '/s/d.drv' failed"},
		{&Failure{Targets: []string{"/s/a", "/s/b"}}, "build of '/s/a', '/s/b' failed"},
		{
			&mismatchError{drv: "/s/d.drv", want: "sha256-A", got: "sha256-B"},
			"hash mismatch in fixed-output derivation '/s/d.drv':\n  specified: sha256-A\n     got:    sha256-B",
		},
		{
			&referencesError{drv: "/s/d.drv", refs: []storepath.Path{"/s/a", "/s/b"}},
			"fixed-output derivations must not reference store paths: '/s/d.drv' references 2 distinct paths, e.g. '/s/a'",
		},
	} {
		if got := tc.err.Error(); got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
	if err := (&Failure{Err: inner}); !errors.Is(err, errMismatch) {
		t.Error("the cause of a failure is hidden")
	}
	if got := asBuildError("/s/x", fmt.Errorf("more: %w", inner)); got != inner {
		t.Errorf("a build error became %v", got)
	}
	if got := asBuildError("/s/x", errMismatch); got.Drv != "/s/x" || got.Status != MiscFailure || got.Err != errMismatch {
		t.Errorf("an error became %+v", got)
	}
	if err := errOrNil(nil); err != nil {
		t.Errorf("no error became %v", err)
	}
}

func TestLogTail(t *testing.T) {
	err := &BuildError{Drv: "/s/d.drv", Tail: []string{"a", "b"}}
	if lines, logOf := err.LogTail(); !slices.Equal(lines, err.Tail) || logOf != "" {
		t.Errorf("without a log: %q, '%s'", lines, logOf)
	}
	err.Logged = true
	if _, logOf := err.LogTail(); logOf != "/s/d.drv" {
		t.Errorf("with a log: '%s'", logOf)
	}
}

func TestOnlyWantedOutputs(t *testing.T) {
	r := BuildResult{Outputs: map[string]storepath.Path{"out": "/s/o", "dev": "/s/d"}}
	for _, tc := range []struct{ wanted, want []string }{
		{nil, []string{"dev", "out"}},
		{[]string{"dev"}, []string{"dev"}},
		{[]string{"out", "dev"}, []string{"dev", "out"}},
	} {
		if got := slices.Sorted(maps.Keys(r.only(tc.wanted).Outputs)); !slices.Equal(got, tc.want) {
			t.Errorf("of %v wanted there are %v", tc.wanted, got)
		}
	}
	if len(r.Outputs) != 2 {
		t.Error("somebody else's result was changed")
	}
}
