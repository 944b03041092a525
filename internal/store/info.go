package store

import (
	"database/sql/driver"
	"fmt"
	"slices"
	"strings"
	"time"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/storepath"
)

// Info is what is known about a valid path.
type Info struct {
	Path       storepath.Path
	NarHash    digest.Digest    // SHA-256 of the archive; all zero for unknown
	NarSize    uint64           // bytes of the archive; 0 for unknown
	References []storepath.Path // sorted; includes Path if it refers to itself
	Deriver    storepath.Path   // "" for unknown; need not be valid
	Registered time.Time        // whole seconds
	Ultimate   bool             // built here, so it needs no signature
	Sigs       []string         // "<key name>:<base-64>", sorted
	CA         storepath.ContentAddress
}

// IsValid tells whether p is registered.
func (s *Store) IsValid(p storepath.Path) (valid bool, err error) {
	err = s.retry(func() (err error) {
		_, valid, err = s.db.integer("path-id", string(p))
		return err
	})
	return valid, err
}

// Info returns what is known about p, or ErrInvalidPath.
func (s *Store) Info(p storepath.Path) (info Info, err error) {
	err = s.retry(func() error {
		var id int64
		if info, id, err = s.row(p); err != nil {
			return err
		}
		info.References, err = s.pathsOf("references", id)
		return err
	})
	return info, err
}

// row reads everything but the references.
func (s *Store) row(p storepath.Path) (info Info, id int64, err error) {
	found := false
	err = s.db.each("path-info", func(row []driver.Value) error {
		found = true
		id, _ = asInt(row[0])
		info, err = s.infoOf(p, row)
		return err
	}, string(p))
	if err == nil && !found {
		err = invalid(p)
	}
	return info, id, err
}

// infoOf reads the columns of path-info.sql.
func (s *Store) infoOf(p storepath.Path, row []driver.Value) (Info, error) {
	info := Info{Path: p, Sigs: strings.Fields(asText(row[6]))}
	bad := func(column string, err error) (Info, error) {
		return Info{}, &DatabaseError{File: s.db.path, Damaged: true, Err: fmt.Errorf("%s of path '%s': %w", column, p, err)}
	}
	var err error
	if info.NarHash, err = digest.Parse(asText(row[1]), digest.Unknown); err != nil {
		return bad("hash", err)
	}
	registered, _ := asInt(row[2])
	info.Registered = time.Unix(registered, 0)
	if deriver := asText(row[3]); deriver != "" {
		if info.Deriver, err = s.dir.ParseExact(deriver); err != nil {
			return bad("deriver", err)
		}
	}
	if size, _ := asInt(row[4]); size > 0 {
		info.NarSize = uint64(size)
	}
	ultimate, _ := asInt(row[5])
	info.Ultimate = ultimate == 1
	if info.CA, err = storepath.ParseContentAddress(asText(row[7])); err != nil {
		return bad("content address", err)
	}
	return info, nil
}

// References returns the sorted references of a valid path.
func (s *Store) References(p storepath.Path) ([]storepath.Path, error) {
	return s.neighbours("references", p)
}

// Referrers returns the valid paths that refer to the valid path p, sorted, p
// included if it refers to itself.
func (s *Store) Referrers(p storepath.Path) ([]storepath.Path, error) {
	return s.neighbours("referrers", p)
}

func (s *Store) neighbours(q query, p storepath.Path) (paths []storepath.Path, err error) {
	err = s.retry(func() error {
		id, found, err := s.db.integer("path-id", string(p))
		if err != nil {
			return err
		}
		if !found {
			return invalid(p)
		}
		paths, err = s.pathsOf(q, id)
		return err
	})
	return paths, err
}

// pathsOf runs references.sql or referrers.sql and sorts: SQLite would have to
// build a table for it.
func (s *Store) pathsOf(q query, id int64) ([]storepath.Path, error) {
	var paths []storepath.Path
	err := s.db.each(q, func(row []driver.Value) error {
		p, err := s.stored(row[1])
		paths = append(paths, p)
		return err
	}, id)
	slices.Sort(paths)
	return paths, err
}

// stored checks a path that the database holds: whoever wrote it may have had
// other rules.
func (s *Store) stored(v driver.Value) (storepath.Path, error) {
	p, err := s.dir.ParseExact(asText(v))
	if err != nil {
		return "", &DatabaseError{File: s.db.path, Damaged: true, Err: err}
	}
	return p, nil
}

// ValidDerivers returns the valid derivations that have p as an output,
// sorted. p need not be valid.
func (s *Store) ValidDerivers(p storepath.Path) ([]storepath.Path, error) {
	return s.paths("valid-derivers", string(p))
}

// AllValid returns every valid path, sorted.
func (s *Store) AllValid() ([]storepath.Path, error) { return s.paths("all-paths") }

func (s *Store) paths(q query, args ...driver.Value) (paths []storepath.Path, err error) {
	err = s.retry(func() error {
		paths = paths[:0]
		return s.db.each(q, func(row []driver.Value) error {
			p, err := s.stored(row[0])
			paths = append(paths, p)
			return err
		}, args...)
	})
	return paths, err
}

// An Output is what the database knows of a derivation's output.
type Output struct {
	ID   string
	Path storepath.Path
}

// DerivationOutputs returns the outputs of the valid derivation p whose paths
// are known, sorted by id.
func (s *Store) DerivationOutputs(p storepath.Path) (outs []Output, err error) {
	err = s.retry(func() error {
		outs = outs[:0]
		return s.db.each("derivation-outputs", func(row []driver.Value) error {
			out, err := s.stored(row[1])
			outs = append(outs, Output{asText(row[0]), out})
			return err
		}, string(p))
	})
	return outs, err
}

// ByHashPart finds the valid path with that hash part; ErrInvalidPath if there
// is none.
func (s *Store) ByHashPart(part string) (p storepath.Path, err error) {
	if len(part) != storepath.HashLen {
		return "", fmt.Errorf("invalid hash part '%s'", part)
	}
	prefix := string(s.dir) + "/" + part
	err = s.retry(func() error {
		text, _, err := s.db.text("path-from", prefix)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(text, prefix) {
			return fmt.Errorf("path with hash part '%s' %w", part, ErrInvalidPath)
		}
		p, err = s.stored(text)
		return err
	})
	return p, err
}
