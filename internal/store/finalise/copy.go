package finalise

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/fstree"
	"gobuild/internal/store/nar"
	"gobuild/internal/store/refscan"
)

// privateName names the directories that copies are made in. It starts with
// the hash part of the output, which is a temporary root: collectors leave
// alone what begins like one.
func privateName(dest string) string {
	base := filepath.Base(dest)
	return base[:min(len(base), hashLen)] + "-finalise-*"
}

const hashLen = 32

// CopyFor takes the name of something in a store and gives the hash part of the
// output for which it is such a directory, if its name allows that.
func CopyFor(name string) (hashPart string, ok bool) {
	part, number, ok := strings.Cut(name, "-finalise-")
	return part, ok && len(part) == hashLen && number != "" && strings.Trim(number, "0123456789") == ""
}

// Copies are the private directories that are left of making copies for dest,
// by a Run that was killed if nobody is at work on dest.
func Copies(dest string) []string {
	dir, prefix := filepath.Dir(dest), strings.TrimSuffix(privateName(dest), "*")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var left []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			left = append(left, filepath.Join(dir, e.Name()))
		}
	}
	return left
}

// copy makes the output anew in a directory that is nobody else's and never
// was, beside its destination, and returns where.
func (r *run) copy(o *Output) (string, error) {
	private, err := os.MkdirTemp(filepath.Dir(o.Dest), privateName(o.Dest))
	if err != nil {
		return "", fmt.Errorf("making a place for a copy of '%s': %w", o.Name, err)
	}
	r.private = append(r.private, private)
	dir, err := fstree.OpenAt(unix.AT_FDCWD, private, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("opening '%s': %w", private, err)
	}
	defer unix.Close(dir)
	checkOnly := *r.canonical // shares what has been seen
	checkOnly.checkOnly = true
	c := &copier{checker: checker{output: o, canonical: &checkOnly}, dir: dir}
	if len(o.Rewrites) > 0 {
		if c.rewriter, err = refscan.NewRewriter(io.Discard, o.Rewrites); err != nil {
			return "", err
		}
	}
	defer c.dirs.Close()
	if err := (fstree.Walk{Path: o.Path, Name: o.Name, MaxDepth: nar.MaxDepth, Unlock: true}).Walk(c); err != nil {
		return "", err
	}
	return filepath.Join(private, copyName), nil
}

// copyName is what the copy is called in its private directory.
const copyName = "output"

// A copier is the visitor that checks an output and copies it, rewriting hash
// parts on the way. A hash part cannot reach beyond one name, target or file,
// since in an archive zero bytes lie between them; so the result is the same
// as that of rewriting the archive, but that its entries are in order again.
type copier struct {
	checker
	dir      int // where the copy lies
	dirs     fstree.Descent
	rewriter *refscan.Rewriter // nil if there is nothing to rewrite
	buf      []byte
}

func (c *copier) Visit(n *fstree.Node) error {
	if err := c.checker.Visit(n); err != nil {
		return err
	}
	dir, name := c.dir, copyName
	if c.dirs.Depth() > 0 {
		dir, name = c.dirs.FD(), c.rewrite(n.Name)
	}
	var err error
	switch n.Kind() {
	case unix.S_IFDIR:
		err = c.directory(dir, name)
	case unix.S_IFLNK:
		err = c.symlink(n, dir, name)
	default:
		err = c.file(n, dir, name)
	}
	if err != nil {
		return fmt.Errorf("copying '%s': %w", n.Path(), err)
	}
	return nil
}

func (c *copier) Leave(*fstree.Node) error { return c.dirs.Leave() }

func (c *copier) directory(dir int, name string) error {
	if err := unix.Mkdirat(dir, name, 0o700); err != nil {
		return err
	}
	fd, err := fstree.OpenAt(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return c.dirs.Enter(fd, name)
}

func (c *copier) symlink(n *fstree.Node, dir int, name string) error {
	var target [unix.PathMax]byte
	size, err := unix.Readlinkat(n.Dir, n.Name, target[:])
	if err != nil {
		return err
	}
	return unix.Symlinkat(c.rewrite(string(target[:size])), dir, name)
}

func (c *copier) file(n *fstree.Node, dir int, name string) error {
	mode := uint32(0o600) | n.Stat.Mode&0o100
	fd, err := fstree.OpenAt(dir, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if err != nil {
		return err
	}
	if c.rewriter != nil {
		err = c.rewriteContents(n, fd)
	} else {
		err = c.contents(n, fd)
	}
	return errors.Join(err, unix.Close(fd))
}

// contents lets the kernel copy, which costs nothing where files can share
// blocks.
func (c *copier) contents(n *fstree.Node, fd int) error {
	left := n.Stat.Size
	for left > 0 {
		got, err := unix.CopyFileRange(n.FD, nil, fd, nil, int(min(left, 1<<30)), 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EXDEV), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL),
			errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPERM):
			return c.pump(n, left, fdWriter(fd))
		case err != nil:
			return err
		case got == 0:
			return c.pump(n, left, fdWriter(fd)) // some file systems say so instead of an error
		}
		left -= int64(got)
	}
	return nil
}

func (c *copier) rewriteContents(n *fstree.Node, fd int) error {
	c.rewriter.Reset(fdWriter(fd))
	if err := c.pump(n, n.Stat.Size, c.rewriter); err != nil {
		return err
	}
	return c.rewriter.Close()
}

// pump copies exactly left bytes through memory.
func (c *copier) pump(n *fstree.Node, left int64, w io.Writer) error {
	if c.buf == nil {
		c.buf = make([]byte, nar.BlockSize)
	}
	for left > 0 {
		got, err := unix.Read(n.FD, c.buf[:min(left, int64(len(c.buf)))])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case got == 0:
			return &fstree.TreeError{Path: n.Path(), Problem: "changed its size while it was being read"}
		}
		if _, err := w.Write(c.buf[:got]); err != nil {
			return err
		}
		left -= int64(got)
	}
	return nil
}

// rewrite replaces hash parts in a name or target.
func (c *copier) rewrite(s string) string {
	if c.rewriter == nil || len(s) < refscan.HashLen {
		return s
	}
	var b strings.Builder
	c.rewriter.Reset(&b)
	_, _ = c.rewriter.Write([]byte(s)) // a string takes everything
	_ = c.rewriter.Close()
	return b.String()
}

// fdWriter writes to a descriptor that somebody else closes.
type fdWriter int

func (fd fdWriter) Write(b []byte) (int, error) {
	done := 0
	for done < len(b) {
		n, err := unix.Write(int(fd), b[done:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}
