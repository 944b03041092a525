package goal

import (
	"errors"
	"fmt"
	"slices"

	"gobuild/internal/store"
	"gobuild/internal/store/drv"
	"gobuild/internal/store/storepath"
)

// RepairPaths fetches paths again, whatever is there, and builds anew in repair
// mode those that cannot be fetched: a path is only what the database says it
// is when it comes from elsewhere or from its deriver. Errors are those of
// Realise.
func (e *Engine) RepairPaths(paths []storepath.Path) error {
	e.tidyRepairs()
	paths = slices.Compact(slices.Sorted(slices.Values(paths)))
	lost, err := e.fetchAgain(paths)
	if err != nil {
		return err
	}
	var hopeless []*BuildError
	var derivers []target
	for _, p := range lost {
		deriver, err := e.deriver(p)
		if err == nil {
			derivers = append(derivers, e.derivation(deriver, nil, Repair))
			continue
		}
		var known *BuildError
		if !errors.As(err, &known) {
			return err
		}
		hopeless = append(hopeless, known)
	}
	if len(derivers) > 0 {
		if _, err := e.work(derivers, e.opt.KeepGoing); err != nil {
			return err
		}
	}
	return e.judge(append(failures(derivers), hopeless...))
}

// fetchAgain tells for which paths fetching did not help.
func (e *Engine) fetchAgain(paths []storepath.Path) ([]storepath.Path, error) {
	if !e.substitutes() {
		return paths, nil
	}
	goals := make([]target, len(paths))
	for i, p := range paths {
		goals[i] = e.substitution(p, true)
	}
	// one that cannot be fetched says nothing about the others
	results, err := e.work(goals, true)
	if err != nil {
		return nil, err
	}
	var lost []storepath.Path
	for _, r := range results {
		if !r.Status.OK() {
			lost = append(lost, r.Path)
		}
	}
	return lost, nil
}

// deriver finds the derivation that can build a valid path again. A *BuildError
// says that there is none.
func (e *Engine) deriver(p storepath.Path) (storepath.Path, error) {
	hopeless := func(why string) error {
		return &BuildError{Drv: p, Status: MiscFailure, Err: fmt.Errorf("cannot repair path '%s': it cannot be fetched, and %s", p, why)}
	}
	info, err := e.store.Info(p)
	switch {
	case errors.Is(err, store.ErrInvalidPath):
		return "", &BuildError{Drv: p, Status: MiscFailure, Err: err}
	case err != nil:
		return "", err
	case info.Deriver == "":
		return "", hopeless("it is not known what built it")
	}
	valid, err := e.store.IsValid(info.Deriver)
	if err != nil {
		return "", err
	}
	if !valid {
		return "", hopeless(fmt.Sprintf("'%s', which built it, is not valid", info.Deriver))
	}
	outputs, err := e.outputsOf(info.Deriver)
	if err != nil {
		return "", err
	}
	if !slices.ContainsFunc(outputs, func(o drv.Output) bool { return o.Path == p }) {
		return "", hopeless(fmt.Sprintf("'%s' does not build it", info.Deriver))
	}
	return info.Deriver, nil
}
