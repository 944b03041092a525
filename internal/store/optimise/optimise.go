package optimise

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"math/rand/v2"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/fstree"
	"gobuild/internal/store/nar"
)

// Tree links the files of a canonical tree on the store's file system. Nobody
// else may change the tree meanwhile; any number of trees may be linked at
// once. An error means that the tree may not be what it was; what could not be
// linked for another reason stays as it is.
func Tree(path string, o Options) (Stats, error) {
	if o.Name == "" {
		o.Name = path
	}
	l := &linker{opt: &o, link: unix.Linkat, sums: o.Sums}
	return l.run(path)
}

// A linker is the visitor that does it.
type linker struct {
	opt    *Options
	stats  Stats
	link   func(oldDir int, oldName string, newDir int, newName string, flags int) error
	links  int // the directory of links
	beside int // the directory that the tree lies in
	sums   []Sum
	dirs   []dirState // the directories that the walk is in
	off    bool       // nothing can be linked any more
	hash   hash.Hash
	block  []byte
}

// A dirState is what must be put back when the walk leaves a directory.
type dirState struct{ mtime, mode bool }

func (l *linker) run(path string) (Stats, error) {
	if err := l.open(path); err != nil {
		l.warn("cannot link equal files of '%s': %v", l.opt.Name, err)
		return Stats{}, nil
	}
	defer unix.Close(l.links)
	defer unix.Close(l.beside)
	err := fstree.Walk{Path: path, Name: l.opt.Name, Unlock: true}.Walk(l)
	if err != nil {
		err = fmt.Errorf("linking equal files: %w", err)
	}
	return l.stats, err
}

func (l *linker) open(tree string) (err error) {
	if l.links, err = openDir(l.opt.Links); errors.Is(err, unix.ENOENT) {
		_ = unix.Mkdir(l.opt.Links, 0o755)
		l.links, err = openDir(l.opt.Links)
	}
	if err != nil {
		return err
	}
	if l.beside, err = openDir(filepath.Dir(filepath.Clean(tree))); err != nil {
		unix.Close(l.links)
	}
	return err
}

func openDir(dir string) (int, error) {
	fd, err := fstree.OpenAt(unix.AT_FDCWD, dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "opening", Path: dir, Err: err}
	}
	return fd, nil
}

func (l *linker) warn(format string, args ...any) {
	if l.opt.Warn != nil {
		l.opt.Warn(fmt.Sprintf(format, args...))
	}
}

// giveUp is for trouble that the next file would have, too.
func (l *linker) giveUp(n *fstree.Node, err error) {
	l.off = true
	l.warn("cannot link '%s' with its equals: %v", n.Path(), err)
}

// Visit links a file or symbolic link.
func (l *linker) Visit(n *fstree.Node) error {
	if n.Kind() == unix.S_IFDIR {
		l.dirs = append(l.dirs, dirState{})
		return nil
	}
	known := l.nextSum(n)
	switch {
	case l.off:
		return nil
	case n.Kind() == unix.S_IFREG && n.Stat.Mode&0o200 != 0:
		l.warn("skipping suspicious writable file '%s'", n.Path())
		return nil
	}
	if known == nil {
		sum, err := l.sum(n)
		if err != nil {
			return err
		}
		known = &sum
	}
	l.share(n, *known)
	return nil
}

// nextSum is what is known of a file. A tree that is not the one that the sums
// are of gets no harm from them: what is not recognised is read.
func (l *linker) nextSum(n *fstree.Node) *Sum {
	if len(l.sums) == 0 {
		return nil
	}
	s := &l.sums[0]
	l.sums = l.sums[1:]
	if s.Inode != n.Stat.Ino {
		return nil
	}
	return s
}

func (l *linker) sum(n *fstree.Node) (Sum, error) {
	if l.hash == nil {
		l.hash = sha256.New()
		l.block = make([]byte, nar.BlockSize)
	}
	l.hash.Reset()
	s := Sum{Inode: n.Stat.Ino}
	if err := nar.DumpNode(l, n); err != nil {
		return s, err
	}
	l.hash.Sum(s.Hash[:0])
	return s, nil
}

// Next is for nar.DumpNode.
func (l *linker) Next(block []byte) ([]byte, error) {
	l.hash.Write(block)
	return l.block, nil
}

// attempts bounds how often somebody else may be faster.
const attempts = 20

