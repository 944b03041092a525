package sandbox

import (
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"gobuild/internal/worker/proc"
)

// A World is the host's side of one build: its directories, from before the
// builder starts until its outputs have been taken away.
type World struct {
	policy *Policy
	build  *Build

	chroot  string // "" when not sandboxed
	wrapper string // holds build and, if sandboxed, tmp; nobody else may enter
	fd      int    // wrapper
	buildFD int    // wrapper/build, the builder's own
}

// NewWorld makes the directories of a build. The caller ends them with Remove
// or Keep.
func NewWorld(p *Policy, b *Build) (*World, error) {
	if b.User == nil && os.Geteuid() == 0 {
		return nil, fmt.Errorf("refusing to build '%s' as root: a build user is needed", b.DrvBase)
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	w := &World{policy: p, build: b, fd: -1, buildFD: -1}
	if err := w.create(); err != nil {
		_ = w.Remove()
		return nil, err
	}
	return w, nil
}

func (w *World) create() error {
	if err := w.makeBuildDir(); err != nil {
		return err
	}
	if !w.build.Sandboxed {
		return nil
	}
	return w.makeChroot()
}

// Chroot is the directory on the host that holds the outputs of a sandboxed
// build, "" for others.
func (w *World) Chroot() string { return w.chroot }

// AddBinds makes more of the host appear in the sandbox. It must be called
// before Start.
func (w *World) AddBinds(binds []Bind) { w.build.Binds = append(w.build.Binds, binds...) }

// BuildDirInside is the build directory as the builder sees it.
func (w *World) BuildDirInside() string {
	if w.build.Sandboxed {
		return w.policy.sandboxBuildDir()
	}
	return w.BuildDir()
}

// BuildDir is the build directory on the host.
func (w *World) BuildDir() string { return path.Join(w.wrapper, "build") }

// OutputPath is where on the host the builder's output called base, a store
// path's base name, is to be found.
func (w *World) OutputPath(base string) string {
	if w.build.Sandboxed {
		return path.Join(w.chroot, "store", base)
	}
	return path.Join(w.policy.realStoreDir(), base)
}

// AddFile writes a file into the build directory, owned by the builder and
// readable by all. It must be called before Start.
func (w *World) AddFile(name string, contents []byte) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("invalid file name '%s' for the build directory", name)
	}
	fd, err := unix.Openat(w.buildFD, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("creating '%s': %w", path.Join(w.BuildDir(), name), err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if _, err = f.Write(contents); err == nil {
		err = w.giveToBuilder(fd, 0o644)
	}
	if err != nil {
		return fmt.Errorf("writing '%s': %w", path.Join(w.BuildDir(), name), err)
	}
	return nil
}

// giveToBuilder makes an open file the builder's own.
func (w *World) giveToBuilder(fd int, mode uint32) error {
	if u := w.build.User; u != nil {
		if err := unix.Fchown(fd, int(u.UID), int(u.GID)); err != nil {
			return err
		}
	}
	return unix.Fchmod(fd, mode)
}

// Start makes the builder's process, with its output going to logW. It returns
// before the sandbox exists: the Report says how that goes. The caller reaps
// the process and closes the Report's FD. A World is good for one start.
func (w *World) Start(c Command, logW int) (*proc.Process, *Report, error) {
	return w.start(c, logW)
}

// Leftovers are the directories that RemoveSome has not finished with, for a
// caller that has them deleted elsewhere; nothing else is done with them.
func (w *World) Leftovers() []string {
	var dirs []string
	for _, dir := range []string{w.wrapper, w.chroot} {
		if dir != "" {
			dirs = append(dirs, dir)
		}
	}
	w.wrapper, w.chroot = "", ""
	return dirs
}
