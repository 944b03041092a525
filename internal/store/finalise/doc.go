// Package finalise does what happens to a derivation's outputs between the
// builder's end and their registration: it checks them, makes their metadata
// canonical, hashes and scans them in one reading, links their files with
// equal ones of the store if that is wanted, and moves them into place
// (nar spec, sections 6 to 9). It knows no database; it runs in a child
// process or, for small outputs, in the caller.
package finalise

import (
	"errors"
	"fmt"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/fstree"
	"gobuild/internal/store/optimise"
)

// A Request is the outputs of one derivation. They share what is known of hard
// links, so they must be finalised together.
type Request struct {
	Derivation string // store path, for messages
	Outputs    []Output
	// Candidates are the hash parts to look for in what will be stored, that
	// is, after rewriting.
	Candidates []string
	// Owner is the builder's own range of user ids. Then everything in the
	// outputs must belong to it.
	Owner *UIDRange
	// KeepXattrs are the extended attributes that are not removed.
	KeepXattrs []string
	// Links is the directory in which equal files of the store meet; "" does
	// not link them.
	Links string
	// Verify believes no name in Links: see optimise.Options.
	Verify bool
	// Fsync makes sure that everything is on the disk before Run returns.
	Fsync bool
}

// UIDRange is a range of user ids, both ends included.
type UIDRange struct{ First, Last uint32 }

// An Output is a tree that the builder has made.
type Output struct {
	ID   string // the output's name
	Name string // its store path, for messages
	Path string // where it really is
	// Dest is where it shall really be, on the same file system; "" leaves it
	// where it is. What is there already must be gone before Run.
	Dest string
	// Flat demands a regular file that is not executable.
	Flat bool
	// Extra is a second hash to compute: of the file's contents if Flat, of
	// the archive otherwise.
	Extra digest.Algorithm
	// SelfHash makes Extra a hash modulo this hash part.
	SelfHash string
	// Rewrites are hash parts to replace in the archive.
	Rewrites map[string]string
	// FreshCopy makes the output anew, so that nobody holds it open: the
	// contents that count are those of the copy. It needs Dest, and the copy
	// is made in a directory of its own beside it. So do Rewrites.
	FreshCopy bool
}

func (o *Output) copies() bool { return o.FreshCopy || len(o.Rewrites) > 0 }

// A Result has one entry for each output of the request, in its order.
type Result struct {
	Outputs  []OutputResult
	Linked   optimise.Stats // with Links: what that saved
	Warnings []string       `json:",omitempty"`
}

// An OutputResult is what registration needs to know of an output.
type OutputResult struct {
	ID         string
	Path       string        // where it really is now
	NarHash    digest.Digest // SHA-256 of the archive
	NarSize    int64         // of the archive, in bytes
	References []string      // the candidates found, sorted
	Extra      digest.Digest // if it was asked for
}

// An OutputError means that the builder has made an output that cannot be
// taken; any other error means trouble with the machine.
type OutputError struct {
	Output string // its ID
	Err    error
}

func (e *OutputError) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong.
func (e *OutputError) Unwrap() error { return e.Err }

// blame makes errors that come from the tree itself the output's.
func (o *Output) blame(err error) error {
	var tree *fstree.TreeError
	if errors.As(err, &tree) {
		return &OutputError{Output: o.ID, Err: err}
	}
	return err
}

func (o *Output) reject(format string, args ...any) error {
	return &OutputError{Output: o.ID, Err: fmt.Errorf(format, args...)}
}

func (o *Output) suspicious() error {
	return o.reject("suspicious ownership or permission on '%s' for output '%s'; rejecting this build output", o.Name, o.ID)
}

// Small tells whether a tree has at most that many files, directories and
// links, and that many bytes, so that finalising it takes no longer than an
// event loop can bear. It costs little, whatever the tree.
func Small(path string, maxFiles int, maxBytes int64) bool {
	return fstree.Within(path, maxFiles, maxBytes)
}

// MoveTree renames a tree, making a read-only directory writable meanwhile if
// the caller has no privileges.
func MoveTree(src, dst string) error { return fstree.Move(src, dst) }
