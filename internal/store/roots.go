package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/storepath"
)

// RootKind says how collectors find a root.
type RootKind uint8

// The kinds of roots (database spec, section 7).
const (
	Direct   RootKind = iota // the link lies below the state directory's gcroots
	Indirect                 // the link lies anywhere, and gcroots/auto points to it
)

// AddRoot makes link a symlink to p that keeps p from the garbage collector.
// An older link into the store is replaced. p must be a temporary root, for a
// collection may be running.
func (s *Store) AddRoot(link string, p storepath.Path, kind RootKind) error {
	if s.cfg.ReadOnly {
		return ErrReadOnly
	}
	link, err := filepath.Abs(link)
	if err != nil {
		return fmt.Errorf("creating garbage collector root '%s': %w", link, err)
	}
	if s.inStore(link) {
		return fmt.Errorf("creating a garbage collector root (%s) in the Nix store is forbidden (are you running nix-build inside the store?)", link)
	}
	roots := s.state("gcroots")
	if kind == Direct && !strings.HasPrefix(link, roots+"/") {
		return fmt.Errorf("path '%s' is not a valid garbage collector root; it's not in the directory '%s'", link, roots)
	}
	if kind == Indirect {
		target, err := os.Readlink(link)
		if _, e := os.Lstat(link); e == nil && (err != nil || !s.inStore(target)) {
			return fmt.Errorf("cannot create symlink '%s'; already exists", link)
		}
	}
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		return fmt.Errorf("creating directory: %w", err)
	}
	if err := replaceSymlink(string(p), link); err != nil || kind == Direct {
		return err
	}
	return s.AddIndirectRoot(link)
}

// AddIndirectRoot makes an existing link, an absolute path, known to garbage
// collectors.
func (s *Store) AddIndirectRoot(link string) error {
	name := digest.Of(digest.SHA1, []byte(link)).Nix32()
	return replaceSymlink(link, s.state("gcroots/auto/"+name))
}

func (s *Store) inStore(path string) bool {
	return strings.HasPrefix(path, string(s.dir)+"/") || strings.HasPrefix(path, s.realDir+"/")
}

// replaceSymlink puts a link in place without a moment in which there is none.
func replaceSymlink(target, link string) error {
	for n := 0; ; n++ {
		tmp := fmt.Sprintf("%s.tmp-%d-%d", link, os.Getpid(), n)
		err := unix.Symlink(target, tmp)
		if errors.Is(err, unix.EEXIST) {
			continue // left by a process that died
		}
		if err == nil {
			if err = unix.Rename(tmp, link); err != nil {
				_ = unix.Unlink(tmp)
			}
		}
		if err != nil {
			return fmt.Errorf("creating symlink '%s' to '%s': %w", link, target, err)
		}
		return nil
	}
}
