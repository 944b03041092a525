package nixtest

import (
	"os"
	"path/filepath"
	"testing"
)

// A Mode is a way to run builders.
type Mode int

const (
	// Sandbox builds in a sandbox, into a store below a root directory; its logical place is /nix/store.
	Sandbox Mode = iota
	// Users is Sandbox with the build users of the group nixbld.
	Users
	// Plain builds without a sandbox. The store's logical place is its real one, so all such stores of a Lab share one place.
	Plain
)

func (m Mode) String() string {
	return [...]string{"sandbox", "users", "plain"}[m]
}

// A Store is a store on disk.
type Store struct {
	Mode Mode
	Root string // what holds nix/store and nix/var
	Conf string // directory of nix.conf
	Tmp  string // TMPDIR of the engine: emptied with the store, and expected to be empty after each run
}

// Dir is the store directory on disk.
func (s *Store) Dir() string { return filepath.Join(s.Root, "nix/store") }

// StateDir is the directory of the database, locks and roots.
func (s *Store) StateDir() string { return filepath.Join(s.Root, "nix/var/nix") }

// LogDir is the directory of the build logs.
func (s *Store) LogDir() string { return filepath.Join(s.Root, "nix/var/log/nix") }

// LogicalDir is the store directory as it appears in store paths.
func (s *Store) LogicalDir() string {
	if s.Mode == Plain {
		return s.Dir()
	}
	return "/nix/store"
}

// Real turns a store path into its place on disk.
func (s *Store) Real(path string) string {
	return filepath.Join(s.Dir(), filepath.Base(path))
}

// storeArgs are the arguments by which Nix finds the store; Plain uses the environment instead.
func (s *Store) storeArgs() []string {
	if s.Mode == Plain {
		return nil
	}
	return []string{"--store", s.Root}
}

// env is the whole environment of an engine working on the store.
func (s *Store) env(extra []string) []string {
	env := []string{
		"HOME=" + filepath.Dir(s.Conf),
		"PATH=" + os.Getenv("PATH"),
		"TMPDIR=" + s.Tmp,
		"NIX_CONF_DIR=" + s.Conf,
		"NIX_USER_CONF_FILES=",
		"LC_ALL=C.UTF-8",
	}
	if s.Mode == Plain {
		env = append(env, "NIX_REMOTE=local", "NIX_STORE_DIR="+s.Dir(), "NIX_STATE_DIR="+s.StateDir(), "NIX_LOG_DIR="+s.LogDir())
	}
	return append(env, extra...)
}

// RemoveAll deletes a tree whose directories may be read-only.
func RemoveAll(t testing.TB, dir string) {
	t.Helper()
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			if info, e := d.Info(); e == nil && info.Mode().Perm()&0o700 != 0o700 {
				return os.Chmod(path, 0o700)
			}
		}
		return nil
	})
	if err := os.RemoveAll(dir); err != nil {
		t.Errorf("removing '%s': %v", dir, err)
	}
}
