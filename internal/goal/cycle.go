package goal

import (
	"maps"
	"slices"

	"gobuild/internal/store/storepath"
)

// breakCycle finds, when nothing can go on any more, substitutions that wait
// for themselves by way of others: caches can lie about references. It makes
// those look elsewhere and tells whether there were any.
func (e *Engine) breakCycle() bool {
	found := false
	done := map[wantedPath]bool{}
	order := func(a, b wantedPath) int { return byName(a.path, b.path) }
	for _, key := range slices.SortedFunc(maps.Keys(e.substs), order) {
		if s := e.cycleFrom(key, done); s != nil && e.w.Release(s) {
			s.cyclic, found = true, true
		}
	}
	return found
}

// cycleFrom searches depth first, with a list, since chains may be long. done
// has what need not be looked at again, as it leads to no cycle or to one that
// has been found.
func (e *Engine) cycleFrom(key wantedPath, done map[wantedPath]bool) *Substitution {
	type frame struct {
		key  wantedPath
		refs []storepath.Path
	}
	on := map[wantedPath]bool{}
	var stack []frame
	push := func(key wantedPath) {
		if s := e.substs[key]; s != nil && s.offer != nil && !done[key] {
			on[key] = true
			stack = append(stack, frame{key, s.offer.info.References})
		}
	}
	push(key)
	for len(stack) > 0 {
		f := &stack[len(stack)-1]
		if len(f.refs) == 0 {
			on[f.key], done[f.key] = false, true
			stack = stack[:len(stack)-1]
			continue
		}
		next := wantedPath{path: f.refs[0]}
		f.refs = f.refs[1:]
		switch {
		case next.path == f.key.path:
		case on[next]:
			for key := range on {
				done[key] = true
			}
			return e.substs[next]
		default:
			push(next)
		}
	}
	return nil
}
