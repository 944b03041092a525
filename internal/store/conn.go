package store

import (
	"context"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/mattn/go-sqlite3"
)

// The statements. A comment in a file says what its text does not.
//
//go:embed sql/*.sql
var sqlFiles embed.FS

// A query names an embedded statement, "sql/<query>.sql".
type query string

// A conn is one connection to a database. It uses the driver's own interface:
// database/sql would add goroutines, and half a millisecond to every start.
type conn struct {
	db   *sqlite3.SQLiteConn
	path string
	// prepared on first use and kept
	stmts map[query]*sqlite3.SQLiteStmt
	args  []driver.NamedValue // scratch; the driver copies what it needs
}

// access says how a database file is opened.
type access string

const (
	readOnly access = "ro"
	existing access = "rw"  // for reading and writing, but never made anew
	creating access = "rwc" // made if missing
)

// connOptions are the settings of the database spec, section 2, that differ
// from store to store.
type connOptions struct {
	access      access
	sync        bool
	dotfileLock bool
	busy        time.Duration
}

// cacheSize lets the indexes of a store of 50,000 paths stay in memory, KiB.
// Only pages that are read take any.
const cacheSize = "_cache_size=-16384"

func openConn(path string, o connOptions) (*conn, error) {
	params := []string{
		"mode=" + string(o.access),
		"_mutex=no",
		"_foreign_keys=1",
		fmt.Sprintf("_busy_timeout=%d", o.busy.Milliseconds()),
		cacheSize,
	}
	if !o.sync {
		params = append(params, "_synchronous=off")
	}
	if o.dotfileLock {
		params = append(params, "vfs=unix-dotfile")
	}
	name := "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + strings.Join(params, "&")
	db, err := (&sqlite3.SQLiteDriver{}).Open(name)
	if err != nil {
		return nil, databaseFault(path, "", err)
	}
	return &conn{db: db.(*sqlite3.SQLiteConn), path: path, stmts: map[query]*sqlite3.SQLiteStmt{}}, nil
}

// Close closes the database and forgets its statements.
func (c *conn) Close() error {
	for _, s := range c.stmts {
		s.Close()
	}
	return c.db.Close()
}

func (c *conn) stmt(q query) (*sqlite3.SQLiteStmt, error) {
	if s, ok := c.stmts[q]; ok {
		return s, nil
	}
	text, err := sqlFiles.ReadFile("sql/" + string(q) + ".sql")
	if err != nil {
		return nil, err
	}
	s, err := c.db.Prepare(string(text))
	if err != nil {
		return nil, c.fault(q, err)
	}
	c.stmts[q] = s.(*sqlite3.SQLiteStmt)
	return c.stmts[q], nil
}

// bound fills the scratch arguments. Values must be string, int64 or nil.
func (c *conn) bound(args []driver.Value) []driver.NamedValue {
	c.args = c.args[:0]
	for i, v := range args {
		c.args = append(c.args, driver.NamedValue{Ordinal: i + 1, Value: v})
	}
	return c.args
}

// each calls row with every row of the result. The values are row's until it
// returns. row must not run the same query again.
func (c *conn) each(q query, row func([]driver.Value) error, args ...driver.Value) error {
	s, err := c.stmt(q)
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(context.Background(), c.bound(args))
	if err != nil {
		return c.fault(q, err)
	}
	err = c.drain(q, rows.(*sqlite3.SQLiteRows), row)
	if e := rows.Close(); err == nil && e != nil {
		err = c.fault(q, e)
	}
	return err
}

// maxColumns is the width of the widest result.
const maxColumns = 8

func (c *conn) drain(q query, rows *sqlite3.SQLiteRows, row func([]driver.Value) error) error {
	var buf [maxColumns]driver.Value
	dest := buf[:len(rows.Columns())]
	for {
		switch err := rows.Next(dest); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return c.fault(q, err)
		}
		if err := row(dest); err != nil {
			return err
		}
	}
}

// run runs a statement for its effect; rows that it returns are dropped.
func (c *conn) run(q query, args ...driver.Value) error {
	return c.each(q, func([]driver.Value) error { return nil }, args...)
}

// insert runs an insertion and returns the new row's id.
func (c *conn) insert(q query, args ...driver.Value) (int64, error) {
	s, err := c.stmt(q)
	if err != nil {
		return 0, err
	}
	res, err := s.ExecContext(context.Background(), c.bound(args))
	if err != nil {
		return 0, c.fault(q, err)
	}
	return res.LastInsertId()
}

// script runs a file of several statements.
func (c *conn) script(q query) error {
	text, err := sqlFiles.ReadFile("sql/" + string(q) + ".sql")
	if err != nil {
		return err
	}
	if _, err := c.db.Exec(string(text), nil); err != nil {
		return c.fault(q, err)
	}
	return nil
}

// integer answers a query for at most one number.
func (c *conn) integer(q query, args ...driver.Value) (n int64, found bool, err error) {
	err = c.each(q, func(row []driver.Value) error {
		n, found = asInt(row[0])
		return nil
	}, args...)
	return n, found, err
}

// text answers a query for at most one text.
func (c *conn) text(q query, args ...driver.Value) (text string, found bool, err error) {
	err = c.each(q, func(row []driver.Value) error {
		text, found = row[0].(string)
		return nil
	}, args...)
	return text, found, err
}

// asInt is a column's number; false for NULL and for what is no number, which
// any column of a foreign file may hold.
func asInt(v driver.Value) (int64, bool) {
	n, ok := v.(int64)
	return n, ok
}

// asText is a column's text; "" for NULL.
func asText(v driver.Value) string {
	s, _ := v.(string)
	return s
}

// null turns the zero value into NULL.
func null[T string | int64](v T) driver.Value {
	var zero T
	if v == zero {
		return nil
	}
	return v
}

// keepWAL leaves the log and its index in place when the last connection
// closes, so that the next one need not make them again.
func (c *conn) keepWAL() error { return c.db.SetFileControlInt("main", fcntlPersistWAL, 1) }

// fcntlPersistWAL is SQLITE_FCNTL_PERSIST_WAL.
const fcntlPersistWAL = 10
