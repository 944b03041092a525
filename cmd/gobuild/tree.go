package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"gobuild/internal/store/storepath"
)

func (a *app) treeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "tree PATH...", Short: "Print what PATHs refer to as a tree", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.withClosure(args, (*session).printTree) },
	}
}

func (a *app) graphCommand() *cobra.Command {
	return &cobra.Command{
		Use: "graph PATH...", Short: "Print what PATHs refer to as a graph for Graphviz", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.withClosure(args, (*session).printGraph) },
	}
}

// A references maps every path of a closure to what it refers to, sorted.
type references map[storepath.Path][]storepath.Path

func (a *app) withClosure(args []string, show func(*session, []storepath.Path, references) error) error {
	s, err := a.open(reading, args...)
	if err != nil {
		return err
	}
	defer s.close()
	roots, err := s.validPaths(args)
	if err != nil {
		return err
	}
	closure, err := s.store.Closure(roots...)
	if err != nil {
		return err
	}
	refs := make(references, len(closure))
	for _, p := range closure {
		if refs[p], err = s.store.References(p); err != nil {
			return err
		}
	}
	return show(s, roots, refs)
}

// A branch is a path on its way into the printed tree.
type branch struct {
	path   storepath.Path
	indent string // before the path's own mark
	mark   string
	below  string // what its children have instead of the mark
}

// printTree prints each path with what it refers to below it. What has been
// printed in full already is only named, with "[...]".
func (s *session) printTree(roots []storepath.Path, refs references) error {
	seen := map[storepath.Path]bool{}
	var stack []branch
	for _, r := range slices.Backward(roots) {
		stack = append(stack, branch{path: r})
	}
	for len(stack) > 0 {
		b := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		children := slices.DeleteFunc(slices.Clone(refs[b.path]), func(p storepath.Path) bool { return p == b.path })
		again := ""
		if seen[b.path] && len(children) > 0 {
			again, children = " [...]", nil
		}
		seen[b.path] = true
		if err := s.print(b.indent + b.mark + string(b.path) + again); err != nil {
			return err
		}
		for i, c := range slices.Backward(children) {
			next := branch{path: c, indent: b.indent + b.below, mark: "├───", below: "│   "}
			if i == len(children)-1 {
				next.mark, next.below = "└───", "    "
			}
			stack = append(stack, next)
		}
	}
	return nil
}

func (s *session) printGraph(_ []storepath.Path, refs references) error {
	var b strings.Builder
	b.WriteString("digraph G {\n")
	paths := make([]storepath.Path, 0, len(refs))
	for p := range refs {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	for _, p := range paths {
		fmt.Fprintf(&b, "  %q [label = %q];\n", p.Base(), p.Name())
		for _, r := range refs[p] {
			if r != p {
				fmt.Fprintf(&b, "  %q -> %q;\n", r.Base(), p.Base())
			}
		}
	}
	b.WriteString("}")
	return s.print(b.String())
}
