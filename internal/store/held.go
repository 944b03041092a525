package store

import (
	"slices"

	"gobuild/internal/store/storepath"
)

// HoldLocks says that a parent process has locked these paths for us, as
// Config.HeldLocks does for those known when the store is opened.
func (s *Store) HoldLocks(paths ...storepath.Path) {
	s.cfg.HeldLocks = append(s.cfg.HeldLocks[:len(s.cfg.HeldLocks):len(s.cfg.HeldLocks)], paths...)
}

// KeepXattrs are the extended attributes that added files may keep.
func (s *Store) KeepXattrs() []string { return s.cfg.KeepXattrs }

// HeldByParent tells whether a parent process has locked a path for us, so that
// nobody needs to lock it here.
func (s *Store) HeldByParent(p storepath.Path) bool { return slices.Contains(s.cfg.HeldLocks, p) }
