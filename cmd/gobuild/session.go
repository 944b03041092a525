package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"gobuild/internal/activity"
	"gobuild/internal/config"
	"gobuild/internal/netprogram"
	"gobuild/internal/sandbox"
	"gobuild/internal/store"
	"gobuild/internal/store/drv"
	"gobuild/internal/store/storepath"
)

// A session is an open store with the settings that apply to it.
type session struct {
	*app
	dirs     config.Dirs
	settings *config.Settings
	store    *store.Store
	network  netprogram.Program
}

// access says what a command does to the store.
type access bool

const (
	reading access = true
	writing access = false
)

// open loads the settings and opens the store. The first of paths may name a
// store directory of its own. The caller closes the session.
func (a *app) open(mode access, paths ...string) (*session, error) {
	s, err := a.configure(paths...)
	if err != nil {
		return nil, err
	}
	if len(paths) > 0 && !exists(s.dirs.State+"/db/schema") && (s.dirs.Guessed || mode == reading || !s.mayFetch()) {
		return nil, noStore(s.dirs) // what is asked for can be in no other store
	}
	if err := s.openStore(mode); err != nil {
		return nil, err
	}
	return s, nil
}

// openStore opens the store in the session's directories.
func (s *session) openStore(mode access) (err error) {
	cfg := store.Config{
		Dir: s.dirs.Store, RealDir: s.dirs.RealStore, StateDir: s.dirs.State, LogDir: s.dirs.Log,
		ReadOnly: bool(mode), FsyncMetadata: s.settings.FsyncMetadata, WAL: s.settings.UseSQLiteWAL,
		ReservedSpace: s.settings.GCReservedSpace, AllowSymlinked: s.settings.AllowSymlinkedStore,
		KeepXattrs: s.settings.IgnoredACLs, AutoOptimise: s.settings.AutoOptimiseStore, HeldLocks: parentLocks(s.env, s.dirs.Store),
		Warn: func(text string) { s.logger().Message(activity.Warn, text) },
	}
	if mode == writing {
		if cfg.BuildGroup, err = s.buildGroup(); err != nil {
			return err
		}
	}
	s.store, err = store.Open(cfg)
	switch {
	case mode == reading && errors.Is(err, os.ErrNotExist):
		return noStore(s.dirs)
	case errors.Is(err, store.ErrReadOnly) && os.Geteuid() != 0:
		return fmt.Errorf("%w (a store of your own is one flag away: --store-dir DIR or --root DIR)", err)
	}
	return err
}

// noStore is the error of paths whose store has never been used. A path alone
// does not make a store: any directory could be meant by mistake.
func noStore(d config.Dirs) error {
	return fmt.Errorf("there is no store at '%s' (no database in '%s')", d.RealStore, d.State)
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// parentLocks are the paths whose locks a parent process holds for us.
func parentLocks(env func(string) string, dir storepath.Dir) []storepath.Path {
	var held []storepath.Path
	for _, word := range strings.Fields(env("NIX_HELD_LOCKS")) {
		if p, err := dir.Parse(word); err == nil {
			held = append(held, p)
		}
	}
	return held
}

// buildGroup is the group that the store directory must belong to, 0 for any.
// Builders in a sandbox do not write to the store itself, so without a group
// of accounts the directory is left alone for as long as all are sandboxed.
func (s *session) buildGroup() (int, error) {
	users, err := s.users()
	if err != nil {
		return 0, err
	}
	if users == nil || users.Group == "" && s.settings.Sandbox == config.SandboxOn && !s.settings.SandboxFallback {
		return 0, nil
	}
	gid, err := users.GID()
	return int(gid), err
}

// configure loads the settings without opening anything.
func (a *app) configure(paths ...string) (*session, error) {
	f := config.DirFlags{StoreDir: a.flags.storeDir, StateDir: a.flags.stateDir, LogDir: a.flags.logDir, Root: a.flags.root}
	for _, p := range []*string{&f.StoreDir, &f.StateDir, &f.LogDir, &f.Root} {
		if err := absolute(p); err != nil {
			return nil, err
		}
	}
	if len(paths) > 0 {
		f.Argument = paths[0]
	}
	dirs, err := config.ResolveDirs(a.env, f)
	if err != nil {
		return nil, err
	}
	settings, warnings, err := config.Load(a.env, config.Options{
		ConfDir: dirs.Conf, Root: os.Geteuid() == 0, FindShell: sandbox.DefaultShell, HasGroup: sandbox.GroupExists,
	})
	if err != nil {
		return nil, err
	}
	for _, o := range a.flags.options {
		if err := settings.Set(o.name, o.value); errors.Is(err, config.ErrUnknownSetting) {
			warnings = append(warnings, config.Warning(err.Error()))
		} else if err != nil {
			return nil, err
		}
	}
	for _, w := range warnings {
		a.logger().Message(activity.Warn, string(w))
	}
	network := netprogram.Program{Dir: config.CacheDir(a.env, os.Geteuid() == 0)}
	return &session{app: a, dirs: dirs, settings: settings, network: network}, nil
}

// absolute makes a directory given by a user absolute, if it is given at all.
func absolute(dir *string) error {
	if *dir == "" || path.IsAbs(*dir) {
		return nil
	}
	wd, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("finding the current directory for '%s': %w", *dir, err)
	}
	*dir = path.Join(wd, *dir)
	return nil
}

func (s *session) close() {
	if s.store != nil {
		s.store.Close()
	}
}

// paths parses arguments that name store objects, or files in them.
func (s *session) paths(args []string) ([]storepath.Path, error) {
	paths := make([]storepath.Path, len(args))
	for i, arg := range args {
		p, err := s.path(arg)
		if err != nil {
			return nil, err
		}
		paths[i] = p
	}
	return paths, nil
}

// path finds the store object that an argument names: itself, a file in it, or
// by way of symbolic links such as "result".
func (s *session) path(arg string) (storepath.Path, error) {
	p, _, err := s.store.Dir().Split(arg)
	if err == nil {
		return p, nil
	}
	for target, hops := arg, 0; hops < 40; hops++ {
		next, linkErr := os.Readlink(target)
		if linkErr != nil {
			break
		}
		if !path.IsAbs(next) {
			next = path.Join(path.Dir(target), next)
		}
		if p, _, err := s.store.Dir().Split(next); err == nil {
			return p, nil
		}
		target = next
	}
	return "", err
}

// specs parses arguments that may choose outputs.
func (s *session) specs(args []string) ([]drv.Spec, error) {
	specs := make([]drv.Spec, len(args))
	for i, arg := range args {
		spec, err := drv.ParseSpec(s.store.Dir(), arg)
		if err != nil {
			if p, linkErr := s.path(arg); linkErr == nil {
				spec, err = drv.Spec{Path: p, Bare: true}, nil
			}
		}
		if err != nil {
			return nil, err
		}
		specs[i] = spec
	}
	return specs, nil
}

// print writes a line to standard output.
func (a *app) print(text string) error {
	_, err := fmt.Fprintln(a.stdout, text)
	return err
}
