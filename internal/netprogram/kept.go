package netprogram

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A program that is carried along must be in a file to be executed. A file in
// memory serves anywhere, but making one costs more than fetching a hundred
// small paths; so the program is kept in a directory where only we can write.

// headSize is as much of a program as tells it from others: the linkers write
// hashes of its contents there.
const headSize = 4096

// head is the first part of a program.
func (i image) head() ([]byte, error) {
	head := make([]byte, min(i.size, headSize))
	_, err := i.ReadAt(head, 0)
	return head, err
}

// keptProgram opens the program in dir, after putting it there if need be.
func keptProgram(dir string, i image) (int, error) {
	if err := ownDirectory(dir); err != nil {
		return -1, err
	}
	head, err := i.head()
	if err != nil {
		return -1, err
	}
	sum := sha256.Sum256(head)
	name := filepath.Join(dir, fmt.Sprintf("%s-%x", Name, sum[:16]))
	fd, err := openKept(name, head, i.size)
	if err == nil {
		return fd, nil
	}
	if err := keep(dir, name, i); err != nil {
		return -1, err
	}
	return openKept(name, head, i.size)
}

// ownDirectory makes a directory, or checks that nobody else can write to it.
func ownDirectory(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return fmt.Errorf("others could write to '%s'", dir)
	}
	return nil
}

// openKept opens a file if it is the program and can be executed.
func openKept(name string, head []byte, size int64) (int, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return -1, err
	}
	have := make([]byte, len(head))
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil {
		_, err = unix.Pread(fd, have, 0)
	}
	if err == nil && (st.Mode != unix.S_IFREG|0o555 || int(st.Uid) != os.Geteuid() || st.Size != size || !bytes.Equal(have, head)) {
		err = errors.New("it is something else")
	}
	if err == nil {
		err = unix.Access(Path(fd), unix.X_OK) // not where nothing may be executed
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// keep writes the program and removes those of other versions. What is there
// under its name is complete, also after the machine has lost its power.
func keep(dir, name string, i image) (err error) {
	f, err := os.CreateTemp(dir, "new-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if err = i.copyTo(f); err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Chmod(0o555), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), Name+"-") && e.Name() != filepath.Base(name) {
			_ = os.Remove(filepath.Join(dir, e.Name())) // those that run go on
		}
	}
	return nil
}
