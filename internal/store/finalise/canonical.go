package finalise

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/fstree"
)

// Options say how to make metadata canonical.
type Options struct {
	Name       string    // what messages call the tree; "" means its path
	Owner      *UIDRange // if set, everything must belong to it
	KeepXattrs []string  // the extended attributes that are not removed
}

// Canonicalise gives a whole tree the metadata of a store object. It follows
// no symbolic link, and what it changes it holds by a descriptor. A tree that
// cannot be a store object gives a *fstree.TreeError.
func Canonicalise(path string, o Options) error {
	return fstree.Walk{Path: path, Name: o.Name, Unlock: true}.Walk(newCanonicaliser(o))
}

// A canonicaliser is the visitor that changes metadata, or, if it only checks,
// leaves them alone.
type canonicaliser struct {
	uid, gid  uint32
	owner     *UIDRange
	keep      []string
	checkOnly bool
	seen      map[inode]bool // made canonical, and have several names
	xattrs    [4 << 10]byte
}

type inode struct{ dev, ino uint64 }

func newCanonicaliser(o Options) *canonicaliser {
	return &canonicaliser{uid: uint32(os.Geteuid()), gid: uint32(os.Getegid()), owner: o.Owner, keep: o.KeepXattrs, seen: map[inode]bool{}}
}

// Visit does files and links. Directories are only checked, for their entries
// must stay accessible until Leave.
func (c *canonicaliser) Visit(n *fstree.Node) error {
	done, err := c.checkOwner(n)
	if done || err != nil || c.checkOnly || n.Kind() == unix.S_IFDIR {
		return err
	}
	return c.apply(n)
}

func (c *canonicaliser) Leave(n *fstree.Node) error {
	if c.checkOnly {
		return nil
	}
	return c.apply(n)
}

// checkOwner refuses what the builder does not own, but for further names of a
// file that it did own. It comes before any change: the file may be a link to
// one of the system's.
func (c *canonicaliser) checkOwner(n *fstree.Node) (done bool, err error) {
	id := inode{n.Stat.Dev, n.Stat.Ino}
	if c.owner != nil && (n.Stat.Uid < c.owner.First || n.Stat.Uid > c.owner.Last) {
		if n.Kind() == unix.S_IFDIR || !c.seen[id] || !c.isCanonical(n) {
			return false, &ownershipError{n.Path()}
		}
		return true, nil
	}
	if c.owner != nil && n.Stat.Nlink > 1 && n.Kind() != unix.S_IFDIR {
		c.seen[id] = true
	}
	return false, nil
}

func (c *canonicaliser) isCanonical(n *fstree.Node) bool {
	mode := n.Stat.Mode & 07777
	return n.Stat.Uid == c.uid && (n.Kind() == unix.S_IFLNK || (mode == 0o444 || mode == 0o555) && n.Stat.Mtim.Sec == 1)
}

// An ownershipError is about a node that belongs to somebody else.
type ownershipError struct{ path string }

func (e *ownershipError) Error() string { return "invalid ownership on file '" + e.path + "'" }

// apply changes what is not canonical, in the order that never leaves a file
// with more rights than it had: attributes, mode, times, owner.
func (c *canonicaliser) apply(n *fstree.Node) error {
	stripped, err := c.stripXattrs(n)
	if err != nil {
		return fmt.Errorf("removing extended attributes of '%s': %w", n.Path(), err)
	}
	mode := n.Stat.Mode & 07777
	if n.FD >= 0 && (mode != 0o444 && mode != 0o555 || n.Unlocked || stripped) {
		mode = finalMode(mode)
		if err := unix.Fchmod(n.FD, mode); err != nil {
			return fmt.Errorf("changing mode of '%s' to %o: %w", n.Path(), mode, err)
		}
	}
	if n.Stat.Mtim.Sec != 1 {
		if err := setTime(n); err != nil {
			return fmt.Errorf("changing modification time of '%s': %w", n.Path(), err)
		}
	}
	if n.Stat.Uid != c.uid {
		if err := c.chown(n); err != nil {
			return fmt.Errorf("changing owner of '%s' to %d: %w", n.Path(), c.uid, err)
		}
	}
	return nil
}

// finalMode is what becomes of a mode; 0444 and 0555 stay.
func finalMode(mode uint32) uint32 {
	if mode&0o100 != 0 {
		return 0o555
	}
	return 0o444
}

func setTime(n *fstree.Node) error {
	times := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: 1}}
	if n.FD >= 0 {
		return fstree.SetTimes(n.FD, &times)
	}
	return unix.UtimesNanoAt(n.Dir, n.Name, times[:], unix.AT_SYMLINK_NOFOLLOW)
}

func (c *canonicaliser) chown(n *fstree.Node) error {
	if n.FD >= 0 {
		return unix.Fchown(n.FD, int(c.uid), int(c.gid))
	}
	return unix.Fchownat(n.Dir, n.Name, int(c.uid), int(c.gid), unix.AT_SYMLINK_NOFOLLOW)
}

// stripXattrs removes the extended attributes, and tells whether it has
// touched anything, as that can have changed the mode.
func (c *canonicaliser) stripXattrs(n *fstree.Node) (bool, error) {
	names, err := c.listXattrs(n)
	if err != nil || len(names) == 0 {
		return false, err
	}
	touched := false
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		if slices.Contains(c.keep, name) {
			continue
		}
		touched = true
		if err := c.removeXattr(n, name); err != nil && !errors.Is(err, unix.ENODATA) {
			return touched, err
		}
	}
	return touched, nil
}

func (c *canonicaliser) listXattrs(n *fstree.Node) ([]byte, error) {
	buf := c.xattrs[:]
	for {
		var size int
		var err error
		if n.FD >= 0 {
			size, err = unix.Flistxattr(n.FD, buf)
		} else {
			size, err = unix.Llistxattr(linkPath(n), buf)
		}
		switch {
		case errors.Is(err, unix.ERANGE) && len(buf) < 64<<10: // the kernel's limit
			buf = make([]byte, 64<<10)
			continue
		case errors.Is(err, unix.ENOTSUP):
			return nil, nil
		case err != nil:
			return nil, err
		}
		return buf[:size], nil
	}
}

func (c *canonicaliser) removeXattr(n *fstree.Node, name string) error {
	if n.FD < 0 {
		return unix.Lremovexattr(linkPath(n), name)
	}
	err := unix.Fremovexattr(n.FD, name)
	if errors.Is(err, unix.EACCES) { // the owner's own attributes need write permission
		if err := unix.Fchmod(n.FD, n.Stat.Mode&0o777|0o600); err != nil {
			return err
		}
		err = unix.Fremovexattr(n.FD, name)
	}
	return err
}

// linkPath names a symbolic link relative to the directory held open, for the
// calls that take no descriptor of it.
func linkPath(n *fstree.Node) string { return "/proc/self/fd/" + strconv.Itoa(n.Dir) + "/" + n.Name }
