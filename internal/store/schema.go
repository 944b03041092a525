package store

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/pathlock"
)

// schemaVersion is the only one that is read and written; oldestUpgradable is
// the first that had a database of this kind.
const (
	schemaVersion    = 10
	oldestUpgradable = 6
)

// schemaVersion reads which schema the database has; 0 for no database.
func (s *Store) schemaVersion() (int, error) {
	name := s.state("db/schema")
	text, err := readSmall(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && s.cfg.ReadOnly:
		return 0, fmt.Errorf("there is no store at '%s': %w", s.cfg.StateDir, err)
	case errors.Is(err, fs.ErrNotExist):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("reading the schema version: %w", err)
	}
	n, err := strconv.ParseUint(string(text), 10, 31)
	switch {
	case err != nil:
		return 0, fmt.Errorf("'%s' is corrupt", name)
	case n > schemaVersion:
		return 0, fmt.Errorf("current Nix store schema is version %d, but I only support %d", n, schemaVersion)
	case n < oldestUpgradable:
		return 0, fmt.Errorf("the Nix store has schema version %d, which is too old to be upgraded; upgrade it with Nix 1.11 first", n)
	case n < schemaVersion && s.cfg.ReadOnly:
		return 0, fmt.Errorf("%w: the Nix store has schema version %d and must be upgraded to %d", ErrReadOnly, n, schemaVersion)
	}
	return int(n), nil
}

// readSmall is os.ReadFile in half the system calls, for a file of a few bytes.
func readSmall(name string) ([]byte, error) {
	fd, err := openFile(name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	var buf [64]byte
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return buf[:n], nil
}

// upgrade makes or migrates the database while nobody else uses it.
func (s *Store) upgrade() error {
	for {
		// a conversion gives the shared lock up first, so two that want this
		// at once do not wait for each other
		exclusive, err := pathlock.LockFD(s.bigLock, pathlock.Exclusive, pathlock.Try)
		if err != nil {
			return fmt.Errorf("locking '%s': %w", s.state("db/big-lock"), err)
		}
		if !exclusive {
			if err := s.lockBig(pathlock.Shared); err != nil {
				return err
			}
		}
		version, err := s.schemaVersion()
		switch {
		case err != nil:
			return err
		case version == schemaVersion: // by somebody else, meanwhile
			return s.lockBig(pathlock.Shared)
		case exclusive:
			if err := s.migrate(version); err != nil {
				return err
			}
			return s.lockBig(pathlock.Shared)
		}
		pathlock.UnlockFD(s.bigLock)
		s.pause(errors.New("waiting for exclusive access to the Nix store"))
	}
}

// migrate is entered with the big lock held exclusively. It can be repeated
// after a crash at any point.
func (s *Store) migrate(from int) error {
	a := existing
	if from == 0 {
		a = creating
	}
	if err := s.connectWith(a); err != nil {
		return err
	}
	change := s.addColumns
	if from == 0 {
		change = func() error { return s.db.script("schema") }
	}
	if err := s.write(change); err != nil {
		return fmt.Errorf("making the store's tables: %w", err)
	}
	return writeFileAtomically(s.state("db/schema"), strconv.Itoa(schemaVersion), 0o644)
}

// addColumns brings the tables of schemas 6 to 9 up to 10. Tables that are not
// in the schema any more stay.
func (s *Store) addColumns() error {
	var have []string
	err := s.db.each("columns", func(row []driver.Value) error {
		have = append(have, asText(row[0]))
		return nil
	})
	if err != nil {
		return err
	}
	for _, column := range []string{"ultimate", "sigs", "ca"} {
		if slices.Contains(have, column) {
			continue
		}
		if err := s.db.run(query("add-" + column)); err != nil {
			return err
		}
	}
	return nil
}

// writeFileAtomically replaces a file so that readers see the old text or the
// new one. The new one is on the disk when it returns.
func writeFileAtomically(name, text string, mode uint32) error {
	tmp := fmt.Sprintf("%s.tmp-%d", name, os.Getpid())
	fd, err := unix.Open(tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_CLOEXEC, mode)
	if err != nil {
		return fmt.Errorf("creating file '%s': %w", tmp, err)
	}
	_, err = unix.Write(fd, []byte(text)) // a few bytes: written whole or not at all
	if err == nil {
		err = unix.Fsync(fd)
	}
	err = errors.Join(err, unix.Close(fd))
	if err == nil {
		err = unix.Rename(tmp, name)
	}
	if err != nil {
		_ = unix.Unlink(tmp)
		return fmt.Errorf("writing file '%s': %w", name, err)
	}
	return nil
}
