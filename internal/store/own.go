package store

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
)

// This program's own tables live in a file beside the shared database. Its
// first version had no version number.
const ownVersion = 1

func (s *Store) ownFile() string { return s.state("db/gobuild.sqlite") }

// openOwn opens the file, or reports false if there is none and it is only to
// be read.
func (s *Store) openOwn(a access) (bool, error) {
	if s.own != nil {
		return true, nil
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
		if err := own.upgradeOwn(a); err != nil {
			_ = own.Close()
			return err
		}
		s.own = own
		return nil
	})
	if errors.Is(err, errOtherVersion) && a == readOnly {
		return false, nil // of no use until somebody may upgrade it
	}
	return err == nil, err
}

// errOtherVersion: the tables are not those that the statements are for.
var errOtherVersion = errors.New("has another version")

// upgradeOwn makes or converts the tables.
func (c *conn) upgradeOwn(a access) error {
	version, _, err := c.integer("own-version")
	switch {
	case err != nil || version == ownVersion:
		return err
	case version > ownVersion:
		return fmt.Errorf("the database '%s' %w: it is %d, but I only support %d", c.path, errOtherVersion, version, ownVersion)
	case a == readOnly:
		return errOtherVersion
	}
	if err := c.run("begin-immediate"); err != nil {
		return err
	}
	// An error closes the connection, and with it the transaction.
	if err := c.makeOwn(); err != nil {
		return err
	}
	return c.run("commit")
}

// makeOwn may be done already, by another process that was faster.
func (c *conn) makeOwn() error {
	if err := c.script("own-schema"); err != nil {
		return err
	}
	var have []string
	err := c.each("own-columns", func(row []driver.Value) error {
		have = append(have, asText(row[0]))
		return nil
	})
	if err != nil {
		return err
	}
	for _, column := range []string{"drv", "message", "log"} {
		if slices.Contains(have, column) {
			continue
		}
		if err := c.run(query("own-add-" + column)); err != nil {
			return err
		}
	}
	return c.run("set-own-version")
}
