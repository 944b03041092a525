package store

import (
	"database/sql/driver"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"gobuild/internal/store/storepath"
)

// A Failure is a build that is remembered to fail for good.
type Failure struct {
	Path    storepath.Path // the output that it did not make
	Drv     storepath.Path // "" in what an old version recorded
	When    time.Time      // to the second
	Message string
	Log     []string // last lines of the builder's output
}

// What is kept of a failure, in bytes.
const (
	maxFailureMessage = 4 << 10
	maxFailureLog     = 16 << 10
)

// FailureOf returns the failure on record for the output p, nil if there is
// none.
func (s *Store) FailureOf(p storepath.Path) (*Failure, error) {
	all, err := s.failures("failure", string(p))
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return &all[0], nil
}

// Failures lists what is on record, sorted by output.
func (s *Store) Failures() ([]Failure, error) { return s.failures("all-failures") }

func (s *Store) failures(q query, args ...driver.Value) (found []Failure, err error) {
	if there, err := s.openOwn(existing); err != nil || !there {
		return nil, err
	}
	err = s.retry(func() error {
		found = found[:0]
		return s.own.each(q, func(row []driver.Value) error {
			f, err := s.failure(row)
			found = append(found, f)
			return err
		}, args...)
	})
	if err != nil {
		return nil, fmt.Errorf("looking for failed builds: %w", err)
	}
	return found, nil
}

func (s *Store) failure(row []driver.Value) (f Failure, err error) {
	if f.Path, err = s.stored(row[0]); err != nil {
		return f, err
	}
	at, _ := asInt(row[1])
	f.When = time.Unix(at, 0)
	if drv := asText(row[2]); drv != "" {
		if f.Drv, err = s.stored(drv); err != nil {
			return f, err
		}
	}
	f.Message = asText(row[3])
	if log := asText(row[4]); log != "" {
		f.Log = strings.Split(log, "\n")
	}
	return f, nil
}

// MarkFailed records now that builds of these outputs will always fail, for
// the reason that f gives; its Path and When are not used.
func (s *Store) MarkFailed(f Failure, outputs ...storepath.Path) error {
	log := strings.Join(lastLines(f.Log, maxFailureLog), "\n")
	message := cutText(f.Message, maxFailureMessage)
	return s.eachFailed(creating, "insert-failed", outputs, func(p storepath.Path) []driver.Value {
		return []driver.Value{string(p), s.cfg.Now().Unix(), string(f.Drv), message, log}
	})
}

// lastLines are as many of the last lines as fit, and a part of the one before
// them. Line feeds within a line would make it two.
func lastLines(lines []string, size int) []string {
	var kept []string
	for i := len(lines) - 1; i >= 0 && size > 0; i-- {
		line := cutText(strings.ReplaceAll(lines[i], "\n", " "), size)
		size -= len(line) + 1
		kept = append([]string{line}, kept...)
	}
	return kept
}

// cutText shortens a text to a number of bytes, between two characters.
func cutText(text string, size int) string {
	if len(text) <= size {
		return text
	}
	for size > 0 && !utf8.RuneStart(text[size]) {
		size--
	}
	return text[:size]
}

// ClearFailed forgets the failures of these outputs.
func (s *Store) ClearFailed(outputs ...storepath.Path) error {
	return s.eachFailed(existing, "delete-failed", outputs, func(p storepath.Path) []driver.Value {
		return []driver.Value{string(p)}
	})
}

func (s *Store) eachFailed(a access, q query, outputs []storepath.Path, args func(storepath.Path) []driver.Value) error {
	if s.cfg.ReadOnly {
		return ErrReadOnly
	}
	there, err := s.openOwn(a)
	if err != nil || !there {
		return err
	}
	for _, p := range outputs {
		if err := s.retry(func() error { return s.own.run(q, args(p)...) }); err != nil {
			return fmt.Errorf("recording failed builds: %w", err)
		}
	}
	return nil
}

// ClearAllFailed forgets every failure.
func (s *Store) ClearAllFailed() error {
	if s.cfg.ReadOnly {
		return ErrReadOnly
	}
	if there, err := s.openOwn(existing); err != nil || !there {
		return err
	}
	return s.retry(func() error { return s.own.run("delete-all-failed") })
}
