package gc

import (
	"errors"
	"fmt"
	"slices"

	"gobuild/internal/store"
	"gobuild/internal/store/storepath"
)

// An AliveError says that a path must stay because of a root.
type AliveError struct {
	Path storepath.Path
	Root Root // Root.Path is Path, or needs it
}

func (e *AliveError) Error() string {
	text := fmt.Sprintf("cannot delete path '%s' since it is still alive: '%s' keeps ", e.Path, e.Root.From)
	if e.Root.Path == e.Path {
		return text + "it"
	}
	return text + "'" + string(e.Root.Path) + "', which needs it"
}

// A graph knows which paths need a path, by references and by the settings.
type graph struct {
	store *store.Store
	Options
}

// users are the valid paths because of which p has to stay while they do.
func (g graph) users(p storepath.Path) ([]storepath.Path, error) {
	users, err := g.store.Referrers(p)
	if errors.Is(err, store.ErrInvalidPath) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if g.KeepDerivations && p.IsDerivation() {
		built, err := g.built(p)
		if err != nil {
			return nil, err
		}
		users = append(users, built...)
	}
	if g.KeepOutputs {
		derivers, err := g.store.ValidDerivers(p)
		if err != nil {
			return nil, err
		}
		users = append(users, derivers...)
	}
	return users, nil
}

// built are the valid outputs of drv that name it as their deriver: another
// derivation may have made the same output.
func (g graph) built(drv storepath.Path) ([]storepath.Path, error) {
	outputs, err := g.store.DerivationOutputs(drv)
	if err != nil {
		return nil, err
	}
	var built []storepath.Path
	for _, o := range outputs {
		info, err := g.store.Info(o.Path)
		if errors.Is(err, store.ErrInvalidPath) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if info.Deriver == drv {
			built = append(built, o.Path)
		}
	}
	return built, nil
}

// A verdict is the search for reasons not to delete paths.
type verdict struct {
	graph
	roots   map[string]Root                   // by hash part: a root keeps what is beside its path, too
	asked   map[storepath.Path]bool           // what is to be deleted
	because map[storepath.Path]storepath.Path // every path seen so far, and the asked one that it needs
	todo    []storepath.Path
}

// judge returns an *AliveError if a root needs one of paths, and else an
// *store.InUseError if a valid path that is not among them does.
func (g graph) judge(paths []storepath.Path, roots []Root) error {
	v := verdict{
		graph: g, roots: make(map[string]Root, len(roots)), asked: make(map[storepath.Path]bool, len(paths)),
		because: make(map[storepath.Path]storepath.Path, len(paths)),
	}
	for _, r := range roots {
		v.roots[r.Path.HashPart()] = r
	}
	for _, p := range paths {
		v.asked[p], v.because[p] = true, p
		v.todo = append(v.todo, p)
	}
	var inUse error
	for len(v.todo) > 0 {
		p := v.todo[0]
		v.todo = v.todo[1:]
		if r, alive := v.roots[p.HashPart()]; alive {
			return &AliveError{Path: v.because[p], Root: r}
		}
		others, err := v.visit(p)
		if err != nil {
			return err
		}
		if len(others) > 0 && inUse == nil && v.asked[p] {
			inUse = &store.InUseError{Path: p, Referrers: others}
		}
	}
	return inUse
}

// visit goes on to the users of p and returns those that are to stay.
func (v *verdict) visit(p storepath.Path) (others []storepath.Path, err error) {
	users, err := v.users(p)
	for _, u := range users {
		if !v.asked[u] {
			others = append(others, u)
		}
		if _, seen := v.because[u]; !seen {
			v.because[u] = v.because[p]
			v.todo = append(v.todo, u)
		}
	}
	slices.Sort(others)
	return slices.Compact(others), err
}
