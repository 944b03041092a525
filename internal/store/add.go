package store

import (
	"bytes"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/drv"
	"gobuild/internal/store/finalise"
	"gobuild/internal/store/fstree"
	"gobuild/internal/store/nar"
	"gobuild/internal/store/optimise"
	"gobuild/internal/store/pathlock"
	"gobuild/internal/store/storepath"
)

// An Addition says how something gets its path from its contents.
type Addition struct {
	Name       string
	Method     storepath.Method // Flat, NAR or Text
	Algorithm  digest.Algorithm
	References []storepath.Path // valid paths, in any order
}

// AddText adds a file of its own contents.
func (s *Store) AddText(name string, contents []byte, refs []storepath.Path) (storepath.Path, error) {
	a := Addition{Name: name, Method: storepath.Text, Algorithm: digest.SHA256, References: refs}
	return s.AddStream(a, bytes.NewReader(contents))
}

// AddDerivation adds a derivation's own file.
func (s *Store) AddDerivation(d *drv.Derivation) (storepath.Path, error) {
	return s.AddText(d.Name+storepath.DrvSuffix, d.Unparse(), d.References())
}

// AddTree adds the file or tree at source. It is read once, so it may change
// meanwhile; what was read is what gets added.
func (s *Store) AddTree(a Addition, source string) (storepath.Path, error) {
	in, err := openSource(a.Method, source)
	if err != nil {
		return "", err
	}
	defer in.Close()
	return s.AddStream(a, in)
}

// ComputePath tells the path that AddTree would add source at.
func (s *Store) ComputePath(a Addition, source string) (storepath.Path, error) {
	if err := a.check(); err != nil {
		return "", err
	}
	in, err := openSource(a.Method, source)
	if err != nil {
		return "", err
	}
	defer in.Close()
	sum := a.Algorithm.New()
	if _, err := io.Copy(sum, in); err != nil {
		return "", fmt.Errorf("reading '%s': %w", source, err)
	}
	return s.dir.Content(a.address(sum), a.Name, storepath.References{Others: a.References})
}

func (a *Addition) check() error {
	switch {
	case a.Method == storepath.Git:
		return fmt.Errorf("adding '%s': git hashing is not supported", a.Name)
	case a.Algorithm == digest.Unknown:
		return fmt.Errorf("adding '%s': no hash algorithm given", a.Name)
	}
	return storepath.CheckName(a.Name)
}

func (a *Addition) address(sum hash.Hash) storepath.ContentAddress {
	return storepath.ContentAddress{Method: a.Method, Digest: digest.FromHash(a.Algorithm, sum)}
}

// inMemory is how much of a stream is read before anything is written: for
// most, that is all of it, and one that is valid already costs no writing.
const inMemory = 8 << 20

// AddStream adds what r delivers up to its end: an archive if the method is
// NAR, else the contents of one file that is not executable.
func (s *Store) AddStream(a Addition, r io.Reader) (storepath.Path, error) {
	if s.cfg.ReadOnly {
		return "", ErrReadOnly
	}
	if err := a.check(); err != nil {
		return "", err
	}
	sum := a.Algorithm.New()
	in := io.TeeReader(r, sum)
	head, err := io.ReadAll(io.LimitReader(in, inMemory))
	if err != nil {
		return "", fmt.Errorf("reading '%s': %w", a.Name, err)
	}
	if len(head) < inMemory {
		p, err := s.dir.Content(a.address(sum), a.Name, storepath.References{Others: a.References})
		if err != nil {
			return "", err
		}
		if valid, err := s.rootedAndValid(p); valid || err != nil {
			return p, err
		}
	}
	return s.unpack(&a, io.MultiReader(bytes.NewReader(head), in), sum)
}

// rootedAndValid keeps p from the garbage collector before it asks, or the
// answer would be worth nothing.
func (s *Store) rootedAndValid(p storepath.Path) (bool, error) {
	if err := s.AddTempRoots(p); err != nil {
		return false, err
	}
	return s.IsValid(p)
}

// unpack writes what in delivers to a place of its own in the store, then
// registers it. sum has the hash when in is at its end.
func (s *Store) unpack(a *Addition, in io.Reader, sum hash.Hash) (storepath.Path, error) {
	tmp, err := s.NewTempDir()
	if err != nil {
		return "", err
	}
	defer tmp.Remove()
	tree := tmp.Path + "/x"
	if err := materialise(a.Method, in, tree); err != nil {
		return "", fmt.Errorf("adding '%s': %w", a.Name, err)
	}
	if err := finalise.Canonicalise(tree, finalise.Options{Name: a.Name, KeepXattrs: s.cfg.KeepXattrs}); err != nil {
		return "", err
	}
	info := Info{CA: a.address(sum), References: slices.Compact(slices.Sorted(slices.Values(a.References)))}
	if info.Path, err = s.dir.Content(info.CA, a.Name, storepath.References{Others: info.References}); err != nil {
		return "", err
	}
	hashed, err := finalise.HashAndLink(tree, optimise.Options{Links: s.Links(), Name: string(info.Path), Warn: s.cfg.Warn})
	if err != nil {
		return "", err
	}
	info.NarHash, info.NarSize = hashed.NarHash, uint64(hashed.NarSize)
	return info.Path, s.Adopt(info, tree)
}

// materialise makes the file or tree that in describes at dest, and insists
// that in ends there.
func materialise(m storepath.Method, in io.Reader, dest string) error {
	if m != storepath.NAR {
		f, err := os.OpenFile(dest, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, in)
		return errors.Join(err, f.Close())
	}
	if err := nar.Restore(in, dest); err != nil {
		return err
	}
	var extra [1]byte
	switch _, err := io.ReadFull(in, extra[:]); err {
	case io.EOF:
		return nil
	case nil:
		return errors.New("data after the end of the archive")
	default:
		return err
	}
}

// Adopt moves a complete, canonical tree from elsewhere on the store's file
// system to info.Path and registers it. If that is valid by then, the tree
// stays where it is: it is the caller's to remove. It waits for the path's
// lock, which the caller must not hold, unless Config.HeldLocks says so.
func (s *Store) Adopt(info Info, tree string) error {
	if valid, err := s.rootedAndValid(info.Path); valid || err != nil {
		return err
	}
	dest := s.RealPath(info.Path)
	lock := &pathlock.Lock{}
	if !s.HeldByParent(info.Path) {
		var err error
		if lock, _, err = pathlock.Acquire([]string{dest}, pathlock.Block); err != nil {
			return err
		}
	}
	fate := pathlock.Keep
	defer func() { lock.Release(fate) }()
	valid, err := s.IsValid(info.Path) // somebody may have been faster
	if err == nil && !valid {
		err = s.replace(dest, tree)
		if err == nil {
			if err = s.Register([]Info{info}); err != nil {
				s.retract(info.Path, dest)
			}
		}
	}
	if err == nil {
		fate = pathlock.Delete
	}
	return err
}

// retract removes what could not be registered. It may fail: what stays is
// garbage, which the next who wants the path removes.
func (s *Store) retract(p storepath.Path, dest string) {
	if valid, err := s.IsValid(p); err == nil && !valid {
		_, _ = fstree.RemoveAll(dest)
	}
}

// replace puts tree at dest, where garbage may lie.
func (s *Store) replace(dest, tree string) error {
	if _, err := fstree.RemoveAll(dest); err != nil {
		return fmt.Errorf("deleting invalid path '%s': %w", dest, err)
	}
	return fstree.Move(tree, dest)
}
