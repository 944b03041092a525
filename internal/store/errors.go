package store

import (
	"errors"
	"fmt"

	"github.com/mattn/go-sqlite3"

	"gobuild/internal/store/storepath"
)

// Questions that callers ask of errors.
var (
	// ErrInvalidPath: the path is not valid, that is, not registered.
	ErrInvalidPath = errors.New("is not valid")
	// ErrReadOnly: the store was opened for reading, or cannot be written.
	ErrReadOnly = errors.New("no write access to the store")
)

func invalid(p storepath.Path) error { return fmt.Errorf("path '%s' %w", p, ErrInvalidPath) }

// A CycleError says that two paths to be registered refer to each other,
// perhaps by way of others.
type CycleError struct{ Path, From storepath.Path }

func (e *CycleError) Error() string {
	return fmt.Sprintf("cycle detected in the references of '%s' from '%s'", e.Path, e.From)
}

// An InUseError says which valid paths refer to one that was to be removed.
type InUseError struct {
	Path      storepath.Path
	Referrers []storepath.Path // sorted, without Path
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("cannot delete path '%s' because it is in use by %s", e.Path, quoted(e.Referrers))
}

// A DatabaseError is trouble with a database file that is neither a busy
// database nor the caller's fault.
type DatabaseError struct {
	File    string
	Damaged bool // the contents are wrong, not the access to them
	Err     error
}

func (e *DatabaseError) Error() string {
	if e.Damaged {
		return fmt.Sprintf("the database '%s' is damaged: %s", e.File, e.Err)
	}
	return fmt.Sprintf("using the database '%s': %s", e.File, e.Err)
}

func (e *DatabaseError) Unwrap() error { return e.Err }

// fault dresses an error of a query. SQLite's own text is kept, it names the
// constraint or table.
func (c *conn) fault(q query, err error) error {
	return databaseFault(c.path, fmt.Sprintf("query '%s': ", q), err)
}

func databaseFault(file, doing string, err error) error {
	var e sqlite3.Error
	errors.As(err, &e)
	switch e.Code {
	case sqlite3.ErrBusy, sqlite3.ErrProtocol:
		return &busyError{file: file, err: err}
	case sqlite3.ErrReadonly:
		return fmt.Errorf("%w: database '%s': %w", ErrReadOnly, file, err)
	case sqlite3.ErrCorrupt, sqlite3.ErrNotADB:
		return &DatabaseError{File: file, Damaged: true, Err: err}
	case sqlite3.ErrError: // a table or column that should be there is not
		return &DatabaseError{File: file, Damaged: true, Err: fmt.Errorf("%s%w", doing, err)}
	}
	return &DatabaseError{File: file, Err: fmt.Errorf("%s%w", doing, err)}
}

// A busyError means: start the operation again. It never leaves the package.
type busyError struct {
	file string
	err  error
}

func (e *busyError) Error() string { return fmt.Sprintf("database '%s' is busy: %s", e.file, e.err) }
func (e *busyError) Unwrap() error { return e.err }
