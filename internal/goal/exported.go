package goal

import (
	"fmt"
	"slices"

	"gobuild/internal/activity"
	"gobuild/internal/store"
	"gobuild/internal/store/drv"
	"gobuild/internal/store/storepath"
)

// exportedFiles makes the files that tell the builder of its attributes and of
// the closures that it asked for.
func (d *Derivation) exportedFiles() ([]buildFile, error) {
	a := d.attempt
	if a.options.Structured {
		return d.structuredFiles()
	}
	var files []buildFile
	for _, g := range a.options.ExportGraphs {
		closure, err := d.graphClosure(g)
		if err != nil {
			return nil, err
		}
		text, err := d.eng.store.RegistrationText(closure, store.RegistrationFormat{})
		if err != nil {
			return nil, err
		}
		files = append(files, buildFile{Name: g.Name, Contents: text})
	}
	return files, nil
}

// graphClosure is the closure of a graph's paths, with the closures of the
// outputs of every derivation in it.
func (d *Derivation) graphClosure(g drv.Graph) ([]storepath.Path, error) {
	for _, p := range g.Paths {
		if _, ok := slices.BinarySearch(d.inputs, p); !ok {
			return nil, &BuildError{Drv: d.path, Status: InputRejected, Err: fmt.Errorf(
				"cannot export references of path '%s' because it is not in the input closure of the derivation", p)}
		}
	}
	closure, err := d.eng.closures.Of(g.Paths...)
	if err != nil {
		return nil, err
	}
	roots := slices.Clone(closure)
	for _, p := range closure {
		if !p.IsDerivation() {
			continue
		}
		outputs, err := d.eng.outputsOf(p)
		if err != nil {
			return nil, err
		}
		for _, o := range outputs {
			roots = append(roots, o.Path)
		}
	}
	return d.eng.closures.Of(roots...)
}

func (d *Derivation) structuredFiles() ([]buildFile, error) {
	a := d.attempt
	for _, name := range a.options.Ignored {
		d.eng.message(activity.Warn, "'structuredAttrs' disables the effect of the top-level attribute '%s'; use 'outputChecks' instead", name)
	}
	outputs := map[string]string{}
	for _, o := range d.outline.Outputs {
		outputs[o.ID] = string(a.scratch.path(o.Path))
	}
	var graphs []drv.ExportedGraph
	for _, g := range a.options.ExportGraphs {
		members, err := d.graphMembers(g)
		if err != nil {
			return nil, err
		}
		graphs = append(graphs, drv.ExportedGraph{Name: g.Name, Members: members})
	}
	json, sh, err := drv.StructuredFiles(a.drv, outputs, graphs)
	if err != nil {
		return nil, err
	}
	return []buildFile{
		{Name: attrsJSONFile, Contents: json, Told: true},
		{Name: attrsShFile, Contents: sh, Told: true},
	}, nil
}

func (d *Derivation) graphMembers(g drv.Graph) ([]drv.ClosureMember, error) {
	closure, err := d.graphClosure(g)
	if err != nil {
		return nil, err
	}
	sizes := map[storepath.Path]uint64{}
	members := make([]drv.ClosureMember, len(closure))
	for i, p := range closure {
		info, err := d.eng.store.Info(p)
		if err != nil {
			return nil, err
		}
		sizes[p] = info.NarSize
		members[i] = drv.ClosureMember{
			Path: p, NarHash: info.NarHash.String(), NarSize: info.NarSize,
			References: info.References, CA: info.CA.String(), Valid: true,
		}
	}
	for i := range members {
		own, err := d.eng.closures.Of(members[i].Path)
		if err != nil {
			return nil, err
		}
		for _, p := range own {
			members[i].ClosureSize += sizes[p]
		}
	}
	return members, nil
}
