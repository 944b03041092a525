package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/drv"
	"gobuild/internal/store/pathlock"
	"gobuild/internal/store/storepath"
)

// Config says where a store is and how it is used. Only Dir and StateDir must
// be set.
type Config struct {
	Dir      storepath.Dir
	RealDir  string // where Dir's files really are; "" means at Dir
	StateDir string
	LogDir   string // "" makes LogPath useless, nothing else

	ReadOnly       bool     // neither write nor create anything
	FsyncMetadata  bool     // transactions survive a loss of power
	WAL            bool     // write-ahead log; off for file systems without shared memory
	ReservedSpace  int64    // bytes kept for a garbage collection on a full disk
	AllowSymlinked bool     // the store directory may be reached by symlinks
	KeepXattrs     []string // extended attributes that added files may keep
	AutoOptimise   bool     // link equal files of what is added
	BuildGroup     int      // when root: gid that may create paths in the store; 0 for none

	// HeldLocks are the paths that a parent process has locked for us.
	HeldLocks []storepath.Path

	// Busy is how long SQLite itself waits for another process before the
	// operation is started again; 0 means an hour.
	Busy time.Duration

	// Warn gets lines for the user; Now and Sleep are the clock. Nil means
	// nobody listens, and the real clock.
	Warn  func(string)
	Now   func() time.Time
	Sleep func(time.Duration)
}

// A Store is an open store. It is used by one goroutine.
type Store struct {
	cfg     Config
	dir     storepath.Dir
	realDir string

	db      *conn
	own     *conn // this program's own tables; nil until needed
	tuned   bool  // settings that only matter to writers are made
	bigLock int   // descriptor, locked for as long as the store is open; -1 for none

	roots  *TempRoots // of the process; nil until needed
	tidied bool       // what dead owners of temporary directories left was removed
	gcLock int        // descriptor; -1 until needed

	good       map[storepath.Path]bool // results of contents checks
	buf        []byte                  // for reading derivations
	hasher     *drv.Hasher             // nil until a derivation is registered
	lastWarned time.Time
}

