package archive

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"gobuild/internal/store"
	"gobuild/internal/store/digest"
	"gobuild/internal/store/finalise"
	"gobuild/internal/store/nar"
	"gobuild/internal/store/optimise"
	"gobuild/internal/store/refscan"
	"gobuild/internal/store/storepath"
)

// Receive reads one archive from r, not a byte more, and makes it valid as
// info says. Hash and size must be set and are verified, as is a content
// address. If the path is valid already, the archive is passed over. What the
// path refers to must be valid, but for itself. It waits for the path's lock.
func Receive(s *store.Store, info store.Info, r io.Reader) error {
	if err := s.AddTempRoots(info.Path); err != nil {
		return err
	}
	r = &sizedReader{r: r, left: info.NarSize, path: info.Path}
	if valid, err := s.IsValid(info.Path); err != nil {
		return err
	} else if valid {
		return nar.Skip(r)
	}
	tree, err := unpack(s, r)
	if err != nil {
		return fmt.Errorf("receiving path '%s': %w", info.Path, err)
	}
	defer tree.Remove()
	switch {
	case tree.size != info.NarSize:
		return &MismatchError{string(info.Path), fmt.Sprintf("%d bytes", info.NarSize), fmt.Sprintf("%d bytes", tree.size)}
	case tree.hash != info.NarHash:
		return &MismatchError{string(info.Path), info.NarHash.SRI(), tree.hash.SRI()}
	}
	return tree.adopt(s, info)
}

// A sizedReader ends an archive that is longer than announced, lest it fill
// the disk.
type sizedReader struct {
	r    io.Reader
	left uint64
	path storepath.Path
}

func (s *sizedReader) Read(b []byte) (int, error) {
	if s.left == 0 && len(b) > 0 {
		return 0, fmt.Errorf("the archive of '%s' is longer than announced", s.path)
	}
	if uint64(len(b)) > s.left {
		b = b[:s.left]
	}
	n, err := s.r.Read(b)
	s.left -= uint64(n)
	return n, err
}

// A tree has come from elsewhere and has no path yet.
type tree struct {
	*store.TempDir
	hash digest.Digest // SHA-256 of its archive
	size uint64        // of its archive, in bytes
}

func (t *tree) path() string { return t.Path + "/x" }

// unpack makes the tree of one archive in a place of its own. The caller
// removes it.
func unpack(s *store.Store, r io.Reader) (*tree, error) {
	tmp, err := s.NewTempDir()
	if err != nil {
		return nil, err
	}
	t := &tree{TempDir: tmp}
	sum := counter{Hash: digest.SHA256.New()}
	exact, err := nar.RestoreCanonical(io.TeeReader(r, &sum), t.path(), s.KeepXattrs())
	if err == nil && !exact {
		err = finalise.Canonicalise(t.path(), finalise.Options{Name: t.path(), KeepXattrs: s.KeepXattrs()})
	}
	if err != nil {
		t.Remove()
		return nil, err
	}
	t.hash, t.size = digest.FromHash(digest.SHA256, &sum), sum.n
	return t, nil
}

// A counter is a hash that knows how much it was fed.
type counter struct {
	hash.Hash
	n uint64
}

func (c *counter) Write(b []byte) (int, error) {
	c.n += uint64(len(b))
	return c.Hash.Write(b)
}

// adopt gives the tree its path, if it has the content address that is claimed.
func (t *tree) adopt(s *store.Store, info store.Info) error {
	if err := t.verify(&info); err != nil {
		return err
	}
	if links := s.Links(); links != "" {
		o := optimise.Options{Links: links, Name: string(info.Path)}
		if _, err := finalise.HashAndLink(t.path(), o); err != nil {
			return err
		}
	}
	return s.Adopt(info, t.path())
}

func (t *tree) verify(info *store.Info) error {
	if !info.CA.Digest.IsSet() {
		return nil
	}
	got, err := t.address(info)
	if err != nil {
		return fmt.Errorf("verifying the content address of path '%s': %w", info.Path, err)
	}
	if got != info.CA.Digest {
		return &MismatchError{string(info.Path), info.CA.Digest.SRI(), got.SRI()}
	}
	return nil
}

// address is what the digest of the content address should be.
func (t *tree) address(info *store.Info) (digest.Digest, error) {
	algo := info.CA.Digest.Algorithm()
	switch {
	case info.CA.Method == storepath.Flat || info.CA.Method == storepath.Text:
		return hashFile(t.path(), algo)
	case info.CA.Method != storepath.NAR:
		return digest.Digest{}, fmt.Errorf("'%s' is of a kind that is not supported", info.CA)
	case slices.Contains(info.References, info.Path):
		m, err := refscan.NewModulo(algo, info.Path.HashPart())
		if err == nil {
			err = nar.Dump(m, t.path())
		}
		if err != nil {
			return digest.Digest{}, err
		}
		return m.Digest(), nil
	case algo == digest.SHA256:
		return t.hash, nil
	}
	sum := algo.New()
	err := nar.Dump(sum, t.path())
	return digest.FromHash(algo, sum), err
}

// hashFile hashes the contents of what must be a plain file.
func hashFile(name string, algo digest.Algorithm) (digest.Digest, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return digest.Digest{}, fmt.Errorf("it is no regular file: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return digest.Digest{}, err
	} else if !st.Mode().IsRegular() || st.Mode()&0o100 != 0 {
		return digest.Digest{}, errors.New("it is no regular file without permission to be executed")
	}
	sum := algo.New()
	if _, err := io.Copy(sum, f); err != nil {
		return digest.Digest{}, err
	}
	return digest.FromHash(algo, sum), nil
}
