package store

import "gobuild/internal/store/storepath"

// HoldLocks says that a parent process has locked these paths for us, as
// Config.HeldLocks does for those known when the store is opened.
func (s *Store) HoldLocks(paths ...storepath.Path) {
	s.cfg.HeldLocks = append(s.cfg.HeldLocks[:len(s.cfg.HeldLocks):len(s.cfg.HeldLocks)], paths...)
}

// KeepXattrs are the extended attributes that added files may keep.
func (s *Store) KeepXattrs() []string { return s.cfg.KeepXattrs }
