package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"gobuild/internal/worker/proc"
)

const openDir = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC

// makeBuildDir makes a fresh wrapper directory with the builder's directory in
// it. All later work goes through the descriptors, never by name.
func (w *World) makeBuildDir() error {
	dir := w.policy.buildDir()
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return fmt.Errorf("creating the directory for builds: %w", err)
	}
	if w.build.User != nil {
		if err := checkAncestors(dir, lstatOwner, uint32(os.Geteuid())); err != nil {
			return err
		}
	}
	if err := w.makeWrapper(dir); err != nil {
		return fmt.Errorf("creating a build directory in '%s': %w", dir, err)
	}
	err := w.fillWrapper()
	if err != nil {
		return fmt.Errorf("preparing the build directory '%s': %w", w.wrapper, err)
	}
	return nil
}

func (w *World) makeWrapper(dir string) error {
	for {
		name := path.Join(dir, fmt.Sprintf("nix-%d-%d", os.Getpid(), w.policy.next))
		w.policy.next++
		err := unix.Mkdir(name, 0o700)
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		if err != nil {
			return err
		}
		w.wrapper = name
		if w.fd, err = unix.Open(name, openDir, 0); err != nil {
			return err
		}
		// Held for as long as the build lasts: see Stale.
		return unix.Flock(w.fd, unix.LOCK_EX|unix.LOCK_NB)
	}
}

func (w *World) fillWrapper() (err error) {
	if w.buildFD, err = makeDirAt(w.fd, "build"); err != nil {
		return err
	}
	if err := w.giveToBuilder(w.buildFD, 0o700); err != nil {
		return err
	}
	if w.build.Sandboxed {
		tmp, err := makeDirAt(w.fd, "tmp")
		if err != nil {
			return err
		}
		defer proc.Close(tmp)
		return unix.Fchmod(tmp, 0o1777)
	}
	return w.Admit() // who passes through owns nothing here
}

// Admit lets the build user, as whom something else is to run now, pass into
// the build directory.
func (w *World) Admit() error {
	if w.build.User == nil || w.fd < 0 {
		return nil
	}
	err := unix.Fchown(w.fd, -1, int(w.build.User.GID))
	if err == nil {
		err = unix.Fchmod(w.fd, 0o710)
	}
	if err != nil {
		return fmt.Errorf("opening the build directory '%s' for its user: %w", w.BuildDir(), err)
	}
	return nil
}

// makeDirAt makes a directory of mode 0700 that was not there, and opens it.
func makeDirAt(dir int, name string) (int, error) {
	if err := unix.Mkdirat(dir, name, 0o700); err != nil {
		return -1, err
	}
	return unix.Openat(dir, name, openDir, 0)
}

// makeChroot makes the directory beside the outputs: root is an empty place to
// mount on, store is where the builder's outputs go.
func (w *World) makeChroot() error {
	w.chroot = path.Join(w.policy.realStoreDir(), w.build.DrvBase+".chroot")
	err := unix.Mkdir(w.chroot, 0o700)
	if errors.Is(err, unix.EEXIST) { // left by an engine that died, or put there by a builder
		if err = unix.Unlink(w.chroot); errors.Is(err, unix.EISDIR) {
			err = RemoveTree(w.chroot)
		}
		if err == nil {
			err = unix.Mkdir(w.chroot, 0o700)
		}
	}
	if err == nil {
		err = w.fillChroot()
	}
	if err != nil {
		return fmt.Errorf("making the chroot directory '%s': %w", w.chroot, err)
	}
	return nil
}

func (w *World) fillChroot() error {
	dir, err := unix.Open(w.chroot, openDir, 0)
	if err != nil {
		return err
	}
	defer proc.Close(dir)
	if err := unix.Mkdirat(dir, "root", 0o700); err != nil {
		return err
	}
	store, err := makeDirAt(dir, "store")
	if err != nil {
		return err
	}
	defer proc.Close(store)
	if u := w.build.User; u != nil {
		if err := unix.Fchown(store, -1, int(u.GID)); err != nil {
			return err
		}
	}
	return unix.Fchmod(store, 0o1775)
}

// An owner is what checkAncestors wants to know of a path.
type owner struct{ mode, uid uint32 }

func lstatOwner(name string) (owner, error) {
	var st unix.Stat_t
	err := unix.Lstat(name, &st)
	return owner{st.Mode, st.Uid}, err
}

// checkAncestors refuses a directory for builds that somebody but root and us
// could exchange for another: one on whose path there is a link, or a directory
// where everybody may rename. A sticky one protects what root or we own in it.
func checkAncestors(dir string, lstat func(string) (owner, error), self uint32) error {
	child := owner{uid: self}
	for at := path.Clean(dir); ; at = path.Dir(at) {
		o, err := lstat(at)
		if err != nil {
			return fmt.Errorf("checking '%s': %w", at, err)
		}
		guarded := o.mode&unix.S_ISVTX != 0 && (child.uid == 0 || child.uid == self) && at != dir
		if o.mode&unix.S_IFMT == unix.S_IFLNK || o.mode&unix.S_IWOTH != 0 && !guarded {
			return fmt.Errorf("path '%s' is world-writable or a symlink; that's not allowed for security", at)
		}
		if at == "/" || at == "." {
			return nil
		}
		child = o
	}
}

// Keep leaves the build directory for people to look at, and removes the rest.
// Set-id bits are taken off first: the directory becomes readable by all. With
// Policy.KeepFor it is given to whom that names.
func (w *World) Keep() error {
	err := w.publish()
	w.closeDirs()
	return errors.Join(err, removeIfMade(w.chroot))
}

// publish opens the directory when all is done: until then nobody comes in.
func (w *World) publish() error {
	if w.buildFD < 0 {
		return nil
	}
	var st unix.Stat_t
	err := unix.Fstat(w.buildFD, &st)
	if err == nil {
		h := handover{from: st.Uid, to: w.policy.KeepFor}
		if err = h.below(w.buildFD, 0); err == nil {
			err = h.give(w.buildFD)
		}
	}
	if err == nil {
		err = unix.Fchmod(w.buildFD, 0o755)
	}
	if err != nil {
		return fmt.Errorf("keeping the build directory '%s': %w", w.BuildDir(), err)
	}
	return unix.Fchmod(w.fd, 0o755)
}

func (w *World) closeDirs() {
	proc.Close(w.fd, w.buildFD)
	w.fd, w.buildFD = -1, -1
}

// Remove deletes the directories of a build, with all that is in them. Outputs
// that are wanted have been moved away before.
func (w *World) Remove() error {
	for {
		done, err := w.RemoveSome(1 << 20)
		if done || err != nil {
			return err
		}
	}
}

// RemoveSome is Remove in portions of about limit entries, for a caller that
// must not stay away for long; it returns true when all is gone.
func (w *World) RemoveSome(limit int) (bool, error) {
	if w.fd >= 0 {
		_ = unix.Fchmod(w.fd, 0o700) // nobody comes in any more
		w.closeDirs()
	}
	for _, dir := range []*string{&w.wrapper, &w.chroot} {
		if *dir == "" {
			continue
		}
		done, err := removeSome(*dir, &limit)
		if err != nil || !done {
			return false, err
		}
		*dir = ""
	}
	return true, nil
}

func removeIfMade(dir string) error {
	if dir == "" {
		return nil
	}
	return RemoveTree(dir)
}
