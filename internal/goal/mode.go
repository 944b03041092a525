package goal

import (
	"fmt"

	"gobuild/internal/store/storepath"
)

// A BuildMode says what is to be done about outputs that are valid.
type BuildMode uint8

// The modes.
const (
	Normal BuildMode = iota // nothing: what is missing is made
	Repair                  // those that have not the registered contents are replaced, and so in all that they refer to
	Check                   // they are built again and compared; nothing changes
)

// A wantedBuild is what there is one derivation goal for at a time.
type wantedBuild struct {
	path storepath.Path
	mode BuildMode
}

// doing says for people what a build is about.
func (m BuildMode) doing(p storepath.Path) string {
	switch m {
	case Repair:
		return fmt.Sprintf("repairing outputs of '%s'", p)
	case Check:
		return fmt.Sprintf("checking outputs of '%s'", p)
	}
	return fmt.Sprintf("building '%s'", p)
}

// ofInputs is the mode of what a build in this mode needs.
func (m BuildMode) ofInputs() BuildMode {
	if m == Repair {
		return Repair
	}
	return Normal
}
