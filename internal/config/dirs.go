package config

import (
	"fmt"
	"os"
	"path"
	"strings"

	"gobuild/internal/store/storepath"
)

// Environ is the environment for the programs that the user has chosen.
func Environ() []string { return os.Environ() }

// Dirs is where things are on disk. All paths are absolute and clean.
type Dirs struct {
	Store     storepath.Dir // the logical store directory, part of every path
	RealStore string        // where its files are
	State     string
	Log       string
	Conf      string
	// Guessed says that nothing but a path argument names the store, which is
	// not the usual one: a mistyped path could do so, too.
	Guessed bool
}

// DirFlags is what a command line says about directories; empty fields say
// nothing.
type DirFlags struct {
	StoreDir string // --store-dir
	StateDir string
	LogDir   string
	ConfDir  string
	Root     string // --root: a directory that holds a whole system
	Argument string // a path argument, which may lie in a store of its own
}

// usualStore is the store directory unless somebody names another.
const usualStore = "/nix/store"

// ResolveDirs decides on the directories. For each, a flag counts more than
// the environment, and that more than the default. A store directory given by
// a flag or an argument brings its own defaults, var/nix and var/log/nix
// beside it, so that separate stores have separate databases. With a root,
// all but explicit flags and the configuration lie below it.
func ResolveDirs(env func(string) string, f DirFlags) (Dirs, error) {
	named := firstOf(f.StoreDir, env("NIX_STORE_DIR"), env("NIX_STORE"))
	own := f.StoreDir != ""
	if named == "" {
		named = storeOf(f.Argument)
		own = named != ""
	}
	store, err := storepath.ParseDir(firstOf(named, usualStore))
	if err != nil {
		return Dirs{}, err
	}
	varDir := "/nix/var"
	if own {
		varDir = path.Join(path.Dir(string(store)), "var")
	}
	d := Dirs{Store: store, Guessed: own && f.StoreDir == "" && store != usualStore}
	r := dirResolver{env: env, root: "/"}
	if f.Root != "" {
		r.take("root", f.Root, &r.root)
	}
	d.RealStore = path.Join(r.root, string(store))
	r.pick("state", f.StateDir, "NIX_STATE_DIR", varDir+"/nix", &d.State)
	r.pick("log", f.LogDir, "NIX_LOG_DIR", varDir+"/log/nix", &d.Log)
	r.root = "/" // a system's configuration belongs to who runs the command
	r.pick("configuration", f.ConfDir, "NIX_CONF_DIR", "/etc/nix", &d.Conf)
	return d, r.err
}

// CacheDir is where a user's programs keep what they could make again; "" if
// that is nowhere.
func CacheDir(env func(string) string, root bool) string {
	base, home := env("XDG_CACHE_HOME"), env("HOME")
	switch {
	case strings.HasPrefix(base, "/"):
	case root:
		base = "/var/cache"
	case strings.HasPrefix(home, "/"):
		base = path.Join(home, ".cache")
	default:
		return ""
	}
	return path.Join(base, "gobuild")
}

// A dirResolver keeps the first error.
type dirResolver struct {
	env  func(string) string
	root string
	err  error
}

func (r *dirResolver) pick(what, flag, variable, initial string, out *string) {
	if flag != "" {
		r.take(what, flag, out)
		return
	}
	r.take(what, firstOf(r.env(variable), initial), out)
	*out = path.Join(r.root, *out)
}

func (r *dirResolver) take(what, dir string, out *string) {
	if !strings.HasPrefix(dir, "/") && r.err == nil {
		r.err = fmt.Errorf("%s directory '%s' is not an absolute path", what, dir)
	}
	*out = path.Clean(dir)
}

// storeOf finds the store directory in a path such as
// "/some/where/<hash>-<name>.drv!out"; "" if there
// is none. The outermost wins: an object may contain another store.
func storeOf(arg string) string {
	if i := strings.IndexAny(arg, "!^"); i >= 0 {
		arg = arg[:i]
	}
	if !strings.HasPrefix(arg, "/") {
		return ""
	}
	dir := "/"
	for _, name := range strings.Split(path.Clean(arg)[1:], "/") {
		if storepath.CheckBase(name) == nil {
			return dir
		}
		dir = path.Join(dir, name)
	}
	return ""
}
