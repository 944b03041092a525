// Package buildhook is the far end of the build hook protocols, old and new: it
// answers an engine that asks whether a build can be done elsewhere, and does
// it on one of the machines of a list (hook spec, sections 1 to 3).
//
//	request ──► choose a machine and lock a slot ──none──► "# decline", "# postpone" ──► next request
//	   ▲            │
//	   │            ▼
//	   └─down──  connect ──► "# accept" ──► inputs there ──► build ──► outputs here ──► exit 0
//	                                           └────────lost─┴──────────┘──► another machine
//
// Hooks agree by files in one directory, which those of real Nix use too: a
// lock that is held while a machine is chosen, one for each slot, one for
// copying to a machine, and what is known of machines that are down. Several
// hooks run at the same time, and each ends with its build.
package buildhook

import "fmt"

// The exit statuses. Engines take 100 for the derivation's own fault, and 101
// for a limit of time; to them any other failure is the hook's.
const (
	StatusFailed   = 1   // the hook's or the machine's fault: the build may succeed elsewhere
	StatusRetry    = 75  // the machine was lost, and no other is free: ask again
	StatusRejected = 100 // the derivation cannot be built
	StatusTimedOut = 101
)

// A Failure is an error with the status to exit with.
type Failure struct {
	Status int
	Err    error
}

func (f *Failure) Error() string { return f.Err.Error() }

// Unwrap returns what happened.
func (f *Failure) Unwrap() error { return f.Err }

func failed(status int, format string, args ...any) error {
	return &Failure{status, fmt.Errorf(format, args...)}
}
