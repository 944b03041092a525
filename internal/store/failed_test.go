package store

import (
	"database/sql/driver"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

func wantFailures(t *testing.T, s *Store, want ...Failure) {
	t.Helper()
	got, err := s.Failures()
	must(t, err)
	for i := range got {
		got[i].When = got[i].When.UTC()
	}
	if len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
		t.Errorf("failures %+v, want %+v", got, want)
	}
}

func TestFailedPaths(t *testing.T) {
	s := newStore(t)
	a, b := fakePath(s.dir, 1, "a"), fakePath(s.dir, 2, "b")
	drv := fakePath(s.dir, 3, "x.drv")
	if f, err := s.FailureOf(a); f != nil || err != nil {
		t.Errorf("nothing failed yet: %v, %v", f, err)
	}
	must(t, errors.Join(s.ClearAllFailed(), s.ClearFailed(a)))
	if _, err := os.Stat(s.ownFile()); !os.IsNotExist(err) {
		t.Errorf("asking made a file: %v", err)
	}
	now := time.Unix(s.cfg.Now().Unix(), 0).UTC()
	first := Failure{Drv: drv, Message: "exit code 3", Log: []string{"one", "", "two"}}
	must(t, s.MarkFailed(first, b, a, b))
	inB := first
	first.Path, inB.Path = a, b
	first.When, inB.When = now, now
	wantFailures(t, s, first, inB)
	f, err := s.FailureOf(b)
	must(t, err)
	if f == nil || f.Path != b || !f.When.Equal(now) || f.Message != "exit code 3" {
		t.Errorf("failure %+v", f)
	}
	must(t, errors.Join(s.MarkFailed(Failure{Drv: drv, Message: "exit code 4"}, a), s.ClearFailed(b, b)))
	wantFailures(t, s, Failure{Path: a, Drv: drv, When: now, Message: "exit code 4"})
	must(t, s.ClearAllFailed())
	wantFailures(t, s)
}

// TestFailureBounds keeps a reasonable part of what a builder may say.
func TestFailureBounds(t *testing.T) {
	s := newStore(t)
	a := fakePath(s.dir, 1, "a")
	lines := make([]string, 1000)
	for i := range lines {
		lines[i] = strings.Repeat("ä", 100)
	}
	lines[999] = "last\nline \x00\xff"
	must(t, s.MarkFailed(Failure{Message: strings.Repeat("é", maxFailureMessage), Log: lines}, a))
	f, err := s.FailureOf(a)
	must(t, err)
	if len(f.Message) > maxFailureMessage || len(f.Message) < maxFailureMessage-1 || strings.Trim(f.Message, "é") != "" {
		t.Errorf("a message of %d bytes", len(f.Message))
	}
	size := len(strings.Join(f.Log, "\n"))
	if size > maxFailureLog || size < maxFailureLog-10 || f.Log[len(f.Log)-1] != "last line \x00\xff" || f.Log[1] != lines[0] || strings.Trim(f.Log[0], "ä") != "" {
		t.Errorf("a log of %d bytes in %d lines, from %q to %q", size, len(f.Log), f.Log[0], f.Log[len(f.Log)-1])
	}
}

// own prepares the file as another version has left it.
func own(t *testing.T, s *Store, statements ...string) {
	t.Helper()
	c, err := openConn(s.ownFile(), connOptions{access: creating})
	must(t, err)
	for _, text := range statements {
		_, err := c.db.Exec(text, []driver.Value{})
		must(t, err)
	}
	must(t, c.Close())
}

// TestFirstVersion converts the tables that had no causes yet.
func TestFirstVersion(t *testing.T) {
	s := newStore(t)
	a := fakePath(s.dir, 1, "a")
	own(t, s, "create table FailedPaths (path text primary key not null, time integer not null) without rowid",
		"insert into FailedPaths values ('"+string(a)+"', 77)")
	cfg := s.cfg
	cfg.ReadOnly = true
	reader := openStore(t, cfg)
	wantFailures(t, reader) // cannot read it, and must not fail either
	old := Failure{Path: a, When: time.Unix(77, 0).UTC()}
	wantFailures(t, s, old)
	wantFailures(t, openStore(t, cfg), old)
	must(t, s.MarkFailed(Failure{Message: "m"}, a))
	wantFailures(t, openStore(t, cfg), Failure{Path: a, When: time.Unix(s.cfg.Now().Unix(), 0).UTC(), Message: "m"})
}

// TestUpgradeBegun meets tables of which only the version is missing, as
// another process leaves them between our two looks.
func TestUpgradeBegun(t *testing.T) {
	s := newStore(t)
	must(t, errors.Join(s.MarkFailed(Failure{Message: "m"}, fakePath(s.dir, 1, "a")), s.own.Close()))
	s.own = nil
	own(t, s, "pragma user_version = 0")
	if all, err := s.Failures(); len(all) != 1 || all[0].Message != "m" || err != nil {
		t.Errorf("%v, %v", all, err)
	}
}

func TestLaterVersion(t *testing.T) {
	s := newStore(t)
	own(t, s, "pragma user_version = 2")
	const want = "has another version: it is 2, but I only support 1"
	if err := s.MarkFailed(Failure{}, fakePath(s.dir, 1, "a")); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v", err)
	}
	cfg := s.cfg
	cfg.ReadOnly = true
	wantFailures(t, openStore(t, cfg))
}

func TestDamagedFailures(t *testing.T) {
	s := newStore(t)
	must(t, os.WriteFile(s.ownFile(), []byte(strings.Repeat("no database ", 1000)), 0o644))
	var damage *DatabaseError
	if _, err := s.FailureOf(fakePath(s.dir, 1, "a")); !errors.As(err, &damage) || !damage.Damaged {
		t.Errorf("error %v", err)
	}
}
