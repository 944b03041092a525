package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Somebody else's transaction is over soon; who warns about it too often is
// not read any more.
const (
	retryPause  = 100 * time.Millisecond
	warnedEvery = 10 * time.Second
)

// retry runs a read until no other process is in its way. op starts from
// nothing each time.
func (s *Store) retry(op func() error) error {
	for {
		err := op()
		var busy *busyError
		if !errors.As(err, &busy) {
			return err
		}
		s.pause(busy)
	}
}

// pause waits before another attempt, for a varying time so that two processes
// do not keep in step.
func (s *Store) pause(why error) {
	now := s.cfg.Now()
	if now.Sub(s.lastWarned) >= warnedEvery {
		s.lastWarned = now
		s.cfg.Warn(why.Error())
	}
	s.cfg.Sleep(retryPause/2 + rand.N(retryPause))
}

// write runs op in a write transaction, again from the start when the database
// is busy. Nothing of it remains after an error. op must not wait for anything.
func (s *Store) write(op func() error) error {
	if s.cfg.ReadOnly {
		return ErrReadOnly
	}
	return s.retry(func() error { return s.transact(op) })
}

func (s *Store) transact(op func() error) error {
	if err := s.db.run("begin-immediate"); err != nil {
		return err
	}
	err := op()
	if e := s.endTransaction(err == nil); err == nil {
		err = e
	}
	return err
}

// endTransaction commits, or rolls back what could not be done or committed.
func (s *Store) endTransaction(commit bool) error {
	var err error
	if commit {
		if err = s.db.run("commit"); err == nil {
			return nil
		}
	}
	if s.db.db.AutoCommit() {
		return err // SQLite itself ended it, as it does after some errors
	}
	if e := s.db.run("rollback"); e != nil {
		err = errors.Join(err, fmt.Errorf("rolling back: %w", e))
	}
	return err
}
