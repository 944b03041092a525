package protocol

import (
	"fmt"
	"time"
)

// A BuildStatus says how a build ended.
type BuildStatus uint64

// The ends of builds.
const (
	Built                  BuildStatus = 0
	Substituted            BuildStatus = 1
	AlreadyValid           BuildStatus = 2
	PermanentFailure       BuildStatus = 3
	InputRejected          BuildStatus = 4
	OutputRejected         BuildStatus = 5
	TransientFailure       BuildStatus = 6
	CachedFailure          BuildStatus = 7
	TimedOut               BuildStatus = 8
	MiscFailure            BuildStatus = 9
	DependencyFailed       BuildStatus = 10
	LogLimitExceeded       BuildStatus = 11
	NotDeterministic       BuildStatus = 12
	ResolvesToAlreadyValid BuildStatus = 13
	NoSubstituters         BuildStatus = 14
)

// Success tells whether the outputs are valid.
func (s BuildStatus) Success() bool {
	return s <= AlreadyValid || s == ResolvesToAlreadyValid
}

// String names the status in messages.
func (s BuildStatus) String() string {
	names := [...]string{"built", "substituted", "already valid", "permanent failure", "input rejected", "output rejected",
		"transient failure", "cached failure", "timed out", "failure", "dependency failed", "log limit exceeded",
		"not deterministic", "resolves to something valid", "no substituters"}
	if s < BuildStatus(len(names)) {
		return names[s]
	}
	return fmt.Sprintf("status %d", uint64(s))
}

// A BuildResult is what became of one build.
type BuildResult struct {
	Status           BuildStatus
	Error            string // may have several lines and colours
	TimesBuilt       uint64
	NonDeterministic bool
	Start, Stop      time.Time // zero for unknown
	// Outputs are realisations as JSON, by their ids.
	Outputs []BuiltOutput
}

// A BuiltOutput is an output that is valid now.
type BuiltOutput struct{ ID, Realisation string }

// BuildResult reads the result of a build. The flags say which parts the
// version of the protocol has.
func (r *Reader) BuildResult(times, outputs bool) BuildResult {
	res := BuildResult{Status: BuildStatus(r.Uint64()), Error: r.Text(MaxText)}
	if times {
		res.TimesBuilt, res.NonDeterministic = r.Uint64(), r.Bool()
		res.Start, res.Stop = r.Time(), r.Time()
	}
	if outputs {
		r.Each(func() int {
			o := BuiltOutput{ID: r.Name(), Realisation: r.Text(maxRealisation)}
			res.Outputs = append(res.Outputs, o)
			return len(o.ID) + len(o.Realisation)
		})
	}
	return res
}

// maxRealisation bounds a realisation's JSON, in bytes.
const maxRealisation = 1 << 20

// BuildResult writes the result of a build, with the parts that the version of
// the protocol has.
func (w *Writer) BuildResult(res *BuildResult, times, outputs bool) {
	w.Uint64(uint64(res.Status))
	w.Text(res.Error)
	if times {
		w.Uint64(res.TimesBuilt)
		w.Bool(res.NonDeterministic)
		w.Time(res.Start)
		w.Time(res.Stop)
	}
	if outputs {
		w.Uint64(uint64(len(res.Outputs)))
		for _, o := range res.Outputs {
			w.Text(o.ID)
			w.Text(o.Realisation)
		}
	}
}
