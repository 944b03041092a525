package store

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/fstree"
	"gobuild/internal/store/storepath"
)

// A TempDir is a directory in the store for things that have no path yet. It
// is named like a store path and is a temporary root, for that is what keeps
// every garbage collector from it: some delete all other names.
type TempDir struct{ Path string }

// pathHashSize is the length of a store path's hash in bytes.
const pathHashSize = 20

// NewTempDir makes a directory that only we may enter.
func (s *Store) NewTempDir() (*TempDir, error) {
	for {
		var hash [pathHashSize]byte
		for i := range hash {
			hash[i] = byte(rand.Uint32())
		}
		p, err := s.dir.FromBase(digest.EncodeNix32(hash[:]) + "-tmp")
		if err != nil {
			return nil, err
		}
		if err := s.tempDirAt(p); !errors.Is(err, unix.EEXIST) {
			return &TempDir{Path: s.RealPath(p)}, err
		}
	}
}

func (s *Store) tempDirAt(p storepath.Path) error {
	if s.cfg.ReadOnly {
		return ErrReadOnly
	}
	if err := s.AddTempRoots(p); err != nil {
		return err
	}
	if err := unix.Mkdir(s.RealPath(p), 0o700); err != nil {
		return fmt.Errorf("creating temporary directory '%s': %w", s.RealPath(p), err)
	}
	return nil
}

// Remove deletes the directory and what is in it, as far as it can: the rest
// is garbage like any other.
func (t *TempDir) Remove() { _, _ = fstree.RemoveAll(t.Path) }
