package netprogram

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// embedded skips a test where "make" has not built the program.
func embedded(t *testing.T) {
	t.Helper()
	if _, err := fs.Stat(files, "program/"+Name); errors.Is(err, fs.ErrNotExist) {
		t.Skip("skipped: the network program has not been built; run 'make'")
	}
}

// The embedded program can be executed from memory, without a job names those
// that it knows, and cannot be changed through its descriptor.
func TestEmbedded(t *testing.T) {
	embedded(t)
	var p Program
	fd, err := p.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if again, err := p.Open(); err != nil || again != fd {
		t.Errorf("opened again: %d, %v; want %d", again, err, fd)
	}
	if _, err := unix.Write(fd, []byte("x")); !errors.Is(err, unix.EBADF) {
		t.Errorf("writing to the program: %v, want %v", err, unix.EBADF)
	}
	f := os.NewFile(uintptr(fd), Name)
	cmd := &exec.Cmd{Path: "/proc/self/fd/3", Args: []string{Name}, ExtraFiles: []*os.File{f}}
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 2 {
		t.Fatalf("started without a job: %v, want exit status 2", err)
	}
	if !strings.HasPrefix(string(out), "error: gobuild-net is started by gobuild") {
		t.Errorf("started without a job it says %q", out)
	}
}

func TestBeside(t *testing.T) {
	dir := t.TempDir()
	self := filepath.Join(dir, "gobuild")
	fd, err := openBeside(self)
	if err == nil {
		unix.Close(fd)
		t.Fatal("a program was found where there is none")
	}
	if !strings.Contains(err.Error(), filepath.Join(dir, Name)) || !strings.Contains(err.Error(), "make") {
		t.Errorf("the error does not say what is missing and how to get it: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, Name), []byte("program"), 0o755); err != nil {
		t.Fatal(err)
	}
	if fd, err = openBeside(self); err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), Name)
	defer f.Close()
	buf := make([]byte, 16)
	if n, _ := f.Read(buf); string(buf[:n]) != "program" {
		t.Errorf("read %q from the program", buf[:n])
	}
}

// The program is kept for the next run where nobody else can write, and only
// there; what was changed is replaced.
func TestKept(t *testing.T) {
	embedded(t)
	dir := filepath.Join(t.TempDir(), "cache")
	open := func() os.FileInfo {
		t.Helper()
		p := Program{Dir: dir}
		fd, err := p.Open()
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), Name)
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	files := func() []string {
		found, _ := filepath.Glob(dir + "/*")
		return found
	}
	first := open()
	if len(files()) != 1 || first.Mode() != 0o555 {
		t.Fatalf("kept: %v, mode %v", files(), first.Mode())
	}
	if again := open(); !os.SameFile(first, again) {
		t.Error("it was made again")
	}
	if err := os.WriteFile(dir+"/"+Name+"-old", nil, 0o555); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(files()[0]); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files()[0], []byte("something else"), 0o555); err != nil {
		t.Fatal(err)
	}
	if next := open(); next.Size() != first.Size() || len(files()) != 1 {
		t.Errorf("size %d, want %d; kept: %v", next.Size(), first.Size(), files())
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	kept, err := os.Stat(files()[0])
	if err != nil {
		t.Fatal(err)
	}
	if shared := open(); os.SameFile(shared, kept) {
		t.Error("what others can replace was executed")
	}
}
