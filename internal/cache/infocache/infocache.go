// Package infocache remembers on disk what caches said about paths: the text of
// narinfo files, and that there was none. It can be lost at any time; whatever
// is wrong with it costs no more than asking again.
package infocache

import (
	"context"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-sqlite3"
)

//go:embed sql/*.sql
var sqlFiles embed.FS

// version is the layout's; a file of another is made anew.
const version = 1

// busyTimeout is short: a busy file is as good as none.
const busyTimeout = 200 * time.Millisecond

// A DB is such a file. It is safe for concurrent use, and several programs may
// use one file. A nil DB remembers nothing.
type DB struct {
	path               string
	positive, negative time.Duration // how long answers are believed
	warn               func(text string)

	mu    sync.Mutex
	conn  *sqlite3.SQLiteConn // nil: out of use
	stmts map[string]*sqlite3.SQLiteStmt
}

// Open opens or makes the file. It cannot fail: a file that does not work is
// not used, which warn is told once; a damaged one is moved aside.
func Open(path string, positive, negative time.Duration, warn func(text string)) *DB {
	d := &DB{path: path, positive: positive, negative: negative, warn: warn}
	err := d.open()
	if damaged(err) {
		err = d.moveAside(err)
	}
	if err != nil {
		d.fail(err)
		return d
	}
	d.prune()
	return d
}

func (d *DB) open() error {
	if err := os.MkdirAll(filepath.Dir(d.path), 0o755); err != nil {
		return err
	}
	name := "file:" + (&url.URL{Path: d.path}).EscapedPath() + "?" + strings.Join([]string{
		"mode=rwc", "_mutex=no", "_journal_mode=wal", "_synchronous=normal",
		fmt.Sprintf("_busy_timeout=%d", busyTimeout.Milliseconds()),
	}, "&")
	c, err := (&sqlite3.SQLiteDriver{}).Open(name)
	if err != nil {
		return err
	}
	d.conn, d.stmts = c.(*sqlite3.SQLiteConn), map[string]*sqlite3.SQLiteStmt{}
	if err := d.layOut(); err != nil {
		d.close()
		return err
	}
	return nil
}

// layOut makes the tables, if need be.
func (d *DB) layOut() error {
	var found int64
	if err := d.each("version", func(row []driver.Value) { found, _ = row[0].(int64) }); err != nil {
		return err
	}
	if found == version {
		return nil
	}
	text, err := sqlFiles.ReadFile("sql/schema.sql")
	if err != nil {
		return err
	}
	_, err = d.conn.Exec(string(text), nil)
	return err
}

// Close ends the use of the file.
func (d *DB) Close() {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.close()
}

func (d *DB) close() {
	for _, s := range d.stmts {
		s.Close()
	}
	if d.conn != nil {
		d.conn.Close()
	}
	d.conn, d.stmts = nil, nil
}

// damaged tells a file that SQLite cannot make sense of.
func damaged(err error) bool {
	e, ok := errors.AsType[sqlite3.Error](err)
	return ok && (e.Code == sqlite3.ErrCorrupt || e.Code == sqlite3.ErrNotADB)
}

