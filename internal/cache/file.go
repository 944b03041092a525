package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A directory is a cache at file://.
type directory struct {
	dir     string
	counter atomic.Int64 // of temporary files
}

func newDirectory(a *address) (*directory, error) {
	if h := a.url.Host; h != "" && h != "localhost" || !filepath.IsAbs(a.url.Path) && a.url.Path != "" {
		return nil, fmt.Errorf("the cache '%s' is not an absolute path: write 'file:///…'", a.url)
	}
	return &directory{dir: filepath.Clean("/" + a.url.Path)}, nil
}

func (d *directory) URI() string { return "file://" + d.dir }

// path finds a name in the cache. Links are followed: what is in the directory
// is its owner's business, but names come from narinfo files.
func (d *directory) path(name string) (string, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	return filepath.Join(d.dir, name), nil
}

func (d *directory) Get(_ context.Context, name string) (*Body, error) {
	path, err := d.path(name)
	if err != nil {
		return nil, err
	}
	// Without waiting for the writer of a pipe that somebody put there.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, d.fault("opening", name, err)
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err != nil {
		f.Close()
		return nil, d.fault("opening", name, err)
	}
	return &Body{ReadCloser: f, Size: st.Size()}, nil
}

// fault explains an error, and tells a file that is not there from a cache that
// is not there: the disk may come back.
func (d *directory) fault(doing, name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		if _, e := os.Stat(d.dir); errors.Is(e, fs.ErrNotExist) {
			return &DownError{URI: d.URI(), Err: fmt.Errorf("the directory '%s' does not exist", d.dir)}
		}
		return fmt.Errorf("%s '%s' in '%s': %w", doing, name, d.URI(), ErrAbsent)
	}
	var at *fs.PathError
	if errors.As(err, &at) {
		err = at.Err
	}
	return fmt.Errorf("%s '%s' in '%s': %w", doing, name, d.URI(), err)
}

func (d *directory) Exists(_ context.Context, name string) (bool, error) {
	path, err := d.path(name)
	if err != nil {
		return false, err
	}
	_, err = os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, d.fault("looking for", name, err)
	}
	return true, nil
}

// Put writes beside the file's place and renames; a crash leaves a name that
// nothing reads.
func (d *directory) Put(ctx context.Context, name, _ string, body io.Reader, _ int64) error {
	path, err := d.path(name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return fmt.Errorf("writing '%s' to '%s': %w", name, d.URI(), err)
	}
	temp := fmt.Sprintf("%s.tmp.%d.%d", path, os.Getpid(), d.counter.Add(1))
	if err := writeFile(ctx, temp, body); err != nil {
		os.Remove(temp)
		return fmt.Errorf("writing '%s' to '%s': %w", name, d.URI(), err)
	}
	if err := os.Rename(temp, path); err != nil {
		os.Remove(temp)
		return fmt.Errorf("writing '%s' to '%s': %w", name, d.URI(), err)
	}
	return nil
}

func writeFile(ctx context.Context, path string, body io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, readerUntil{ctx, body})
	return errors.Join(err, f.Close())
}

// readerUntil reads until its context ends.
type readerUntil struct {
	ctx context.Context
	io.Reader
}

func (r readerUntil) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}