// share makes a file and its entry among the links one.
func (l *linker) share(n *fstree.Node, sum Sum) {
	name := digest.EncodeNix32(sum.Hash[:])
	for range attempts {
		var st unix.Stat_t
		err := unix.Fstatat(l.links, name, &st, unix.AT_SYMLINK_NOFOLLOW)
		switch {
		case errors.Is(err, unix.ENOENT):
			err = l.link(n.Dir, n.Name, l.links, name, 0)
			if errors.Is(err, unix.EEXIST) {
				continue
			}
		case err != nil:
		case st.Dev == n.Stat.Dev && st.Ino == n.Stat.Ino:
			return
		case !l.sound(n, &st, name, sum):
			l.warn("removing corrupted link '%s/%s'", l.opt.Links, name)
			if err = unix.Unlinkat(l.links, name, 0); err == nil || errors.Is(err, unix.ENOENT) {
				continue
			}
		default:
			err = l.replace(n, name)
			if errors.Is(err, unix.ENOENT) { // a collector has removed the link, or our name
				continue
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, unix.EMLINK):
			if n.Stat.Size > 0 { // the empty file is the one that everybody has
				l.warn("'%s' has maximum number of links", n.Path())
			}
		default:
			l.giveUp(n, err)
		}
		return
	}
}

// sound tells whether an entry can be what its name says: the same as n.
func (l *linker) sound(n *fstree.Node, st *unix.Stat_t, name string, sum Sum) bool {
	if st.Size != n.Stat.Size || st.Mode != n.Stat.Mode || st.Uid != n.Stat.Uid {
		return false
	}
	if !l.opt.Verify {
		return true
	}
	link := fmt.Sprintf("/proc/self/fd/%d/%s", l.links, name)
	v := &verifier{linker: l}
	err := fstree.Walk{Path: link, Name: l.opt.Links + "/" + name}.Walk(v)
	return err == nil && v.sum.Hash == sum.Hash
}

// A verifier is the visitor of one entry among the links.
type verifier struct {
	linker *linker
	sum    Sum
}

func (v *verifier) Visit(n *fstree.Node) (err error) {
	v.sum, err = v.linker.sum(n)
	return err
}

func (v *verifier) Leave(*fstree.Node) error { return nil }

// replace puts an entry of the links in a file's place. The new name is made
// elsewhere first, so that there is a file at any time.
func (l *linker) replace(n *fstree.Node, name string) error {
	tmp, err := l.temporary(name)
	if err != nil {
		return err
	}
	err = unix.Renameat(l.beside, tmp, n.Dir, n.Name)
	if errors.Is(err, unix.EACCES) && l.unlock(n) {
		err = unix.Renameat(l.beside, tmp, n.Dir, n.Name)
	}
	if err != nil {
		_ = unix.Unlinkat(l.beside, tmp, 0)
		return err
	}
	if len(l.dirs) > 0 {
		l.dirs[len(l.dirs)-1].mtime = true
	}
	l.stats.Files++
	if n.Stat.Nlink == 1 { // else another name keeps the contents
		l.stats.Bytes += n.Stat.Size
		l.stats.Blocks += n.Stat.Blocks
	}
	return nil
}

// temporary gives an entry of the links a name beside the tree.
func (l *linker) temporary(name string) (string, error) {
	for {
		tmp := fmt.Sprintf(".tmp-link-%d-%d", os.Getpid(), rand.Uint32())
		err := l.link(l.links, name, l.beside, tmp, 0)
		if !errors.Is(err, unix.EEXIST) {
			return tmp, err
		}
	}
}

// unlock makes the directory that n lies in writable, for those who need that.
func (l *linker) unlock(n *fstree.Node) bool {
	if len(l.dirs) == 0 {
		return false // the tree is one file; its directory is not ours
	}
	l.dirs[len(l.dirs)-1].mode = true
	return unix.Fchmod(n.Dir, 0o700) == nil
}

// Leave puts the directory's metadata back.
func (l *linker) Leave(n *fstree.Node) error {
	state := l.dirs[len(l.dirs)-1]
	l.dirs = l.dirs[:len(l.dirs)-1]
	if state.mode || n.Unlocked {
		if err := unix.Fchmod(n.FD, n.Stat.Mode&07777); err != nil {
			return fmt.Errorf("changing mode of '%s' back: %w", n.Path(), err)
		}
	}
	if !state.mtime {
		return nil
	}
	times := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, n.Stat.Mtim}
	if err := fstree.SetTimes(n.FD, &times); err != nil {
		return fmt.Errorf("changing modification time of '%s' back: %w", n.Path(), err)
	}
	return nil
}
