package store

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/pathlock"
	"gobuild/internal/store/storepath"
)

// TempRoots keeps paths from the garbage collector for as long as it is open.
// The paths stand in a file whose lock tells collectors that the owner lives
// (database spec, section 6).
type TempRoots struct {
	store *Store
	file  *pathlock.File
	known map[storepath.Path]bool
	buf   []byte
}

// AddTempRoots keeps paths, valid or not, until the store is closed. It must
// be called before their validity is relied on.
func (s *Store) AddTempRoots(paths ...storepath.Path) error {
	if s.cfg.ReadOnly {
		return nil // a collector could not be kept off, and cannot run either
	}
	if s.roots == nil {
		roots, err := s.NewTempRoots(strconv.Itoa(os.Getpid()))
		if err != nil {
			return err
		}
		s.roots = roots
	}
	return s.roots.Add(paths...)
}

// NewTempRoots opens another set of roots, for a part of the process's work.
// name is the process id, perhaps with "-" and more: other collectors stop at
// a name that does not start with digits. If the name is in use, a number is
// appended.
func (s *Store) NewTempRoots(name string) (*TempRoots, error) {
	if s.cfg.ReadOnly {
		return nil, ErrReadOnly
	}
	if name == "" || name[0] < '0' || name[0] > '9' {
		return nil, fmt.Errorf("temporary roots '%s' must have a name that starts with a process id", name)
	}
	for n := 1; ; n++ {
		path := s.state("temproots/" + name)
		if n > 1 {
			path += "-" + strconv.Itoa(n)
		}
		f, err := s.claimRootsFile(path)
		if err != nil {
			return nil, s.unwritable("creating temporary roots", path, err)
		}
		if f != nil {
			return &TempRoots{store: s, file: f, known: map[storepath.Path]bool{}}, nil
		}
	}
}

// claimRootsFile makes and locks a new file; nil means that a living owner has
// one of that name. A dead owner's is removed first: its roots are nobody's.
func (s *Store) claimRootsFile(path string) (*pathlock.File, error) {
	for {
		f, ok, err := pathlock.LockFile(path, pathlock.Exclusive, pathlock.Try)
		if err != nil || !ok {
			return nil, err
		}
		var st unix.Stat_t
		if err := unix.Fstat(f.FD(), &st); err != nil {
			f.Close()
			return nil, err
		}
		// Without a link, a collector took it for a dead owner's just before
		// we had it locked.
		if st.Size == 0 && st.Nlink == 1 {
			return f, nil
		}
		f.Remove()
	}
}

// Add keeps more paths. Those that are kept already cost nothing.
func (t *TempRoots) Add(paths ...storepath.Path) error {
	t.buf = t.buf[:0]
	fresh := paths[:0:0]
	for _, p := range paths {
		if !t.known[p] {
			t.known[p] = true
			fresh = append(fresh, p)
			t.buf = append(append(t.buf, p...), 0)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	err := t.publish(fresh)
	if err != nil {
		for _, p := range fresh {
			delete(t.known, p)
		}
	}
	return err
}

// publish appends buf while no collection runs, or tells the running one.
func (t *TempRoots) publish(fresh []storepath.Path) error {
	for {
		free, err := t.store.shareGCLock()
		if err != nil {
			return err
		}
		if free {
			err := t.append()
			pathlock.UnlockFD(t.store.gcLock)
			return err
		}
		switch err := t.store.tellCollector(fresh); {
		case err == nil:
			return t.append()
		case !errors.Is(err, errCollectorGone):
			return err
		}
		t.store.cfg.Sleep(retryPause) // it is just starting, or just ending
	}
}

func (t *TempRoots) append() error {
	for rest := t.buf; len(rest) > 0; {
		n, err := unix.Write(t.file.FD(), rest)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("writing temporary roots to '%s': %w", t.file.Name(), err)
		}
		rest = rest[max(n, 0):]
	}
	return nil
}

// Close gives the paths up and removes the file.
func (t *TempRoots) Close() error {
	t.file.Remove()
	return nil
}

// shareGCLock takes the global lock for a moment; false means that a
// collection has it.
func (s *Store) shareGCLock() (bool, error) {
	if s.gcLock < 0 {
		name := s.state("gc.lock")
		fd, err := unix.Open(name, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return false, s.unwritable("opening lock file", name, err)
		}
		s.gcLock = fd
	}
	ok, err := pathlock.LockFD(s.gcLock, pathlock.Shared, pathlock.Try)
	if err != nil {
		return false, fmt.Errorf("locking '%s': %w", s.state("gc.lock"), err)
	}
	return ok, nil
}
