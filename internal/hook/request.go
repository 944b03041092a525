package hook

import (
	"encoding/binary"
	"fmt"
	"strings"

	"gobuild/internal/store/storepath"
)

// A Protocol is one of the two that build hooks speak.
type Protocol uint8

// The protocols (hook spec, sections 2 and 1).
const (
	Binary Protocol = iota // of today's hooks, the setting build-hook
	Text                   // of the original engine's, $NIX_BUILD_HOOK
)

// A Setting is a name with its value in nix.conf syntax.
type Setting struct{ Name, Value string }

// A Request asks a hook whether it takes a derivation's build.
type Request struct {
	Willing  bool // it could be built here and now
	Platform string
	Drv      storepath.Path
	Features []string // that the machine must have
}

// AppendSettings appends what a hook is told before its first request.
func (p Protocol) AppendSettings(b []byte, settings []Setting) []byte {
	if p == Text {
		return b
	}
	for _, s := range settings {
		b = appendNumber(b, 1)
		b = appendString(b, s.Name)
		b = appendString(b, s.Value)
	}
	return appendNumber(b, 0)
}

// AppendRequest appends a question. It fails if the derivation has words that
// the protocol cannot carry; that is the derivation's fault.
func (p Protocol) AppendRequest(b []byte, r Request) ([]byte, error) {
	willing := uint64(0)
	if r.Willing {
		willing = 1
	}
	if p == Binary {
		b = appendString(b, "try")
		b = appendNumber(b, willing)
		b = appendString(b, r.Platform)
		b = appendString(b, string(r.Drv))
		return appendStrings(b, r.Features), nil
	}
	if r.Platform == "" || strings.ContainsFunc(r.Platform, notPrinting) {
		return b, fmt.Errorf("the platform '%s' of derivation '%s' is not a word", r.Platform, r.Drv)
	}
	for _, f := range r.Features {
		if err := storepath.CheckName(f); err != nil {
			return b, fmt.Errorf("the required system feature '%s' of derivation '%s': %w", f, r.Drv, err)
		}
	}
	return fmt.Appendf(b, "%d %s %s %s\n", willing, r.Platform, r.Drv, strings.Join(r.Features, ",")), nil
}

// notPrinting is what would end a word of a line.
func notPrinting(c rune) bool { return c <= ' ' || c == 0x7f }

// A Job is what a hook that has accepted a build must know.
type Job struct {
	Inputs  []storepath.Path // all that the build refers to, sorted
	Drvs    []storepath.Path // the derivation with all that it refers to; for Text, sorted
	Outputs []string         // names of the outputs to make, sorted; for Binary
	Paths   []storepath.Path // all outputs; for Text
}

// AppendJob appends what follows an accepted request; the end of the input
// follows that.
func (p Protocol) AppendJob(b []byte, j Job) []byte {
	if p == Binary {
		b = appendStrings(b, j.Inputs)
		return appendStrings(b, j.Outputs)
	}
	b = appendLine(b, union(j.Inputs, j.Drvs))
	return appendLine(b, j.Paths)
}

// union merges two sorted lists.
func union(a, b []storepath.Path) []storepath.Path {
	all := make([]storepath.Path, 0, len(a)+len(b))
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0] < b[0]:
			all, a = append(all, a[0]), a[1:]
		case len(a) > 0 && a[0] == b[0]:
			a = a[1:]
		default:
			all, b = append(all, b[0]), b[1:]
		}
	}
	return all
}

// appendLine appends paths, each with a space behind it, and a line feed.
func appendLine(b []byte, paths []storepath.Path) []byte {
	for _, p := range paths {
		b = append(b, p...)
		b = append(b, ' ')
	}
	return append(b, '\n')
}

// Numbers and strings are those of the worker protocol, section 2.

func appendNumber(b []byte, n uint64) []byte { return binary.LittleEndian.AppendUint64(b, n) }

func appendString[S ~string](b []byte, s S) []byte {
	b = appendNumber(b, uint64(len(s)))
	b = append(b, s...)
	return append(b, make([]byte, -len(s)&7)...)
}

func appendStrings[S ~string](b []byte, list []S) []byte {
	b = appendNumber(b, uint64(len(list)))
	for _, s := range list {
		b = appendString(b, s)
	}
	return b
}
