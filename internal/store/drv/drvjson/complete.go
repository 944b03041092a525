package drvjson

import (
	"fmt"

	"gobuild/internal/store/drv"
	"gobuild/internal/store/storepath"
)

// inOrder sorts entries so that inputs come first. Members of a loop, which
// only wrong keys can make, come last.
func inOrder(entries []Entry) []Entry {
	index := make(map[storepath.Path]int, len(entries))
	for i, e := range entries {
		index[e.Path] = i
	}
	users := make([][]int, len(entries))
	missing := make([]int, len(entries))
	for i, e := range entries {
		for _, p := range e.Drv.References() { // a derivation can be a source, too
			if j, ok := index[p]; ok && j != i {
				users[j] = append(users[j], i)
				missing[i]++
			}
		}
	}
	var ready []int
	for i := range entries {
		if missing[i] == 0 {
			ready = append(ready, i)
		}
	}
	sorted := make([]Entry, 0, len(entries))
	for next := 0; next < len(ready); next++ {
		i := ready[next]
		sorted = append(sorted, entries[i])
		for _, u := range users[i] {
			if missing[u]--; missing[u] == 0 {
				ready = append(ready, u)
			}
		}
	}
	for i, e := range entries {
		if missing[i] > 0 {
			sorted = append(sorted, e)
		}
	}
	return sorted
}

// complete fills in outputs, gives every entry its true path and checks it.
func complete(dir storepath.Dir, entries []Entry, read func(storepath.Path) (*drv.Derivation, error)) ([]Entry, error) {
	done := map[storepath.Path]*drv.Derivation{}
	h := drv.NewHasher(func(p storepath.Path) (*drv.Derivation, error) {
		if d, ok := done[p]; ok {
			return d, nil
		}
		return read(p)
	})
	for i, e := range entries {
		if err := e.Drv.FillOutputs(dir, h); err != nil {
			return nil, fmt.Errorf("derivation '%s': %w", e.Drv.Name, err)
		}
		p, err := e.Drv.Path(dir)
		if err != nil {
			return nil, err
		}
		if err := e.Drv.CheckInvariants(dir, p, h); err != nil {
			return nil, err
		}
		entries[i].Path, done[p] = p, e.Drv
	}
	return entries, nil
}