// Open opens the store and makes what is missing of it.
func Open(cfg Config) (*Store, error) {
	cfg.setDefaults()
	s := &Store{cfg: cfg, dir: cfg.Dir, realDir: cfg.RealDir, bigLock: -1, gcLock: -1}
	if err := s.open(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (c *Config) setDefaults() {
	if c.RealDir == "" {
		c.RealDir = string(c.Dir)
	}
	if c.Busy == 0 {
		c.Busy = time.Hour
	}
	if c.Warn == nil {
		c.Warn = func(string) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Sleep == nil {
		c.Sleep = time.Sleep
	}
}

func (s *Store) open() error {
	if !s.cfg.ReadOnly {
		if err := s.makeLayout(); err != nil {
			return err
		}
	}
	if err := s.takeBigLock(); err != nil {
		return err
	}
	version, err := s.schemaVersion()
	if err != nil {
		return err
	}
	if !s.cfg.AllowSymlinked {
		if err := refuseSymlinks(s.realDir); err != nil {
			return err
		}
	}
	if version != schemaVersion && !s.cfg.ReadOnly {
		if err := s.upgrade(); err != nil {
			return err
		}
	}
	if err := s.connect(); err != nil {
		return err
	}
	return s.checkOwner()
}

// connect opens the database, unless creating or upgrading it did so.
func (s *Store) connect() error {
	if s.db != nil {
		return nil
	}
	a := existing
	if s.cfg.ReadOnly {
		a = readOnly
	}
	return s.connectWith(a)
}

func (s *Store) connectWith(a access) error {
	if !s.cfg.WAL && a == existing {
		if err := s.retry(s.leaveWAL); err != nil {
			return err
		}
	}
	return s.retry(func() (err error) {
		if s.db == nil {
			if s.db, err = openConn(s.dbFile(), s.connOptions(a)); err != nil {
				return err
			}
		}
		if a == readOnly {
			return nil
		}
		return errors.Join(s.setJournal(), s.db.keepWAL())
	})
}

// leaveWAL ends write-ahead logging with the locks that it needs; those of the
// other journal mode cannot open such a database at all.
func (s *Store) leaveWAL() error {
	if wal, err := hasWAL(s.dbFile()); err != nil || !wal {
		return err
	}
	o := s.connOptions(existing)
	o.dotfileLock = false
	c, err := openConn(s.dbFile(), o)
	if err != nil {
		return err
	}
	return errors.Join(c.run("journal-truncate"), c.Close())
}

// walVersion is where a database's header says how it is read; 2 is with a log.
const walVersion = 19

func hasWAL(file string) (bool, error) {
	f, err := os.Open(file)
	if err != nil {
		return false, fmt.Errorf("opening the database: %w", err)
	}
	defer f.Close()
	var b [1]byte
	n, _ := f.ReadAt(b[:], walVersion) // too short: no database yet
	return n == 1 && b[0] == 2, nil
}

func (s *Store) connOptions(a access) connOptions {
	return connOptions{access: a, sync: s.cfg.FsyncMetadata, dotfileLock: !s.cfg.WAL, busy: s.cfg.Busy}
}

// setJournal asks before it sets: setting needs the database for itself.
func (s *Store) setJournal() error {
	mode, set := "wal", query("journal-wal")
	if !s.cfg.WAL {
		mode, set = "truncate", "journal-truncate"
	}
	now, _, err := s.db.text("journal-mode")
	if err != nil || now == mode {
		return err
	}
	now, _, err = s.db.text(set)
	if err == nil && now != mode {
		err = fmt.Errorf("the database '%s' cannot be switched to journal mode '%s'", s.dbFile(), mode)
	}
	return err
}

// checkOwner refuses the database of another store: with the wrong directory,
// no path in it would be found, and all of the store would look like garbage.
func (s *Store) checkOwner() error {
	return s.retry(func() error {
		path, found, err := s.db.text("any-path")
		if err != nil || !found {
			return err
		}
		if dir := filepath.Dir(path); dir != string(s.dir) {
			return fmt.Errorf("the database '%s' belongs to the store directory '%s', not to '%s'", s.dbFile(), dir, s.dir)
		}
		return nil
	})
}

// Close gives back temporary roots, locks and the database.
func (s *Store) Close() error {
	var err error
	if s.roots != nil {
		err = s.roots.Close()
		s.roots = nil
	}
	for _, c := range []**conn{&s.db, &s.own} {
		if *c != nil {
			err = errors.Join(err, (*c).Close())
			*c = nil
		}
	}
	for _, fd := range []*int{&s.gcLock, &s.bigLock} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
	return err
}

// Dir is the logical store directory, as it stands in paths.
func (s *Store) Dir() storepath.Dir { return s.dir }

// RealDir is the directory that holds the store's files.
func (s *Store) RealDir() string { return s.realDir }

// StateDir is the directory of the database, roots and profiles.
func (s *Store) StateDir() string { return s.cfg.StateDir }

// ReadOnly tells whether every change will be refused.
func (s *Store) ReadOnly() bool { return s.cfg.ReadOnly }

// RealPath is where p's files are.
func (s *Store) RealPath(p storepath.Path) string { return s.realDir + "/" + p.Base() }

func (s *Store) dbFile() string            { return s.cfg.StateDir + "/db/db.sqlite" }
func (s *Store) state(names string) string { return s.cfg.StateDir + "/" + names }

// refuseSymlinks checks dir and every directory above it: a symlink there
// could be turned elsewhere, and paths would lead out of the store.
func refuseSymlinks(dir string) error {
	for p := dir; p != "/"; p = p[:max(1, strings.LastIndexByte(p, '/'))] {
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return &os.PathError{Op: "getting status of", Path: p, Err: err}
		}
		if st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return fmt.Errorf("the path '%s' is a symlink; this is not allowed for the Nix store and its parent directories", p)
		}
	}
	return nil
}

// takeBigLock shares the lock that whoever changes the database's schema takes
// for itself.
func (s *Store) takeBigLock() error {
	name := s.state("db/big-lock")
	flags := unix.O_RDWR | unix.O_CREAT
	if s.cfg.ReadOnly {
		flags = unix.O_RDONLY
	}
	fd, err := unix.Open(name, flags|unix.O_CLOEXEC, 0o600)
	if err != nil {
		if s.cfg.ReadOnly {
			return nil // not ours to lock, perhaps on a medium that nobody writes
		}
		return s.unwritable("opening lock file", name, err)
	}
	s.bigLock = fd
	return s.lockBig(pathlock.Shared)
}

func (s *Store) lockBig(kind pathlock.Kind) error {
	ok, err := pathlock.LockFD(s.bigLock, kind, pathlock.Try)
	if err == nil && !ok {
		s.cfg.Warn("waiting for the big Nix store lock...")
		_, err = pathlock.LockFD(s.bigLock, kind, pathlock.Block)
	}
	if err != nil {
		return fmt.Errorf("locking '%s': %w", s.state("db/big-lock"), err)
	}
	return nil
}

// unwritable marks errors of those who have no right to change the store.
func (s *Store) unwritable(doing, name string, err error) error {
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EROFS) || errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: %s '%s': %w", ErrReadOnly, doing, name, err)
	}
	return fmt.Errorf("%s '%s': %w", doing, name, err)
}
