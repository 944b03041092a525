package main

import (
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	_ "github.com/mattn/go-sqlite3" // the database driver

	"gobuild/internal/store/digest"
	"gobuild/internal/store/drv"
	"gobuild/internal/store/storepath"
)

//go:embed schema.sql
var schema string

// A node is a derivation of a generated graph.
type node struct {
	path storepath.Path
	drv  *drv.Derivation
	text []byte
}

// A graph is a store's worth of derivations.
type graph struct {
	dir    storepath.Dir
	shell  string
	nodes  []*node
	byPath map[storepath.Path]*drv.Derivation
	hasher *drv.Hasher
}

func newGraph(p *place, shell string) (*graph, error) {
	dir, err := storepath.ParseDir(p.store())
	if err != nil {
		return nil, err
	}
	g := &graph{dir: dir, shell: shell, byPath: map[storepath.Path]*drv.Derivation{}}
	g.hasher = drv.NewHasher(func(path storepath.Path) (*drv.Derivation, error) {
		if d := g.byPath[path]; d != nil {
			return d, nil
		}
		return nil, fmt.Errorf("no derivation '%s'", path)
	})
	return g, nil
}

// add makes a derivation that runs a shell script with the first outputs of others as its inputs.
func (g *graph) add(name, script string, inputs ...*node) (*node, error) {
	d := &drv.Derivation{
		Name:     name,
		Outputs:  []drv.Output{{ID: "out"}},
		Platform: "x86_64-linux",
		Builder:  g.shell,
		Args:     []string{"-c", script},
	}
	var deps []string
	for _, in := range inputs {
		d.InputDrvs = append(d.InputDrvs, drv.Input{Path: in.path, Outputs: []string{"out"}})
		deps = append(deps, string(in.drv.Outputs[0].Path))
	}
	slices.SortFunc(d.InputDrvs, func(a, b drv.Input) int { return strings.Compare(string(a.Path), string(b.Path)) })
	d.InputDrvs = slices.CompactFunc(d.InputDrvs, func(a, b drv.Input) bool { return a.Path == b.Path })
	// One variable may be no longer than 128 KiB.
	if len(deps) > 1000 {
		deps = nil
	}
	d.Env = []drv.EnvVar{
		{Name: "builder", Value: g.shell}, {Name: "deps", Value: strings.Join(deps, " ")}, {Name: "name", Value: name},
		{Name: "out"}, {Name: "system", Value: "x86_64-linux"},
	}
	if err := d.FillOutputs(g.dir, g.hasher); err != nil {
		return nil, err
	}
	path, err := d.Path(g.dir)
	if err != nil {
		return nil, err
	}
	n := &node{path: path, drv: d, text: d.Unparse()}
	g.nodes = append(g.nodes, n)
	g.byPath[path] = d
	return n, nil
}

// narOfFile is the archive of a plain file.
func narOfFile(contents string) []byte {
	var b []byte
	str := func(s string) {
		b = append(b, byte(len(s)), byte(len(s)>>8), byte(len(s)>>16), byte(len(s)>>24), 0, 0, 0, 0)
		b = append(b, s...)
		for len(b)%8 != 0 {
			b = append(b, 0)
		}
	}
	for _, s := range []string{"nix-archive-1", "(", "type", "regular", "contents", contents, ")"} {
		str(s)
	}
	return b
}

// outputText is the contents of every output that is registered without having been built.
const outputText = "made up\n"

// write puts the graph into a store and its new database; with outputs, these are valid, too.
func (g *graph) write(p *place, withOutputs bool) error {
	if err := os.MkdirAll(filepath.Join(p.state(), "db"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(p.state(), "db/schema"), []byte("10"), 0o644); err != nil {
		return err
	}
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(p.state(), "db/db.sqlite")+"?_journal_mode=wal&_foreign_keys=1&_synchronous=off")
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec(schema); err != nil {
		return err
	}
	if err := g.fill(db, withOutputs); err != nil {
		return err
	}
	_, err = db.Exec("pragma wal_checkpoint(truncate)")
	return err
}

func (g *graph) fill(db *sql.DB, withOutputs bool) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback() // after a commit: nothing
	w := registrar{tx: tx, ids: map[storepath.Path]int64{}, now: time.Now().Unix()}
	outputNAR := narOfFile(outputText)
	for _, n := range g.nodes {
		ca := "text:" + digest.Of(digest.SHA256, n.text).String()
		w.path(n.path, narOfFile(string(n.text)), "", ca, n.drv.References())
		w.exec("insert into DerivationOutputs values (?, 'out', ?)", w.ids[n.path], string(n.drv.Outputs[0].Path))
		w.file(string(n.path), n.text)
		if withOutputs {
			out := n.drv.Outputs[0].Path
			w.path(out, outputNAR, string(n.path), "", nil)
			w.file(string(out), []byte(outputText))
		}
	}
	return errors.Join(w.err, tx.Commit())
}

// A registrar writes rows and files; after the first error it does nothing.
type registrar struct {
	tx  *sql.Tx
	ids map[storepath.Path]int64
	now int64
	err error
}

func (w *registrar) exec(query string, args ...any) sql.Result {
	if w.err != nil {
		return nil
	}
	r, err := w.tx.Exec(query, args...)
	w.err = err
	return r
}

func (w *registrar) path(p storepath.Path, nar []byte, deriver, ca string, refs []storepath.Path) {
	optional := func(s string) any {
		if s == "" {
			return nil
		}
		return s
	}
	var ultimate any
	if deriver != "" {
		ultimate = 1
	}
	hash := digest.Of(digest.SHA256, nar).PrefixedHex()
	r := w.exec("insert into ValidPaths (path, hash, registrationTime, deriver, narSize, ultimate, ca) values (?, ?, ?, ?, ?, ?, ?)",
		string(p), hash, w.now, optional(deriver), len(nar), ultimate, optional(ca))
	if w.err != nil {
		return
	}
	w.ids[p], w.err = r.LastInsertId()
	for _, ref := range refs {
		w.exec("insert into Refs values (?, ?)", w.ids[p], w.ids[ref])
	}
}

func (w *registrar) file(path string, contents []byte) {
	if w.err != nil {
		return
	}
	if w.err = os.WriteFile(path, contents, 0o444); w.err == nil {
		w.err = os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0))
	}
}