// moveAside keeps a damaged file for whoever wants to know, and begins anew.
func (d *DB) moveAside(why error) error {
	aside := d.path + ".corrupt"
	if err := os.Rename(d.path, aside); err != nil {
		return err
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Remove(d.path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	d.warn(fmt.Sprintf("the memory of what caches have, '%s', is damaged (%v); it was renamed to '%s'", d.path, why, aside))
	return d.open()
}

// fail ends the use of the file because of an error, except that of another
// program's using it for long.
func (d *DB) fail(err error) {
	if e, ok := errors.AsType[sqlite3.Error](err); ok && (e.Code == sqlite3.ErrBusy || e.Code == sqlite3.ErrLocked) {
		return
	}
	d.close()
	if damaged(err) {
		if err = d.moveAside(err); err == nil {
			return
		}
	}
	d.warn(fmt.Sprintf("what caches have is not remembered in '%s': %v", d.path, err))
}

// prune deletes, once a day, what is not believed any more.
func (d *DB) prune() {
	now := time.Now()
	var last int64
	err := d.each("pruned", func(row []driver.Value) { last, _ = row[0].(int64) })
	if err == nil && (now.Unix() < last || now.Unix()-last > int64((24*time.Hour).Seconds())) {
		err = d.run("prune", now.Add(-d.positive).Unix(), now.Add(-d.negative).Unix(), now.Unix())
		if err == nil {
			err = d.run("set-pruned", now.Unix())
		}
	}
	if err != nil {
		d.fail(err)
	}
}

// ask runs a query for one row of text, moment, unless the file is out of use.
func (d *DB) ask(query string, args ...driver.Value) (text string, exists bool, asked time.Time) {
	if d == nil {
		return "", false, asked
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn == nil {
		return "", false, asked
	}
	err := d.each(query, func(row []driver.Value) {
		text, exists = row[0].(string)
		at, _ := row[1].(int64)
		asked = time.Unix(at, 0)
	}, args...)
	if err != nil {
		d.fail(err)
		return "", false, time.Time{}
	}
	return text, exists, asked
}

// change runs a statement, unless the file is out of use.
func (d *DB) change(statement string, args ...driver.Value) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn == nil {
		return
	}
	if err := d.run(statement, args...); err != nil {
		d.fail(err)
	}
}

// fresh tells whether an answer of that moment is still believed. Moments to
// come are a wrong clock's.
func fresh(asked time.Time, ttl time.Duration) bool {
	age := time.Since(asked)
	return age > -time.Minute && age < ttl
}

// Describe returns the nix-cache-info of a cache as it was, and whether it is
// younger than ttl.
func (d *DB) Describe(cache string, ttl time.Duration) (text string, known, isFresh bool) {
	text, known, asked := d.ask("describe", cache)
	return text, known, known && fresh(asked, ttl)
}

// SetDescription remembers a cache's nix-cache-info.
func (d *DB) SetDescription(cache, text string) {
	d.change("set-description", cache, text, time.Now().Unix())
}

// Look returns what a cache said about a path, given by its hash part: the text
// of the narinfo, or "" if it had none. Nothing is known of most.
func (d *DB) Look(cache, hashPart string) (text string, known bool) {
	text, exists, asked := d.ask("look", cache, hashPart)
	ttl := d.ttl(exists)
	return text, !asked.IsZero() && fresh(asked, ttl)
}

func (d *DB) ttl(exists bool) time.Duration {
	switch {
	case d == nil:
		return 0
	case exists:
		return d.positive
	}
	return d.negative
}

// Set remembers what a cache said: text as Look returns it.
func (d *DB) Set(cache, hashPart, text string) {
	var value driver.Value
	if text != "" {
		value = text
	}
	d.change("set", cache, hashPart, value, time.Now().Unix())
}

// Forget makes sure that the cache is asked the next time.
func (d *DB) Forget(cache, hashPart string) { d.change("forget", cache, hashPart) }

// each calls row with each row of a result.
func (d *DB) each(name string, row func([]driver.Value), args ...driver.Value) error {
	s := d.stmts[name]
	if s == nil {
		text, err := sqlFiles.ReadFile("sql/" + name + ".sql")
		if err != nil {
			return err
		}
		made, err := d.conn.Prepare(string(text))
		if err != nil {
			return err
		}
		s = made.(*sqlite3.SQLiteStmt)
		d.stmts[name] = s
	}
	bound := make([]driver.NamedValue, len(args))
	for i, v := range args {
		bound[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	rows, err := s.QueryContext(context.Background(), bound)
	if err != nil {
		return err
	}
	dest := make([]driver.Value, len(rows.Columns()))
	for {
		if err = rows.Next(dest); err != nil {
			break
		}
		row(dest)
	}
	if err == io.EOF {
		err = nil
	}
	return errors.Join(err, rows.Close())
}

func (d *DB) run(name string, args ...driver.Value) error {
	return d.each(name, func([]driver.Value) {}, args...)
}
