package gc

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/pathlock"
)

// temporary reads the temporary roots of living processes.
func (f *finder) temporary() error {
	dir := f.store.StateDir() + "/temproots"
	entries, err := readDir(dir)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading temporary roots: %w", err)
	}
	for _, e := range entries {
		if e.Name()[0] == '.' {
			continue
		}
		if err := f.temporaryFile(dir+"/"+e.Name(), "{temp:"+leadingDigits(e.Name())+"}"); err != nil {
			return err
		}
	}
	return nil
}

// leadingDigits is the process id in the name of a file of temporary roots.
func leadingDigits(name string) string {
	n := 0
	for n < len(name) && name[n] >= '0' && name[n] <= '9' {
		n++
	}
	return name[:n]
}

func (f *finder) temporaryFile(name, from string) error {
	file, err := os.OpenFile(name, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening temporary roots: %w", err)
	}
	keep := false
	defer func() {
		if keep {
			f.frozen = append(f.frozen, file)
		} else {
			file.Close()
		}
	}()
	dead, err := tryLock(file, pathlock.Exclusive)
	if err == nil && !dead {
		// Nix before 2.5 shares the lock, and takes it for itself to add roots
		keep, err = tryLock(file, pathlock.Shared)
	}
	switch {
	case err != nil:
		return fmt.Errorf("locking temporary roots '%s': %w", name, err)
	case dead:
		f.bury(file)
		return nil
	}
	if err := f.readTemporary(file, from); err != nil {
		return fmt.Errorf("reading temporary roots '%s': %w", name, err)
	}
	return nil
}

func tryLock(file *os.File, kind pathlock.Kind) (bool, error) {
	return pathlock.LockFD(int(file.Fd()), kind, pathlock.Try)
}

// bury removes the locked file of an owner that died. If it has no name any
// more, a new process has put its own file there.
func (f *finder) bury(file *os.File) {
	var st unix.Stat_t
	if !f.tidy || unix.Fstat(int(file.Fd()), &st) != nil || st.Nlink == 0 {
		return
	}
	if os.Remove(file.Name()) == nil {
		_, _ = file.WriteString("d") // for a new owner that has it open and waits
	}
}

// release lets owners of temporary roots add to them again.
func (f *finder) release() {
	for _, file := range f.frozen {
		file.Close()
	}
	f.frozen = nil
}

// readTemporary reads paths that each end with a NUL byte. An owner may be
// about to write another one: an incomplete path at the end is not one yet.
func (f *finder) readTemporary(r io.Reader, from string) error {
	in := bufio.NewReader(r)
	tooLong := false
	for {
		text, err := in.ReadSlice(0)
		switch {
		case err == io.EOF:
			return nil
		case err == bufio.ErrBufferFull:
			tooLong = true
			continue
		case err != nil:
			return err
		}
		if p, err := f.store.Dir().Parse(string(text[:len(text)-1])); err == nil && !tooLong {
			f.roots[Root{p, from}] = true
		}
		tooLong = false
	}
}
