package remote

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"gobuild/internal/protocol"
	"gobuild/internal/store"
	"gobuild/internal/store/archive"
	"gobuild/internal/store/digest"
	"gobuild/internal/store/nar"
	"gobuild/internal/store/storepath"
)

// A Transfer is told of each path before it is moved.
type Transfer func(p storepath.Path)

// Upload makes paths valid on the other side, a closure, of which it moves
// what is not valid there; with substitute, the other side may fetch that from
// its caches first. What is valid there stays so while the connection lives.
// *protocol.LostErrors are the other side's fault, others are not.
func (c *Conn) Upload(s *store.Store, paths []storepath.Path, substitute bool, told Transfer) error {
	valid, err := c.ValidPaths(paths, protocol.ValidOptions{Lock: true, Substitute: substitute})
	if err != nil {
		return err
	}
	missing := slices.DeleteFunc(slices.Clone(paths), func(p storepath.Path) bool {
		_, there := slices.BinarySearch(valid, p)
		return there
	})
	if len(missing) == 0 {
		return nil
	}
	if missing, err = s.Topological(missing); err != nil {
		return err
	}
	if c.HasNars() {
		return c.addNars(s, missing, told)
	}
	for _, p := range missing {
		told(p)
	}
	return c.ImportPaths(func(w *protocol.Writer) error { return archive.Export(w, s, missing) })
}

// addNars does not wait for one path to be valid before it sends the next: a
// far machine would be idle for most of the time.
func (c *Conn) addNars(s *store.Store, paths []storepath.Path, told Transfer) error {
	confirmed := make(chan error, 1)
	go func() {
		for _, p := range paths {
			if err := c.FinishAddNar(p); err != nil {
				c.in.Close() // wakes the sender, should it wait for room
				confirmed <- err
				return
			}
		}
		confirmed <- nil
	}()
	err := c.sendNars(s, paths, told)
	if err != nil {
		c.in.Close() // the far side ends, and so does the wait for it
	}
	if lost := <-confirmed; lost != nil && (err == nil || isLost(err)) {
		return lost // it knows better: the sender only sees a closed pipe
	}
	return err
}

func (c *Conn) sendNars(s *store.Store, paths []storepath.Path, told Transfer) error {
	for _, p := range paths {
		info, err := s.Info(p)
		if err != nil {
			return err
		}
		if info.NarSize == 0 || info.NarHash.IsZero() {
			if err := measure(s, &info); err != nil {
				return err
			}
		}
		told(p)
		err = c.StartAddNar(sent(&info), func(w *protocol.Writer) error { return archive.Send(w, s, &info) })
		if err != nil {
			return err
		}
	}
	return c.Flush()
}

func isLost(err error) bool {
	var lost *protocol.LostError
	return errors.As(err, &lost)
}

// measure finds out what the database does not know.
func measure(s *store.Store, info *store.Info) error {
	sum := digest.SHA256.New()
	var size counter
	if err := nar.Dump(io.MultiWriter(sum, &size), s.RealPath(info.Path)); err != nil {
		return fmt.Errorf("reading path '%s': %w", info.Path, err)
	}
	info.NarHash, info.NarSize = digest.FromHash(digest.SHA256, sum), uint64(size)
	return nil
}

type counter uint64

func (n *counter) Write(b []byte) (int, error) {
	*n += counter(len(b))
	return len(b), nil
}

// sent is what the other side is told of a path. That it was built here means
// nothing there.
func sent(info *store.Info) *protocol.PathInfo {
	return &protocol.PathInfo{
		Path: info.Path, Deriver: info.Deriver, NarHash: info.NarHash, NarSize: info.NarSize,
		References: info.References, Registered: info.Registered, Sigs: info.Sigs, CA: info.CA,
	}
}

// A Wanted is a path to be fetched.
type Wanted struct {
	Path    storepath.Path
	Deriver storepath.Path
	// CA is what the contents must be, if that is known before; otherwise the
	// other side may say so, and what it says is verified.
	CA storepath.ContentAddress
}

// Download makes paths valid here that are valid on the other side and not
// here. They may refer to each other; all else that they refer to must be
// valid here.
func (c *Conn) Download(s *store.Store, wanted []Wanted, told Transfer) error {
	paths := make([]storepath.Path, len(wanted))
	for i, w := range wanted {
		paths[i] = w.Path
	}
	if !c.HasNars() {
		return c.downloadExport(s, wanted, paths, told)
	}
	infos, err := c.PathInfos(paths)
	if err != nil {
		return err
	}
	if len(infos) != len(wanted) {
		return fmt.Errorf("of the paths %q, '%s' has only %d", paths, c.URI, len(infos))
	}
	for _, info := range ordered(infos) {
		told(info.Path)
		got := store.Info{
			Path: info.Path, NarHash: info.NarHash, NarSize: info.NarSize,
			References: slices.Compact(slices.Sorted(slices.Values(info.References))), Sigs: info.Sigs, CA: info.CA,
		}
		wanted[slices.Index(paths, info.Path)].complete(&got)
		err := c.DumpPath(info.Path, func(r *protocol.Reader) error { return archive.Receive(s, got, r) })
		if err != nil {
			return err
		}
	}
	return nil
}

// complete adds what is known here, which counts more than what is said there.
func (w *Wanted) complete(info *store.Info) {
	info.Deriver = w.Deriver
	if w.CA.Digest.IsSet() {
		info.CA = w.CA
	}
}

// downloadExport fetches from a side too old to say what the contents are.
func (c *Conn) downloadExport(s *store.Store, wanted []Wanted, paths []storepath.Path, told Transfer) error {
	judge := func(info *store.Info) error {
		i := slices.Index(paths, info.Path)
		if i < 0 {
			return fmt.Errorf("'%s' has sent the path '%s', which nobody asked for", c.URI, info.Path)
		}
		told(info.Path)
		wanted[i].complete(info)
		return nil
	}
	return c.ExportPaths(paths, func(r *protocol.Reader) error {
		got, err := archive.Import(r, s, judge)
		if err == nil && len(got) < len(wanted) {
			err = fmt.Errorf("of the paths %q, '%s' has sent only %d", paths, c.URI, len(got))
		}
		return err
	})
}

// ordered puts what is referred to before what refers to it. References that
// go round in a circle are left to registration to refuse.
func ordered(infos []protocol.PathInfo) []protocol.PathInfo {
	var out []protocol.PathInfo
	rest := slices.Clone(infos)
	for len(rest) > 0 {
		i := slices.IndexFunc(rest, func(info protocol.PathInfo) bool {
			return !slices.ContainsFunc(rest, func(other protocol.PathInfo) bool {
				return other.Path != info.Path && slices.Contains(info.References, other.Path)
			})
		})
		i = max(i, 0)
		out = append(out, rest[i])
		rest = slices.Delete(rest, i, i+1)
	}
	return out
}
