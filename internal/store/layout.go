package store

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// stateDirs are made in this order (database spec, section 1).
var stateDirs = []string{"", "db", "temproots", "profiles", "profiles/per-user", "gcroots/auto", "gcroots/per-user"}

// makeLayout makes the directories that are missing. What exists is left as it
// is, and costs one system call.
func (s *Store) makeLayout() error {
	if err := s.makeStoreDir(); err != nil {
		return err
	}
	for _, name := range stateDirs {
		if name == "gcroots/auto" {
			if err := s.makeRootsDir(); err != nil {
				return err
			}
		}
		if err := s.makeDir(strings.TrimSuffix(s.state(name), "/")); err != nil {
			return err
		}
	}
	s.reserveSpace()
	return nil
}

func (s *Store) makeStoreDir() error {
	if err := s.refuseForeignDir(); err != nil {
		return err
	}
	if err := s.makeDir(s.realDir); err != nil {
		return err
	}
	if err := s.makeDir(s.linksDir()); err != nil {
		return err
	}
	if s.cfg.BuildGroup == 0 || os.Geteuid() != 0 {
		return nil
	}
	const mode = unix.S_ISVTX | 0o775
	var st unix.Stat_t
	err := unix.Stat(s.realDir, &st)
	if err == nil && int(st.Gid) != s.cfg.BuildGroup {
		err = unix.Chown(s.realDir, 0, s.cfg.BuildGroup)
	}
	if err == nil && st.Mode&0o7777 != mode {
		err = unix.Chmod(s.realDir, mode)
	}
	if err != nil {
		return fmt.Errorf("giving the store '%s' to the build group: %w", s.realDir, err)
	}
	return nil
}

// refuseForeignDir keeps off directories that are something else: one that has
// never been a store must be empty to become one.
func (s *Store) refuseForeignDir() error {
	if s.hasBeenStore() {
		return nil
	}
	entries, err := os.ReadDir(s.realDir)
	if len(entries) == 0 || errors.Is(err, os.ErrNotExist) {
		return nil // what else is wrong shows when it is used
	}
	// Another process may have made this very store meanwhile.
	if s.hasBeenStore() {
		return nil
	}
	return fmt.Errorf("the directory '%s' is not a store, and cannot become one because it is not empty", s.realDir)
}

// hasBeenStore looks for what is made before anything else in a store.
func (s *Store) hasBeenStore() bool {
	return exists(s.linksDir()) || exists(s.state("db/schema"))
}

// linksDir is where equal files of the store meet.
func (s *Store) linksDir() string { return s.realDir + "/.links" }

// Links is the directory with which files that come to the store are to be
// linked, "" if they are not to be linked.
func (s *Store) Links() string {
	if !s.cfg.AutoOptimise {
		return ""
	}
	return s.linksDir()
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// makeRootsDir links the profiles only into a directory that it makes itself:
// who removed the link meant it.
func (s *Store) makeRootsDir() error {
	roots := s.state("gcroots")
	switch err := unix.Mkdir(roots, 0o755); {
	case errors.Is(err, unix.EEXIST):
		return nil
	case err != nil:
		return s.unwritable("creating directory", roots, err)
	}
	link := roots + "/profiles"
	if err := unix.Symlink(s.state("profiles"), link); err != nil && !errors.Is(err, unix.EEXIST) {
		return s.unwritable("creating symlink", link, err)
	}
	return nil
}

func (s *Store) makeDir(dir string) error {
	err := unix.Mkdir(dir, 0o755)
	if errors.Is(err, unix.ENOENT) {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		var pe *os.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return s.unwritable("creating directory", dir, err)
	}
	return nil
}

// reserveSpace keeps room on the disk that a garbage collection can free to
// work in. A store without it works too, so errors are ignored.
func (s *Store) reserveSpace() {
	name := s.state("db/reserved")
	var st unix.Stat_t
	err := unix.Stat(name, &st)
	if err == nil && st.Size == s.cfg.ReservedSpace || err != nil && s.cfg.ReservedSpace == 0 {
		return
	}
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if unix.Ftruncate(fd, s.cfg.ReservedSpace) == nil && s.cfg.ReservedSpace > 0 {
		// a file with holes would reserve nothing
		if errors.Is(unix.Fallocate(fd, 0, 0, s.cfg.ReservedSpace), unix.EOPNOTSUPP) {
			_ = unix.Ftruncate(fd, 0)
		}
	}
}
