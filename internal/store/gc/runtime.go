package gc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"gobuild/internal/store"
)

// kernelPrograms are names of programs that the kernel may start.
var kernelPrograms = []string{"sys/kernel/modprobe", "sys/kernel/fbsplash", "sys/kernel/poweroff_cmd"}

// someNames is how many names of a directory are read at a time.
const someNames = 1024

// runtime looks for what running programs use: any mention of the store in
// what proc tells of them.
func (f *finder) runtime(proc string) error {
	scan := newPathScan(f.dirs())
	pids, err := os.ReadDir(proc)
	if err != nil {
		return unlessUnreachable(err)
	}
	for _, name := range kernelPrograms {
		if err := f.contents(scan, proc+"/"+name); err != nil {
			return err
		}
	}
	for _, e := range pids {
		if pid := e.Name(); leadingDigits(pid) == pid {
			if err := f.process(scan, proc+"/"+pid); err != nil {
				return fmt.Errorf("looking for what process %s uses: %w", pid, err)
			}
		}
	}
	return nil
}

func (f *finder) process(scan *pathScan, dir string) error {
	return errors.Join(
		f.target(scan, dir+"/exe"),
		f.target(scan, dir+"/cwd"),
		f.openFiles(scan, dir+"/fd"),
		f.contents(scan, dir+"/maps"),
		f.contents(scan, dir+"/environ"),
	)
}

func (f *finder) target(scan *pathScan, link string) error {
	target, err := os.Readlink(link)
	if err == nil {
		err = scan.read(strings.NewReader(target), f.mentioned(link))
	}
	return unlessGone(err)
}

func (f *finder) openFiles(scan *pathScan, dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return unlessGone(err)
	}
	defer d.Close()
	for {
		names, err := d.Readdirnames(someNames)
		for _, name := range names {
			if err := f.target(scan, dir+"/"+name); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return unlessGone(err)
		}
	}
}

func (f *finder) contents(scan *pathScan, name string) error {
	file, err := os.Open(name)
	if err != nil {
		return unlessGone(err)
	}
	defer file.Close()
	return unlessGone(scan.read(file, f.mentioned(name)))
}

// mentioned takes the hash parts that from mentions.
func (f *finder) mentioned(from string) func(string) error {
	return func(hashPart string) error {
		p, known := f.byHash[hashPart]
		if !known {
			var err error
			if p, err = f.store.ByHashPart(hashPart); err != nil && !errors.Is(err, store.ErrInvalidPath) {
				return err
			}
			f.byHash[hashPart] = p
		}
		if p != "" {
			f.roots[Root{p, from}] = true
		}
		return nil
	}
}

// unlessGone forgives that a process ended, or is not ours to look at.
func unlessGone(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return unlessUnreachable(err)
}
