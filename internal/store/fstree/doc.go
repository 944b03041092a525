// Package fstree walks, measures, moves and deletes trees that hostile
// programs have made: relative to directory descriptors, never through a
// symbolic link, without recursion and with a bounded number of open files,
// however deep the tree is. Nothing here is safe for concurrent use.
package fstree

import "fmt"

// A TreeError means that the tree itself is at fault, not the machine.
type TreeError struct {
	Path    string // as the walk names it, which need not be the real path
	Problem string // follows the quoted path
}

func (e *TreeError) Error() string { return fmt.Sprintf("file '%s' %s", e.Path, e.Problem) }

// UnsupportedType is the error for a socket, pipe or device.
func UnsupportedType(path string) *TreeError {
	return &TreeError{Path: path, Problem: "has an unsupported type"}
}
