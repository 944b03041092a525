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
func Restore(r io.Reader, dest string) error {
	dest = filepath.Clean(dest)
	dir, err := fstree.OpenAt(unix.AT_FDCWD, filepath.Dir(dest), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening the directory of '%s': %w", dest, err)
	}
	defer unix.Close(dir)
	t := &restorer{dest: dest, dir: dir}
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
	t.names = t.names[:len(t.names)-1]
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
	return nil
}

func (t *restorer) File(name string, executable bool, size int64, contents io.Reader) error {
	dir, component := t.at(name)
	fd, err := fstree.OpenAt(dir, component, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o666)
	if err != nil {
		return t.fail("creating file", name, err)
	}
	err = t.write(fd, name, executable, size, contents)
	if e := unix.Close(fd); e != nil && err == nil {
		err = t.fail("closing file", name, e)
	}
	return err
}

func (t *restorer) write(fd int, name string, executable bool, size int64, contents io.Reader) error {
	if executable {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return t.fail("getting status of", name, err)
		}
		if err := unix.Fchmod(fd, st.Mode&07777|0o111); err != nil {
			return t.fail("changing mode of", name, err)
		}
	}
	for size > 0 {
		block := t.block(size)
		n, err := contents.Read(block)
		if err != nil {
			return err
		}
		if err := writeAll(fd, block[:n]); err != nil {
			return t.fail("writing to file", name, err)
		}
		size -= int64(n)
	}
	return nil
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
