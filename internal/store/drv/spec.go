package drv

import (
	"fmt"
	"slices"
	"strings"

	"gobuild/internal/store/storepath"
)

// A Spec is a derivation and outputs of it, as users and protocols write them
// (derivation spec, section 9), or a path alone.
type Spec struct {
	Path    storepath.Path
	Outputs []string // sorted, without repetition; nil means all
	Bare    bool     // no separator was written, so the path itself may be meant
}

// Wants tells whether the output is among those asked for.
func (s Spec) Wants(id string) bool {
	if s.Outputs == nil {
		return true
	}
	_, ok := slices.BinarySearch(s.Outputs, id)
	return ok
}

// ParseSpec reads "PATH", "DRV!out,dev" or "DRV!", and "DRV^out,dev" or
// "DRV^*". Paths are canonicalised as storepath.Dir.Parse does.
func ParseSpec(dir storepath.Dir, text string) (Spec, error) {
	if path, outputs, ok := strings.Cut(text, "!"); ok {
		// Older tools skip empty names, and read none as all.
		names := slices.DeleteFunc(strings.Split(outputs, ","), func(s string) bool { return s == "" })
		return newSpec(dir, path, names)
	}
	if i := strings.LastIndexByte(text, '^'); i >= 0 {
		if text[i+1:] == "*" {
			return newSpec(dir, text[:i], nil)
		}
		return newSpec(dir, text[:i], strings.Split(text[i+1:], ","))
	}
	path, err := dir.Parse(text)
	return Spec{Path: path, Bare: true}, err
}

func newSpec(dir storepath.Dir, path string, outputs []string) (Spec, error) {
	p, err := dir.Parse(path)
	if err != nil {
		return Spec{}, err
	}
	if !p.IsDerivation() {
		return Spec{}, fmt.Errorf("path '%s' is not a derivation, so it has no outputs to choose from", p)
	}
	for _, id := range outputs {
		if err := storepath.CheckName(id); err != nil {
			return Spec{}, fmt.Errorf("invalid output name '%s': %w", id, err)
		}
	}
	if len(outputs) == 0 {
		return Spec{Path: p}, nil
	}
	slices.Sort(outputs)
	return Spec{Path: p, Outputs: slices.Compact(outputs)}, nil
}

// String prints the spec with separator '!', the form of older tools.
func (s Spec) String() string {
	switch {
	case s.Bare:
		return string(s.Path)
	case s.Outputs == nil:
		return string(s.Path) + "!"
	}
	return string(s.Path) + "!" + strings.Join(s.Outputs, ",")
}
