package fstree

import (
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxOpen bounds the directories that a descent keeps open at a time.
const maxOpen = 64

// A Descent is the way from a tree's top to the directory being worked on.
// Deep down, the upper directories are closed, and opened again through ".."
// on the way back; they must then be the very directories they were.
type Descent struct {
	levels []level
	oldest int // the first level whose descriptor is open
}

type level struct {
	fd       int
	dev, ino uint64 // known once the descriptor has been closed
	name     string
}

// Depth is the number of directories entered.
func (d *Descent) Depth() int { return len(d.levels) }

// FD is the directory being worked on. The descent owns it.
func (d *Descent) FD() int { return d.levels[len(d.levels)-1].fd }

// Enter goes down into fd, which the descent takes over, also on failure.
func (d *Descent) Enter(fd int, name string) error {
	d.levels = append(d.levels, level{fd: fd, name: name})
	if len(d.levels)-d.oldest <= maxOpen {
		return nil
	}
	up := &d.levels[d.oldest]
	var st unix.Stat_t
	if err := unix.Fstat(up.fd, &st); err != nil {
		return err
	}
	up.dev, up.ino = st.Dev, st.Ino
	unix.Close(up.fd)
	up.fd = -1
	d.oldest++
	return nil
}

// Leave goes back up.
func (d *Descent) Leave() error {
	err := d.openParent()
	last := len(d.levels) - 1
	unix.Close(d.levels[last].fd)
	d.levels = d.levels[:last]
	return err
}

// openParent makes sure that the directory above is open. It needs search
// permission on the current one.
func (d *Descent) openParent() error {
	last := len(d.levels) - 1
	if last == 0 || d.oldest < last {
		return nil
	}
	up := &d.levels[last-1]
	fd, err := OpenAt(d.levels[last].fd, "..", openDir, 0)
	if err != nil {
		return fmt.Errorf("going back up to '%s': %w", up.name, err)
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && (st.Dev != up.dev || st.Ino != up.ino) {
		err = fmt.Errorf("directory '%s' was moved while being walked", up.name)
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	up.fd, d.oldest = fd, last-1
	return nil
}

// Close lets go of every directory.
func (d *Descent) Close() {
	for _, l := range d.levels[min(d.oldest, len(d.levels)):] {
		unix.Close(l.fd)
	}
	d.levels, d.oldest = nil, 0
}

// maxPath bounds the length in bytes of paths in messages, about.
const maxPath = 4096

// path is top, the names of the directories on the way to that depth, and
// name. The middle of a path that is too long to read is left out.
func (d *Descent) path(top string, depth int, name string) string {
	var b strings.Builder
	b.WriteString(top)
	for i := 1; i < depth; i++ {
		b.WriteByte('/')
		if b.Len() > maxPath {
			b.WriteString("...")
			break
		}
		b.WriteString(d.levels[i].name)
	}
	b.WriteByte('/')
	b.WriteString(name)
	return b.String()
}

// cut splits a path into the directory and the last component.
func cut(path string) (dir, base string) {
	path = filepath.Clean(path)
	return filepath.Dir(path), filepath.Base(path)
}
