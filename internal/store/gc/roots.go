package gc

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"gobuild/internal/store"
	"gobuild/internal/store/storepath"
)

// A Root is a path that is kept, with everything it refers to.
type Root struct {
	Path storepath.Path
	// From is what keeps it: a symbolic link, a file of a process below /proc,
	// or "{temp:<process id>}".
	From string
}

// FindRoots returns what keeps paths of the store alive, sorted. A path is
// listed once for everything that keeps it. Temporary roots need not be valid.
func FindRoots(s *store.Store) ([]Root, error) {
	f := newFinder(s)
	defer f.release()
	if err := f.find(); err != nil {
		return nil, err
	}
	return f.sorted(), nil
}

// A finder collects roots.
type finder struct {
	store *store.Store
	// tidy removes what is left of roots that are no more. Only who holds the
	// garbage collector lock may do that.
	tidy   bool
	roots  map[Root]bool
	valid  *store.Validity
	byHash map[string]storepath.Path // valid paths, and "" for hash parts that none has
	frozen []*os.File                // temporary roots that cannot be added to while we lock them
}

func newFinder(s *store.Store) *finder {
	return &finder{store: s, roots: map[Root]bool{}, valid: s.NewValidity(), byHash: map[string]storepath.Path{}}
}

// find looks at temporary roots first: a process that ends while we look has
// by then made links to what it wanted to stay, and these are seen later.
func (f *finder) find() error {
	if err := f.temporary(); err != nil {
		return err
	}
	for _, dir := range []string{"gcroots", "profiles"} {
		if err := f.links(f.store.StateDir() + "/" + dir); err != nil {
			return err
		}
	}
	return f.runtime("/proc")
}

func (f *finder) sorted() []Root {
	roots := make([]Root, 0, len(f.roots))
	for r := range f.roots {
		roots = append(roots, r)
	}
	slices.SortFunc(roots, func(a, b Root) int {
		if c := strings.Compare(string(a.Path), string(b.Path)); c != 0 {
			return c
		}
		return strings.Compare(a.From, b.From)
	})
	return roots
}

// add keeps p if it is valid; a link to anything else keeps nothing.
func (f *finder) add(p storepath.Path, from string) error {
	valid, err := f.valid.IsValid(p)
	if err == nil && valid {
		f.roots[Root{p, from}] = true
	}
	return err
}

// links looks for roots at top and below. The tree may be as deep as somebody
// likes, and may change meanwhile: what cannot be reached keeps nothing.
func (f *finder) links(top string) error {
	todo := []string{top}
	for len(todo) > 0 {
		dir := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		entries, err := readDir(dir)
		if missing := errors.Is(err, unix.ENOENT); err != nil && !missing && (dir == top || !unreachable(err)) {
			return err
		}
		for _, e := range entries {
			name := dir + "/" + e.Name()
			if e.IsDir() {
				todo = append(todo, name)
			} else if err := f.entry(name, e.Type()); err != nil {
				return err
			}
		}
	}
	return nil
}

// readDir does not follow a link at dir, nor wait for a pipe.
func readDir(dir string) ([]os.DirEntry, error) {
	d, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.ReadDir(-1)
}

func (f *finder) entry(name string, kind os.FileMode) error {
	switch {
	case kind&os.ModeSymlink != 0:
		return f.link(name)
	case kind.IsRegular():
		// a file may be a root by its own name
		if p, err := f.store.Dir().FromBase(filepath.Base(name)); err == nil {
			return f.add(p, name)
		}
	}
	return nil
}

func (f *finder) link(name string) error {
	target, err := os.Readlink(name)
	if err != nil {
		return unlessUnreachable(err)
	}
	if p, ok := f.inStore(target); ok {
		return f.add(p, name)
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(name), target)
	}
	return f.indirect(name, target)
}

// indirect follows a link to a link, and no further.
func (f *finder) indirect(name, target string) error {
	st, err := os.Lstat(target)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		if f.tidy && filepath.Dir(name) == f.store.StateDir()+"/gcroots/auto" {
			_ = os.Remove(name) // whoever needed it removed its other half
		}
		return nil
	}
	if err != nil {
		return unlessUnreachable(err)
	}
	if st.Mode()&os.ModeSymlink == 0 {
		return nil
	}
	second, err := os.Readlink(target)
	if err != nil {
		return unlessUnreachable(err)
	}
	if p, ok := f.inStore(second); ok {
		return f.add(p, target)
	}
	return nil
}

// inStore finds the path that target is or lies in, also if target says where
// the store really is.
func (f *finder) inStore(target string) (storepath.Path, bool) {
	if !filepath.IsAbs(target) {
		return "", false
	}
	for _, dir := range f.dirs() {
		if p, _, err := dir.Split(target); err == nil {
			p, err = f.store.Dir().FromBase(p.Base())
			return p, err == nil
		}
	}
	return "", false
}

// dirs are the names that the store directory goes by.
func (f *finder) dirs() []storepath.Dir {
	dirs := []storepath.Dir{f.store.Dir()}
	if real := storepath.Dir(f.store.RealDir()); real != dirs[0] {
		dirs = append(dirs, real)
	}
	return dirs
}

func unlessUnreachable(err error) error {
	if unreachable(err) {
		return nil
	}
	return err
}

// unreachable is true of what has gone or is not ours to see. A name that is
// too long is somebody's attempt at hiding from us, or at stopping us.
func unreachable(err error) bool {
	for _, e := range []error{unix.ENOENT, unix.ENOTDIR, unix.EACCES, unix.EPERM, unix.ELOOP, unix.ENAMETOOLONG, unix.EINVAL} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
