package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/fstree"
	"gobuild/internal/store/nar"
	"gobuild/internal/store/storepath"
)

// openSource delivers the archive of the tree at path, or, unless the method
// is NAR, the contents of the file that it leads to.
func openSource(m storepath.Method, path string) (io.ReadCloser, error) {
	if m == storepath.NAR {
		return dumpReader(path), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening file '%s': %w", path, errors.Unwrap(err))
	}
	return f, nil
}

// A dumping is an archive that is made as it is read: a coroutine hands over
// the blocks, without copying and without a second thread of control.
type dumping struct {
	next func() ([]byte, bool)
	stop func()
	rest []byte
	err  error
}

func dumpReader(path string) *dumping {
	d := &dumping{}
	d.next, d.stop = iter.Pull(func(yield func([]byte) bool) {
		d.err = nar.Dump(yieldWriter(yield), path)
	})
	return d
}

// A yieldWriter passes on what is written; the writer waits until the reader
// is through with it.
type yieldWriter func([]byte) bool

var errNotWanted = errors.New("the reader has gone")

func (w yieldWriter) Write(b []byte) (int, error) {
	if len(b) > 0 && !w(b) {
		return 0, errNotWanted
	}
	return len(b), nil
}

// Read delivers the archive.
func (d *dumping) Read(b []byte) (int, error) {
	for len(d.rest) == 0 {
		block, ok := d.next()
		if !ok {
			if d.err != nil {
				return 0, d.err
			}
			return 0, io.EOF
		}
		d.rest = block
	}
	n := copy(b, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

// Close ends the walk of the tree.
func (d *dumping) Close() error {
	d.stop()
	return nil
}

// hashTree hashes the archive of a tree and counts its bytes.
func hashTree(path string, a digest.Algorithm) (digest.Digest, uint64, error) {
	sum, n := a.New(), byteCount(0)
	if err := nar.Dump(io.MultiWriter(sum, &n), path); err != nil {
		return digest.Digest{}, 0, err
	}
	return digest.FromHash(a, sum), uint64(n), nil
}

type byteCount uint64

func (n *byteCount) Write(b []byte) (int, error) {
	*n += byteCount(len(b))
	return len(b), nil
}

// ContentsGood tells whether the files of the valid path p are what was
// registered. A path whose hash is not known is good. Answers are remembered.
func (s *Store) ContentsGood(p storepath.Path) (bool, error) {
	if good, ok := s.good[p]; ok {
		return good, nil
	}
	var info Info
	err := s.retry(func() (err error) {
		info, _, err = s.row(p)
		return err
	})
	if err != nil {
		return false, err
	}
	good := info.NarHash.IsZero()
	if !good {
		sum, _, err := hashTree(s.RealPath(p), info.NarHash.Algorithm())
		var fault *fstree.TreeError
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.As(err, &fault) {
			return false, fmt.Errorf("checking path '%s': %w", p, err)
		}
		good = err == nil && sum == info.NarHash
	}
	s.SetContentsGood(p, good)
	return good, nil
}

// RememberedContents is the answer of ContentsGood if there has been one.
func (s *Store) RememberedContents(p storepath.Path) (good, known bool) {
	good, known = s.good[p]
	return good, known
}

// ForgetContents drops a remembered answer: somebody else may have repaired the
// path.
func (s *Store) ForgetContents(p storepath.Path) { delete(s.good, p) }

// SetContentsGood replaces the remembered answer, after a repair or a check
// elsewhere.
func (s *Store) SetContentsGood(p storepath.Path, good bool) {
	if s.good == nil {
		s.good = map[storepath.Path]bool{}
	}
	s.good[p] = good
}
