package main

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// layerWidth and fanIn shape the large graphs: each derivation needs some of the layer below.
const (
	layerWidth = 200
	fanIn      = 5
)

// bigGraph generates n derivations and one top that needs the whole last layer. The first leaf fails.
func (b *bench) bigGraph(p *place, n int) (*graph, *node, error) {
	g, err := newGraph(p, b.shell)
	if err != nil {
		return nil, nil, err
	}
	random := rand.New(rand.NewPCG(1, uint64(n)))
	var below, layer []*node
	for i := range n - 1 {
		if len(layer) == layerWidth {
			below, layer = layer, nil
		}
		var inputs []*node
		for range min(fanIn, len(below)) {
			inputs = append(inputs, below[random.IntN(len(below))])
		}
		script := "echo hello > $out"
		if i == 0 {
			script = "exit 1"
		}
		node, err := g.add(fmt.Sprintf("node-%05d", i), script, inputs...)
		if err != nil {
			return nil, nil, err
		}
		layer = append(layer, node)
	}
	// Every leaf is needed: the top takes the first layer, too.
	top, err := g.add("zz-top", "echo top > $out", append(layer, g.nodes[:min(layerWidth, len(g.nodes))]...)...)
	return g, top, err
}

func plan(n int) func(*bench, *result) error {
	return func(b *bench, r *result) error {
		return b.onGraph(r, n, false, []string{"--dry-run"}, 0)
	}
}

func firstLeafFails(n int) func(*bench, *result) error {
	return func(b *bench, r *result) error { return b.onGraph(r, n, false, nil, 100) }
}

// allValid names every derivation as a target of its own: a valid top says nothing about those below it.
func allValid(n int) func(*bench, *result) error {
	return func(b *bench, r *result) error { return b.onGraph(r, n, true, nil, 0) }
}

// onGraph compares the engines on a large graph. Real Nix gets one run, and none beyond 20,000.
func (b *bench) onGraph(r *result, n int, valid bool, args []string, wantExit int) error {
	p, err := b.place("graph", false)
	if err != nil {
		return err
	}
	g, top, err := b.bigGraph(p, n)
	if err != nil {
		return err
	}
	if err := g.write(p, valid); err != nil {
		return err
	}
	args = append(args, string(top.path))
	if valid {
		for _, n := range g.nodes[:len(g.nodes)-1] {
			args = append(args, string(n.path))
		}
	}
	j := job{place: p, args: args, wantExit: wantExit, reps: b.repetitions(3)}
	if n <= 20000 {
		j.nixReps = 1
	}
	m, err := b.compare(j)
	if err != nil {
		return err
	}
	r.take(m, 1)
	if r.Floor, err = readFloor(p, g); err != nil {
		return err
	}
	return p.dropAll()
}

// readFloor is the time to read every derivation's file and every row of the database once.
func readFloor(p *place, g *graph) (float64, error) {
	begin := time.Now()
	for _, n := range g.nodes {
		if _, err := os.ReadFile(string(n.path)); err != nil {
			return 0, err
		}
	}
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(p.state(), "db/db.sqlite"))
	if err != nil {
		return 0, err
	}
	defer db.Close()
	var bytes int64
	if err := db.QueryRow("select sum(length(path)) from ValidPaths").Scan(&bytes); err != nil {
		return 0, err
	}
	return time.Since(begin).Seconds(), nil
}
