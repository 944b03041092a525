package fetch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"gobuild/internal/cache"
	"gobuild/internal/cache/wire"
	"gobuild/internal/store/digest"
	"gobuild/internal/store/finalise"
	"gobuild/internal/store/fstree"
	"gobuild/internal/store/nar"
	"gobuild/internal/store/optimise"
	"gobuild/internal/store/storepath"
)

// load answers a Fetch or Log request.
func (s *server) load(ctx context.Context, j *job) *wire.Reply {
	reply, err := s.tryLoad(ctx, j)
	if err == nil {
		return reply
	}
	down := isDown(err)
	gone := down || errors.Is(err, cache.ErrAbsent)
	if ctx.Err() != nil {
		err = errCancelled
	}
	return &wire.Reply{Kind: wire.Failed, Error: err.Error(), Gone: gone, Down: down}
}

func (s *server) tryLoad(ctx context.Context, j *job) (*wire.Reply, error) {
	path, err := s.dir.ParseExact(j.Path)
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(j.Dest); !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot unpack '%s' at '%s': something is there already", path, j.Dest)
	}
	if j.Op == wire.Log {
		return s.log(ctx, j, path)
	}
	o, err := s.takeOffer(ctx, path, j.Source)
	if err != nil {
		return nil, fmt.Errorf("fetching path '%s': %w", path, err)
	}
	t := &transfer{server: s, offer: o, path: path, dest: j.Dest, links: j.Links, meter: newMeter(ctx, s.out, j.ID)}
	if err := t.run(ctx); err != nil {
		if _, e := fstree.RemoveAll(j.Dest); e != nil {
			err = fmt.Errorf("%w; and %w", err, e)
		}
		return nil, t.blame(err)
	}
	return &wire.Reply{
		Kind: wire.Fetched, Downloaded: t.meter.taken.Load(), Unpacked: o.info.NarSize,
		LinkedFiles: uint64(t.saved.Files), LinkedBytes: uint64(t.saved.Bytes),
	}, nil
}

// A transfer is one path on its way from a cache to its place.
type transfer struct {
	*server
	*offer
	path  storepath.Path
	dest  string
	links string
	meter *meter
	saved optimise.Stats
}

// A mismatchError means that what came is not what was promised.
type mismatchError struct {
	what           string
	path           storepath.Path
	specified, got string
}

func (e *mismatchError) Error() string {
	return fmt.Sprintf("%s mismatch importing path '%s';\n  specified: %s\n  got:       %s", e.what, e.path, e.specified, e.got)
}

// blame names the cache and the path where the error does not.
func (t *transfer) blame(err error) error {
	var mismatch *mismatchError
	switch {
	case errors.As(err, &mismatch):
		return fmt.Errorf("cache '%s': %w", t.uri, err)
	case isDown(err):
		return fmt.Errorf("fetching path '%s': %w", t.path, err)
	}
	return fmt.Errorf("cache '%s': fetching path '%s': %w", t.uri, t.path, err)
}

// run makes the tree, or some of it.
func (t *transfer) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if t.info.NarSize > largeNar {
		select {
		case t.large <- struct{}{}:
			defer func() { <-t.large }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	address, err := newAddress(t.path, t.info.CA, t.self)
	if err != nil {
		return err
	}
	file, err := t.set.OpenNar(ctx, t.source, t.info)
	if err != nil {
		return err
	}
	defer file.Close()
	t.meter.from, t.meter.limit = file, t.info.FileSize // which OpenNar may have changed
	t.meter.most = longest(t.info.NarSize)
	archive, err := t.decoders.NewReader(t.info.Compression, t.meter)
	if err != nil {
		return err
	}
	defer archive.Close()
	a := &arrival{transfer: t, in: archive, hash: sha256.New(), address: address}
	if t.info.NarSize <= nar.BlockSize {
		err = a.whole()
	} else {
		err = a.inBlocks(cancel)
	}
	if err != nil {
		return err
	}
	return t.finish(a)
}

// finish does what comes after the bytes.
func (t *transfer) finish(a *arrival) error {
	if err := a.address.checkKind(t.path, t.dest); err != nil {
		return err
	}
	if !a.exact {
		if err := finalise.Canonicalise(t.dest, finalise.Options{Name: string(t.path), KeepXattrs: t.cfg.KeepXattrs}); err != nil {
			return err
		}
	}
	if t.links != "" {
		var err error
		t.saved, err = optimise.Tree(t.dest, optimise.Options{Links: t.links, Name: string(t.path), Sums: t.sums(), Warn: t.warn})
		if err != nil {
			return err
		}
	}
	if !t.cfg.Fsync {
		return nil
	}
	dir := filepath.Dir(t.dest)
	fd, err := fstree.OpenAt(unix.AT_FDCWD, dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.Syncfs(fd) // waits less than one call per file
		unix.Close(fd)
	}
	if err != nil {
		return fmt.Errorf("writing '%s' to disk: %w", dir, err)
	}
	return nil
}

// sums spares reading a tree that is a single file again: its archive's hash is
// known. In other trees it is not that of any file.
func (t *transfer) sums() []optimise.Sum {
	var st unix.Stat_t
	if unix.Lstat(t.dest, &st) != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return nil
	}
	return []optimise.Sum{{Inode: st.Ino, Hash: [32]byte(t.info.NarHash.Bytes())}}
}

// checkHash compares what has been hashed with what was promised.
func (a *arrival) checkHash() error {
	got := digest.FromHash(digest.SHA256, a.hash)
	if got != a.info.NarHash {
		return &mismatchError{"hash", a.path, a.info.NarHash.String(), got.String()}
	}
	return a.address.checkHash(a.path, got)
}
