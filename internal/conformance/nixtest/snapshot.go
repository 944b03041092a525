package nixtest

import (
	"compress/bzip2"
	"database/sql"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	_ "github.com/mattn/go-sqlite3" // the database driver
)

// A Snapshot is what a run left behind, as text that can be compared.
type Snapshot struct {
	Paths     map[string]string // valid path to its row and references
	Outputs   map[string]string // derivation and output to the path in the database
	Logs      map[string]string // name below the log directory to contents, decompressed
	Trees     map[string]string // valid path to a listing: type, mode, size, time, target
	Leftovers []string          // entries of the store that are neither valid nor lock files
	TempFiles []string          // what is left in temporary directories
}

// Take reads the state of a store on which nobody works.
func Take(t testing.TB, s *Store) *Snapshot {
	t.Helper()
	snap := &Snapshot{Trees: map[string]string{}, Logs: map[string]string{}}
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(s.StateDir(), "db/db.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	snap.Paths = rows(t, db, `
		select p.path, 'hash=' || p.hash || ' size=' || ifnull(p.narSize, 'null') || ' deriver=' || ifnull(p.deriver, 'null')
			|| ' ultimate=' || ifnull(p.ultimate, 'null') || ' sigs=' || ifnull(p.sigs, 'null') || ' ca=' || ifnull(p.ca, 'null') || char(10)
			|| ifnull((select group_concat('  refers to ' || path, char(10)) from (select r.path from Refs join ValidPaths r on r.id = reference
				where referrer = p.id order by r.path)), '')
		from ValidPaths p`)
	snap.Outputs = rows(t, db, `select v.path || '!' || o.id, o.path from DerivationOutputs o join ValidPaths v on v.id = o.drv`)
	for path := range snap.Paths {
		snap.Trees[path] = listing(t, s.Real(path))
	}
	snap.readLogs(t, s.LogDir())
	snap.findLeftovers(t, s)
	return snap
}

func rows(t testing.TB, db *sql.DB, query string) map[string]string {
	t.Helper()
	found, err := db.Query(query)
	if err != nil {
		t.Fatalf("reading the database: %v", err)
	}
	defer found.Close()
	m := map[string]string{}
	for found.Next() {
		var key, value string
		if err := found.Scan(&key, &value); err != nil {
			t.Fatal(err)
		}
		m[key] = value
	}
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	return m
}

func listing(t testing.TB, top string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(top, path)
		fmt.Fprintf(&b, "%q %v mtime=%d.%09d", name, info.Mode(), info.ModTime().Unix(), info.ModTime().Nanosecond())
		switch {
		case info.Mode().IsRegular():
			fmt.Fprintf(&b, " size=%d", info.Size())
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " -> %q", target)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Errorf("listing '%s': %v", top, err)
	}
	return b.String()
}

func (snap *Snapshot) readLogs(t testing.TB, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		var r io.Reader = f
		if strings.HasSuffix(path, ".bz2") {
			r = bzip2.NewReader(f)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			return fmt.Errorf("log '%s': %w", path, err)
		}
		name, _ := filepath.Rel(dir, path)
		snap.Logs[name] = string(text)
		return nil
	})
	if err != nil && !os.IsNotExist(err) {
		t.Errorf("reading logs: %v", err)
	}
}

func (snap *Snapshot) findLeftovers(t testing.TB, s *Store) {
	t.Helper()
	entries, err := os.ReadDir(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		_, valid := snap.Paths[filepath.Join(s.LogicalDir(), e.Name())]
		if !valid && e.Name() != ".links" && !strings.HasSuffix(e.Name(), ".lock") {
			snap.Leftovers = append(snap.Leftovers, e.Name())
		}
	}
	for _, dir := range []string{s.Tmp, filepath.Join(s.StateDir(), "builds"), filepath.Join(s.StateDir(), "temproots")} {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			snap.TempFiles = append(snap.TempFiles, filepath.Join(filepath.Base(dir), e.Name()))
		}
	}
}

// sortedKeys of both maps, each once.
func sortedKeys(a, b map[string]string) []string {
	var keys []string
	for k := range a {
		keys = append(keys, k)
	}
	for k := range b {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return slices.Compact(keys)
}
