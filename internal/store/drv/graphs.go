package drv

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"gobuild/internal/store/storepath"
)

// A Graph is an entry of exportReferencesGraph: what is to be told about the
// closure of some paths.
type Graph struct {
	Name  string // of a file, or of a structured attribute
	Paths []storepath.Path
}

const attrGraph = "exportReferencesGraph"

func (a attrs) graphs(dir storepath.Dir) ([]Graph, error) {
	if a.structured() {
		return structuredGraphs(dir, a.object)
	}
	text, _ := a.drv.LookupEnv(attrGraph)
	tokens := Tokens(text)
	if len(tokens)%2 != 0 {
		return nil, fmt.Errorf("odd number of tokens in '%s': '%s'", attrGraph, text)
	}
	var graphs []Graph
	for pair := range slices.Chunk(tokens, 2) {
		if !isGraphFile(pair[0]) {
			return nil, &FileNameError{pair[0]}
		}
		p, err := graphPath(dir, pair[1])
		if err != nil {
			return nil, err
		}
		graphs = append(graphs, Graph{pair[0], []storepath.Path{p}})
	}
	return graphs, nil
}

// graphPath is the store path that a path given for a graph is or lies in.
func graphPath(dir storepath.Dir, s string) (storepath.Path, error) {
	p, _, err := dir.Split(s)
	if errors.Is(err, storepath.ErrNotInStore) {
		return "", fmt.Errorf("'%s' contains a non-store path '%s'", attrGraph, s)
	}
	return p, err
}

func isGraphFile(name string) bool {
	rest := strings.TrimLeft(name, ".-")
	return len(rest) == len(name) && isShellName(strings.NewReplacer(".", "_", "-", "_").Replace(name))
}

func structuredGraphs(dir storepath.Dir, object map[string]any) ([]Graph, error) {
	entries, err := objectIn(object, attrGraph)
	if err != nil {
		return nil, err
	}
	var graphs []Graph
	for _, name := range sortedKeys(entries) {
		g := Graph{Name: name}
		if g.Paths, err = nestedPaths(dir, nil, entries[name]); err != nil {
			return nil, err
		}
		graphs = append(graphs, g)
	}
	return graphs, nil
}

// nestedPaths collects the strings of nested lists, whose depth the decoder has
// bounded.
func nestedPaths(dir storepath.Dir, list []storepath.Path, v any) ([]storepath.Path, error) {
	switch v := v.(type) {
	case string:
		p, err := graphPath(dir, v)
		return append(list, p), err
	case []any:
		var err error
		for _, item := range v {
			if list, err = nestedPaths(dir, list, item); err != nil {
				return nil, err
			}
		}
		return list, nil
	}
	return nil, fmt.Errorf("'%s' value is neither a string nor a list of strings", attrGraph)
}

// A FileNameError says that a graph was to be written to a file with an odd
// name. Unlike other faults of the attribute it has never counted as the
// failure of a build.
type FileNameError struct{ Name string }

func (e *FileNameError) Error() string {
	return fmt.Sprintf("invalid file name '%s' in '%s'", e.Name, attrGraph)
}
