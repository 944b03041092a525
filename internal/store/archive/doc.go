// Package archive moves valid paths between stores: it writes and reads
// exports, streams of archives with what has to be known of them (nar spec,
// section 10), and receives single archives of paths that are known already.
//
// What comes in is unpacked where nobody looks, hashed on the way, and given
// its place under the path's lock. Archives are read as the work of an enemy;
// who may say which contents belong to a path is for the caller to decide.
package archive

import (
	"errors"
	"fmt"
)

// itemMagic stands between an archive and what is to be known of it.
const itemMagic = 0x4558494e

// Errors of streams that are no exports.
var (
	errNoExport  = errors.New("input doesn't look like something created by 'nix-store --export'")
	errItemMagic = errors.New("the archive cannot be imported; wrong format")
)

// A MismatchError says that the contents that have come are not those that
// were announced.
type MismatchError struct {
	Path      string
	Want, Got string // in whatever form tells them apart
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("hash mismatch importing path '%s';\n  specified: %s\n  got:       %s", e.Path, e.Want, e.Got)
}
