package store

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"gobuild/internal/store/storepath"
)

// This program's own tables live in a file beside the shared database.

func (s *Store) ownFile() string { return s.state("db/gobuild.sqlite") }

// openOwn opens the file, or reports false if there is none and it is only to
// be read.
func (s *Store) openOwn(a access) (bool, error) {
	if s.own != nil {
		return true, nil
	}
	if a == creating && s.cfg.ReadOnly {
		return false, ErrReadOnly
	}
	if a != creating {
		if _, err := os.Stat(s.ownFile()); errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
	}
	if s.cfg.ReadOnly {
		a = readOnly
	}
	o := s.connOptions(a)
	o.dotfileLock = false
	err := s.retry(func() error {
		own, err := openConn(s.ownFile(), o)
		if err != nil {
			return err
		}
		if a != readOnly {
			if err := own.script("own-schema"); err != nil {
				_ = own.Close()
				return err
			}
		}
		s.own = own
		return nil
	})
	return err == nil, err
}

// FailedAt tells when a build of the output p was recorded as failed for good;
// the zero time if it was not.
func (s *Store) FailedAt(p storepath.Path) (when time.Time, err error) {
	if there, err := s.openOwn(existing); err != nil || !there {
		return when, err
	}
	err = s.retry(func() error {
		at, found, err := s.own.integer("failed-at", string(p))
		if found {
			when = time.Unix(at, 0)
		}
		return err
	})
	return when, err
}

// MarkFailed records that builds of these outputs will always fail.
func (s *Store) MarkFailed(paths ...storepath.Path) error {
	return s.eachFailed(creating, "insert-failed", paths, func(p storepath.Path) []driver.Value {
		return []driver.Value{string(p), s.cfg.Now().Unix()}
	})
}

// ClearFailed forgets the failures of these outputs.
func (s *Store) ClearFailed(paths ...storepath.Path) error {
	return s.eachFailed(existing, "delete-failed", paths, func(p storepath.Path) []driver.Value {
		return []driver.Value{string(p)}
	})
}

func (s *Store) eachFailed(a access, q query, paths []storepath.Path, args func(storepath.Path) []driver.Value) error {
	if there, err := s.openOwn(a); err != nil || !there {
		return err
	}
	for _, p := range paths {
		if err := s.retry(func() error { return s.own.run(q, args(p)...) }); err != nil {
			return fmt.Errorf("recording failed builds: %w", err)
		}
	}
	return nil
}

// ClearAllFailed forgets every failure.
func (s *Store) ClearAllFailed() error {
	if there, err := s.openOwn(existing); err != nil || !there {
		return err
	}
	return s.retry(func() error { return s.own.run("delete-all-failed") })
}

// Failed lists the outputs whose builds were recorded as failed, sorted.
func (s *Store) Failed() (paths []storepath.Path, err error) {
	if there, err := s.openOwn(existing); err != nil || !there {
		return nil, err
	}
	err = s.retry(func() error {
		paths = paths[:0]
		return s.own.each("all-failed", func(row []driver.Value) error {
			p, err := s.stored(row[0])
			paths = append(paths, p)
			return err
		})
	})
	return paths, err
}
