package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/fstree"
	"gobuild/internal/store/pathlock"
	"gobuild/internal/store/storepath"
)

// A TempDir is a directory in the store for things that have no path yet. It
// is named like a store path and is a temporary root, for that is what keeps
// every garbage collector from it: some delete all other names. A lock file in
// the state directory bears its name for as long as it is there, so that those
// who come later find what the dead have left.
type TempDir struct {
	Path string
	mark *pathlock.Lock
}

// pathHashSize is the length of a store path's hash in bytes.
const pathHashSize = 20

// tempMarks is where the lock files of temporary directories are.
const tempMarks = "tmpdirs"

// NewTempDir makes a directory that only we may enter.
func (s *Store) NewTempDir() (*TempDir, error) {
	if s.cfg.ReadOnly {
		return nil, ErrReadOnly
	}
	if err := os.Mkdir(s.state(tempMarks), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	s.TidyTempDirs()
	for {
		var hash [pathHashSize]byte
		for i := range hash {
			hash[i] = byte(rand.Uint32())
		}
		p, err := s.dir.FromBase(digest.EncodeNix32(hash[:]) + "-tmp")
		if err != nil {
			return nil, err
		}
		t, err := s.tempDirAt(p)
		if !errors.Is(err, unix.EEXIST) {
			return t, err
		}
	}
}

func (s *Store) tempDirAt(p storepath.Path) (*TempDir, error) {
	if err := s.AddTempRoots(p); err != nil {
		return nil, err
	}
	mark, ok, err := pathlock.Acquire([]string{s.state(tempMarks + "/" + p.Base())}, pathlock.Try)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, unix.EEXIST
	}
	if err := unix.Mkdir(s.RealPath(p), 0o700); err != nil {
		mark.Release(pathlock.Delete)
		return nil, fmt.Errorf("creating temporary directory '%s': %w", s.RealPath(p), err)
	}
	return &TempDir{Path: s.RealPath(p), mark: mark}, nil
}

// Remove deletes the directory and what is in it. What cannot be deleted, as
// somebody still writes there, the next owner of one removes.
func (t *TempDir) Remove() {
	_, err := fstree.RemoveAll(t.Path)
	t.mark.Release(err == nil)
}

// TidyTempDirs removes, once, the temporary directories whose owners have died,
// as far as it can.
func (s *Store) TidyTempDirs() {
	if s.tidied || s.cfg.ReadOnly {
		return
	}
	s.tidied = true
	entries, err := os.ReadDir(s.state(tempMarks))
	if err != nil {
		return
	}
	for _, e := range entries {
		base, ok := strings.CutSuffix(e.Name(), pathlock.Suffix)
		p, err := s.dir.FromBase(base)
		if !ok || err != nil {
			continue
		}
		mark, ok, err := pathlock.Acquire([]string{s.state(tempMarks + "/" + base)}, pathlock.Try)
		if err != nil || !ok {
			continue // its owner lives
		}
		// nobody makes such a path valid, but nothing valid must ever go
		if valid, err := s.IsValid(p); err != nil || valid {
			mark.Release(pathlock.Delete)
			continue
		}
		(&TempDir{Path: s.RealPath(p), mark: mark}).Remove()
	}
}
