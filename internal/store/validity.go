package store

import (
	"database/sql/driver"

	"gobuild/internal/store/storepath"
)

// A question costs about six times as much as a row of a scan. After asking for
// this share of the table one by one, a good part of what a scan costs is spent.
const (
	scanShare   = 24
	neverScanAt = 256
)

// A Validity answers many questions about validity in a short time, such as
// those of planning. It remembers answers: make a new one for each request,
// and ask the Store itself under a path's lock.
type Validity struct {
	store   *Store
	answers map[storepath.Path]bool
	scanned bool // answers has all valid paths
	asked   int64
	limit   int64 // ask so often before scanning; 0 means not known yet
}

// NewValidity returns an empty memory.
func (s *Store) NewValidity() *Validity {
	return &Validity{store: s, answers: map[storepath.Path]bool{}}
}

// IsValid tells whether p was valid when it was first asked for.
func (v *Validity) IsValid(p storepath.Path) (bool, error) {
	if valid, ok := v.answers[p]; ok || v.scanned {
		return valid, nil
	}
	if err := v.maybeScan(); err != nil || v.scanned {
		return v.answers[p], err
	}
	valid, err := v.store.IsValid(p)
	if err == nil {
		v.answers[p] = valid
		v.asked++
	}
	return valid, err
}

// Set replaces an answer, after a path was registered or found to be gone.
func (v *Validity) Set(p storepath.Path, valid bool) { v.answers[p] = valid }

func (v *Validity) maybeScan() error {
	if v.asked < neverScanAt {
		return nil
	}
	if v.limit == 0 {
		rows, err := v.store.rowEstimate()
		if err != nil {
			return err
		}
		v.limit = max(neverScanAt, rows/scanShare)
	}
	if v.asked < v.limit {
		return nil
	}
	all, err := v.store.ValidSet()
	if err != nil {
		return err
	}
	for p, valid := range v.answers {
		all[p] = valid // what was Set counts
	}
	v.answers, v.scanned = all, true
	return nil
}

// ValidSet returns all valid paths; each maps to true.
func (s *Store) ValidSet() (map[storepath.Path]bool, error) {
	var set map[storepath.Path]bool
	err := s.retry(func() error {
		set = map[storepath.Path]bool{}
		return s.db.each("all-ids", func(row []driver.Value) error {
			p, err := s.stored(row[1])
			set[p] = true
			return err
		})
	})
	return set, err
}

// rowEstimate is at least the number of valid paths; deletions leave it high.
func (s *Store) rowEstimate() (n int64, err error) {
	err = s.retry(func() (err error) {
		n, _, err = s.db.integer("max-id")
		return err
	})
	return n, err
}
