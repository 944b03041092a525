// Package netprogram finds the network program, which the main one carries
// along so that its own start does not pay for a network's libraries.
package netprogram

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Name is that of the program, as its file beside the main program is called
// and as it is told its own name.
const Name = "gobuild-net"

// Path is what to execute for a descriptor of the program.
func Path(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

//go:embed program
var files embed.FS

// A Program is the network program, to be opened when it is first needed. The
// zero value is ready. It is not safe for concurrent use.
type Program struct {
	// Dir is where the program is kept between runs; "" keeps it nowhere.
	Dir string

	fd int // 0: not yet opened
}

// Open returns a descriptor of the program that can be executed as Path says.
// It belongs to the Program and stays open for as long as the process lives.
func (p *Program) Open() (fd int, err error) {
	if p.fd == 0 {
		if p.fd, err = open(p.Dir); err != nil {
			p.fd = 0
			return -1, err
		}
	}
	return p.fd, nil
}

// Open returns a new descriptor of the program, for the caller to close. Each
// one is a copy in memory where the program is embedded: who starts it more
// than once wants a Program.
func Open() (fd int, err error) { return open("") }

func open(dir string) (fd int, err error) {
	image, err := embeddedImage()
	if err == nil {
		if dir != "" {
			if fd, err := keptProgram(dir, image); err == nil {
				return fd, nil
			}
		}
		if fd, err = memoryProgram(image); err != nil {
			return -1, fmt.Errorf("preparing the network program '%s': %w", Name, err)
		}
		return fd, nil
	}
	self, err := os.Executable()
	if err != nil {
		return -1, fmt.Errorf("looking for the network program '%s': %w", Name, err)
	}
	return openBeside(self)
}

// An image is the program as it is embedded. It is read in pieces: a copy of
// the whole would cost as much as everything else.
type image struct {
	io.ReaderAt
	size int64
}

func embeddedImage() (image, error) {
	f, err := files.Open("program/" + Name)
	if err != nil {
		return image{}, err
	}
	info, err := f.Stat()
	if err != nil {
		return image{}, err
	}
	at, ok := f.(io.ReaderAt)
	if !ok {
		return image{}, errors.New("embedded files cannot be read in pieces")
	}
	return image{at, info.Size()}, nil
}

// copyTo writes the whole image.
func (i image) copyTo(w *os.File) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{io.NewSectionReader(i, 0, i.size)}, make([]byte, 256<<10))
	return err
}

func openBeside(self string) (int, error) {
	name := filepath.Join(filepath.Dir(self), Name)
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return -1, fmt.Errorf("this gobuild was built without its network program, and '%s' does not exist; build both with 'make'", name)
	case err != nil:
		return -1, fmt.Errorf("opening the network program '%s': %w", name, err)
	}
	return fd, nil
}

// memoryProgram makes a file in memory that can be executed. The descriptor is
// for reading only: a file that is open for writing cannot be executed.
func memoryProgram(i image) (int, error) {
	w, err := unix.MemfdCreate(Name, unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // a kernel that does not know the flag
		w, err = unix.MemfdCreate(Name, unix.MFD_CLOEXEC)
	}
	if err != nil {
		return -1, fmt.Errorf("creating a memory file: %w", err)
	}
	f := os.NewFile(uintptr(w), Name)
	defer f.Close()
	if err := i.copyTo(f); err != nil {
		return -1, fmt.Errorf("writing a memory file: %w", err)
	}
	if err := unix.Access(Path(w), unix.X_OK); err != nil {
		return -1, fmt.Errorf("executing a memory file: %w", err)
	}
	return unix.Open(Path(w), unix.O_RDONLY|unix.O_CLOEXEC, 0)
}
