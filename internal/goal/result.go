package goal

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gobuild/internal/store/storepath"
)

// Status says how a build ended; the numbers are those of the wire protocol
// (goals spec, section B2).
type Status int

// The statuses.
const (
	Built                  Status = 0
	Substituted            Status = 1
	AlreadyValid           Status = 2
	PermanentFailure       Status = 3
	InputRejected          Status = 4
	OutputRejected         Status = 5
	TransientFailure       Status = 6
	CachedFailure          Status = 7
	TimedOut               Status = 8
	MiscFailure            Status = 9
	DependencyFailed       Status = 10
	LogLimitExceeded       Status = 11
	NotDeterministic       Status = 12
	ResolvesToAlreadyValid Status = 13
	NoSubstituters         Status = 14
)

var statusNames = [...]string{
	"Built", "Substituted", "AlreadyValid", "PermanentFailure", "InputRejected", "OutputRejected", "TransientFailure",
	"CachedFailure", "TimedOut", "MiscFailure", "DependencyFailed", "LogLimitExceeded", "NotDeterministic",
	"ResolvesToAlreadyValid", "NoSubstituters",
}

// String is the status's name in JSON.
func (s Status) String() string { return statusNames[s] }

// OK tells whether the wanted outputs are valid.
func (s Status) OK() bool {
	return s <= AlreadyValid || s == ResolvesToAlreadyValid
}

// A BuildResult is how one target ended.
type BuildResult struct {
	Path    storepath.Path // the derivation or the path itself
	Status  Status
	Err     error // nil when Status.OK
	Outputs map[string]storepath.Path
	Started time.Time // zero when nothing was built
	Stopped time.Time
}

// only is the result for somebody who wanted some outputs; none named: all.
func (r BuildResult) only(wanted []string) BuildResult {
	if len(wanted) > 0 {
		r.Outputs = maps.Clone(r.Outputs)
		maps.DeleteFunc(r.Outputs, func(id string, _ storepath.Path) bool { return !slices.Contains(wanted, id) })
	}
	return r
}

// A BuildError is a failure with its status. The status decides the exit code
// and whether trying again makes sense.
type BuildError struct {
	Drv    storepath.Path
	Status Status
	Err    error
	Tail   []string // last lines of the builder's output, oldest first
	Logged bool     // there is a log file to read

	reported bool // the sink has had it
}

func (e *BuildError) Error() string { return e.Err.Error() }

func (e *BuildError) Unwrap() error { return e.Err }

// LogTail makes the error an activity.Report.
func (e *BuildError) LogTail() (lines []string, logOf string) {
	if e.Logged {
		logOf = string(e.Drv)
	}
	return e.Tail, logOf
}

// errMismatch marks a fixed output whose contents are not the promised ones;
// it has an exit code of its own.
var errMismatch = errors.New("hash mismatch")

// A mismatchError says what was promised and what was made.
type mismatchError struct {
	drv       storepath.Path
	want, got string
}

func (e *mismatchError) Error() string {
	return fmt.Sprintf("hash mismatch in fixed-output derivation '%s':\n  specified: %s\n     got:    %s", e.drv, e.want, e.got)
}

func (e *mismatchError) Is(target error) bool { return target == errMismatch }

// A referencesError says that a fixed output refers to store paths; it may have
// the wrong hash as well, which then decides the exit code.
type referencesError struct {
	drv      storepath.Path
	refs     []storepath.Path // sorted
	mismatch error
}

func (e *referencesError) Error() string {
	return fmt.Sprintf("fixed-output derivations must not reference store paths: '%s' references %d distinct paths, e.g. '%s'", e.drv, len(e.refs), e.refs[0])
}

func (e *referencesError) Unwrap() error { return e.mismatch }

// A Failure is the outcome of a run in which some target was not realised.
type Failure struct {
	Targets  []string
	Err      error // of the only failed target; nil when the sink has had all errors
	ExitCode int
}

func (f *Failure) Error() string {
	if f.Err != nil {
		return f.Err.Error()
	}
	return fmt.Sprintf("build of %s failed", quoteAll(f.Targets))
}

func (f *Failure) Unwrap() error { return f.Err }

func quoteAll[T ~string](names []T) string {
	var b strings.Builder
	for i, n := range names {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "'%s'", string(n))
	}
	return b.String()
}

// outcome collects over a whole run what decides its exit code.
type outcome struct {
	permanent, timedOut, mismatch, differs bool
}

func (o *outcome) add(err *BuildError) {
	switch err.Status {
	case PermanentFailure, InputRejected, CachedFailure:
		o.permanent = true
	case TimedOut:
		o.timedOut = true
	case NotDeterministic:
		o.differs = true
	}
	if errors.Is(err.Err, errMismatch) {
		o.mismatch = true
	}
}

// exitCode is 100 for a permanent failure and its refinements, 1 for anything
// else (goals spec, section B1).
func (o *outcome) exitCode() int {
	mask := 0
	if o.timedOut {
		mask |= 1
	}
	if o.mismatch {
		mask |= 2
	}
	if o.permanent || o.timedOut || o.mismatch {
		mask |= 4
	}
	if o.differs {
		mask |= 8
	}
	if mask == 0 {
		return 1
	}
	return mask | 0x60
}
