package nar

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/fstree"
)

// Restore reads one archive from r, as Read does, and makes its tree at dest,
// which must not exist. Permissions are as the umask has it, and executables
// for everybody; nothing else is made canonical. Only the way to dest's last
// component is trusted. After an error the caller deletes what there is.
func Restore(r io.Reader, dest string) error { return restore(r, dest, nil) }

func restore(r io.Reader, dest string, c *canonical) error {
	dest = filepath.Clean(dest)
	dir, err := fstree.OpenAt(unix.AT_FDCWD, filepath.Dir(dest), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening the directory of '%s': %w", dest, err)
	}
	defer unix.Close(dir)
	t := &restorer{dest: dest, dir: dir, canonical: c}
	defer t.dirs.Close()
	return Read(r, t)
}

// A restorer is the receiver that makes the tree. Every name is a single
// component of a directory that it has made itself.
type restorer struct {
	dest  string
	dir   int // where dest lies
	dirs  fstree.Descent
	names []string // of the open directories
	buf   []byte

	canonical *canonical // nil leaves the metadata as they come
}

func (t *restorer) at(name string) (dir int, component string) {
	if t.dirs.Depth() == 0 {
		return t.dir, filepath.Base(t.dest)
	}
	return t.dirs.FD(), name
}

// maxShown bounds the directories of a path in a message.
const maxShown = 32

func (t *restorer) fail(doing, name string, err error) error {
	path := t.dest
	if n := len(t.names); n > maxShown {
		path = strings.Join(t.names[:maxShown], "/") + "/.../" + name
	} else if n > 0 {
		path = strings.Join(append(t.names[:n:n], name), "/")
	}
	return fmt.Errorf("%s '%s': %w", doing, path, err)
}

func (t *restorer) Directory(name string) error {
	dir, component := t.at(name)
	if err := unix.Mkdirat(dir, component, 0o777); err != nil {
		return t.fail("creating directory", name, err)
	}
	fd, err := fstree.OpenAt(dir, component, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == nil {
		err = t.dirs.Enter(fd, component)
	}
	if err != nil {
		return t.fail("opening directory", name, err)
	}
	if len(t.names) == 0 {
		name = t.dest
	}
	t.names = append(t.names, name)
	return nil
}

func (t *restorer) End() error {
	last := len(t.names) - 1
	name := t.names[last]
	t.names = t.names[:last]
	if t.canonical != nil {
		if err := t.canonical.directory(t.dirs.FD()); err != nil {
			return t.fail("changing metadata of directory", name, err)
		}
	}
	if err := t.dirs.Leave(); err != nil {
		return fmt.Errorf("restoring '%s': %w", t.dest, err)
	}
	return nil
}

func (t *restorer) Symlink(name, target string) error {
	dir, component := t.at(name)
	if err := unix.Symlinkat(target, dir, component); err != nil {
		return t.fail("creating symlink", name, err)
	}
	if t.canonical != nil {
		if err := t.canonical.symlink(dir, component); err != nil {
			return t.fail("changing metadata of symlink", name, err)
		}
	}
	return nil
}

func (t *restorer) File(name string, executable bool, size int64, contents io.Reader) error {
	dir, component := t.at(name)
	mode := uint32(0o666)
	if t.canonical != nil {
		mode = kindOf(executable).mode() // does not concern the descriptor that is made with the file
	}
	fd, err := fstree.OpenAt(dir, component, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if err != nil {
		return t.fail("creating file", name, err)
	}
	if err = t.write(fd, name, size, contents); err == nil {
		err = t.finish(fd, name, executable)
	}
	if e := unix.Close(fd); e != nil && err == nil {
		err = t.fail("closing file", name, e)
	}
	return err
}

func (t *restorer) write(fd int, name string, size int64, contents io.Reader) error {
	for size > 0 {
		block, err := t.next(contents, size)
		if err != nil {
			return err
		}
		if err := writeAll(fd, block); err != nil {
			return t.fail("writing to file", name, err)
		}
		size -= int64(len(block))
	}
	return nil
}

// finish gives a file that has its contents the metadata.
func (t *restorer) finish(fd int, name string, executable bool) error {
	if t.canonical != nil {
		if err := t.canonical.file(fd, kindOf(executable)); err != nil {
			return t.fail("changing metadata of file", name, err)
		}
		return nil
	}
	if !executable {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return t.fail("getting status of", name, err)
	}
	if err := unix.Fchmod(fd, st.Mode&07777|0o111); err != nil {
		return t.fail("changing mode of", name, err)
	}
	return nil
}

// next is some of the size bytes that are left of a file.
func (t *restorer) next(contents io.Reader, size int64) ([]byte, error) {
	if l, ok := contents.(Lender); ok {
		return l.Lend(int(min(size, BlockSize)))
	}
	block := t.block(size)
	n, err := contents.Read(block)
	return block[:n], err
}

// block is a buffer for the next part of a file of which size bytes are left.
func (t *restorer) block(size int64) []byte {
	want := min(size, BlockSize)
	if int64(len(t.buf)) < want {
		t.buf = make([]byte, max(want, 4<<10))
	}
	return t.buf[:want]
}

func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
