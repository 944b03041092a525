// Package optimise makes equal files of a store share one inode: each is a
// hard link of a file in the directory of links, named there after the hash of
// its archive (database spec, section 9). Only contents, the executable bit
// and the kind count, for all else is the same in canonical trees.
//
// It saves space and nothing else, so what keeps files from being linked is
// no error: no hard links on that file system, too many of them, a full disk.
package optimise

// Options say what to link with what.
type Options struct {
	// Links is the directory of links. It is made if it is missing. Temporary
	// names are made beside the tree: what becomes of the one if we are killed
	// becomes of the other, or they are garbage in the store like Nix's own.
	Links string
	Name  string // what messages call the tree; "" means its path
	// Sums are what is known of the tree already, in the order of a walk. Files
	// that have none are read.
	Sums []Sum
	// Verify reads what a file is to be linked with and believes no name: for
	// trees that replace damaged ones, whose files may be links of the damage.
	Verify bool
	Warn   func(string) // nil: nobody listens
}

// A Sum is the hash of one file or symbolic link.
type Sum struct {
	Inode uint64
	Hash  [32]byte // SHA-256 of its archive
}

// Stats are what linking has saved.
type Stats struct {
	Files  int64 `json:",omitempty"` // that have become links of another
	Bytes  int64 `json:",omitempty"`
	Blocks int64 `json:",omitempty"` // of 512 bytes
}

// Add adds the savings of another tree.
func (s *Stats) Add(t Stats) {
	s.Files += t.Files
	s.Bytes += t.Bytes
	s.Blocks += t.Blocks
}
