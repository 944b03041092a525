package fstree

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A Node is one file, directory or symbolic link during a walk. It is valid
// until the visitor returns.
type Node struct {
	Dir      int    // the directory it lies in; -1 for what a walk does not name
	Name     string // in that directory
	FD       int    // open for reading; -1 for a symbolic link
	Stat     unix.Stat_t
	Unlocked bool // it has been given more permissions than Stat says

	walk  *walk
	depth int // directories above it in the walk
}

// Top tells whether this is where the walk started.
func (n *Node) Top() bool { return n.depth == 0 }

// Kind is the type bits of the mode, unix.S_IF*.
func (n *Node) Kind() uint32 { return n.Stat.Mode & unix.S_IFMT }

// Path names the node in messages: the walk's name and what lies below it.
func (n *Node) Path() string {
	if n.depth == 0 {
		return n.walk.Name
	}
	return n.walk.dirs.path(n.walk.Name, n.depth, n.Name)
}

// A Visitor is told of every node.
type Visitor interface {
	// Visit comes before the entries of a directory, which come in the order
	// of their bytes.
	Visit(n *Node) error
	// Leave comes after the entries of a directory.
	Leave(n *Node) error
}

// A Walk says what to walk.
type Walk struct {
	Path     string // real path; only its last component is not trusted
	Name     string // what messages call it; "" means Path
	MaxDepth int    // of directories inside each other; 0 means no bound
	// Unlock gives the owner access to files and directories that may not be
	// read; without it they are an error.
	Unlock bool
}

type walk struct {
	Walk
	visitor Visitor
	dirs    Descent
	frames  []frame
	entries []Entry // of all open frames, one after the other
	buf     []byte
	current Node
}

// A frame is a directory whose entries are being visited.
type frame struct {
	next, end int // what is left of entries
	start     int
	node      Node // its Dir and FD are not kept
}

// Walk visits the whole tree and stops at the first error. A tree that a walk
// cannot take gives a *TreeError.
func (o Walk) Walk(v Visitor) error {
	if o.Name == "" {
		o.Name = o.Path
	}
	w := &walk{Walk: o, visitor: v}
	defer w.dirs.Close()
	dir, base, err := split(o.Path)
	if err != nil {
		return fmt.Errorf("opening the directory of '%s': %w", o.Name, err)
	}
	defer unix.Close(dir)
	if err := w.node(dir, Entry{Name: base}); err != nil {
		return err
	}
	return w.run()
}

func (w *walk) run() error {
	for len(w.frames) > 0 {
		f := &w.frames[len(w.frames)-1]
		if f.next == f.end {
			if err := w.leave(f); err != nil {
				return err
			}
			continue
		}
		e := w.entries[f.next]
		f.next++
		if err := w.node(w.dirs.FD(), e); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) leave(f *frame) error {
	n := &f.node
	n.Dir, n.FD = -1, w.dirs.FD()
	// The visitor may take the permission away that the way up needs.
	if err := w.dirs.openParent(); err != nil {
		return fmt.Errorf("walking '%s': %w", w.Name, err)
	}
	if err := w.visitor.Leave(n); err != nil {
		return err
	}
	w.entries = w.entries[:f.start]
	w.frames = w.frames[:len(w.frames)-1]
	if err := w.dirs.Leave(); err != nil {
		return fmt.Errorf("walking '%s': %w", w.Name, err)
	}
	return nil
}

// node visits one entry of dir, and starts a frame if it is a directory.
func (w *walk) node(dir int, e Entry) error {
	n := &w.current
	*n = Node{Dir: dir, Name: e.Name, FD: -1, walk: w, depth: w.dirs.Depth()}
	if err := w.open(n, e.Type); err != nil {
		return err
	}
	if n.Kind() == unix.S_IFDIR {
		return w.directory(n)
	}
	if n.FD >= 0 {
		defer unix.Close(n.FD)
	}
	return w.visitor.Visit(n)
}

// open fills in the descriptor and the status. Pipes and devices are never
// opened: that can block or have effects.
func (w *walk) open(n *Node, kind uint8) error {
	if kind == unix.DT_REG || kind == unix.DT_DIR {
		return w.openFile(n)
	}
	if err := unix.Fstatat(n.Dir, n.Name, &n.Stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return w.fail("getting status of", n, err)
	}
	switch n.Kind() {
	case unix.S_IFLNK:
		return nil
	case unix.S_IFREG, unix.S_IFDIR:
		return w.openFile(n)
	}
	return UnsupportedType(n.Path())
}

func (w *walk) openFile(n *Node) error {
	fd, err := OpenAt(n.Dir, n.Name, openRead, 0)
	if errors.Is(err, unix.EACCES) && w.Unlock {
		fd, err = w.unlockAndOpen(n)
	}
	if err != nil {
		return w.fail("opening", n, err)
	}
	if n.Unlocked {
		n.FD = fd
		return nil
	}
	if err := unix.Fstat(fd, &n.Stat); err != nil {
		unix.Close(fd)
		return w.fail("getting status of", n, err)
	}
	n.FD = fd
	if k := n.Kind(); k != unix.S_IFREG && k != unix.S_IFDIR {
		unix.Close(fd)
		n.FD = -1
		return UnsupportedType(n.Path())
	}
	return nil
}

// unlockAndOpen keeps in n.Stat what the node was before.
func (w *walk) unlockAndOpen(n *Node) (int, error) {
	before, err := addMode(n.Dir, n.Name, 0o400)
	if err != nil {
		return -1, err
	}
	fd, err := OpenAt(n.Dir, n.Name, openRead, 0)
	if err != nil {
		return -1, err
	}
	var now unix.Stat_t
	if err = unix.Fstat(fd, &now); err == nil && (now.Dev != before.Dev || now.Ino != before.Ino) {
		err = unix.ESTALE
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	n.Stat, n.Unlocked = before, true
	return fd, nil
}

func (w *walk) directory(n *Node) error {
	if w.MaxDepth > 0 && w.dirs.Depth() >= w.MaxDepth {
		unix.Close(n.FD)
		return &TreeError{Path: n.Path(), Problem: fmt.Sprintf("exceeds maximum NAR directory depth of %d", w.MaxDepth)}
	}
	if err := w.visitor.Visit(n); err != nil {
		unix.Close(n.FD)
		return err
	}
	// Without search permission the entries could be listed and not reached.
	if w.Unlock && n.Stat.Mode&0o500 != 0o500 {
		if err := unix.Fchmod(n.FD, n.Stat.Mode&07777|0o500); err != nil {
			unix.Close(n.FD)
			return w.fail("changing mode of", n, err)
		}
		n.Unlocked = true
	}
	if err := w.dirs.Enter(n.FD, n.Name); err != nil {
		return w.fail("opening", n, err)
	}
	start := len(w.entries)
	if err := w.list(n.FD); err != nil {
		return w.fail("reading directory", n, err)
	}
	w.frames = append(w.frames, frame{next: start, end: len(w.entries), start: start, node: *n})
	return nil
}

func (w *walk) list(fd int) error {
	if w.buf == nil {
		w.buf = make([]byte, 32<<10)
	}
	start := len(w.entries)
	var err error
	w.entries, _, err = list(fd, w.buf, w.entries, math.MaxInt)
	slices.SortFunc(w.entries[start:], func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return err
}

func (w *walk) fail(doing string, n *Node, err error) error {
	return fmt.Errorf("%s '%s': %w", doing, n.Path(), err)
}
