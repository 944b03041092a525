package archive

import (
	"fmt"
	"io"

	"gobuild/internal/protocol"
	"gobuild/internal/store"
	"gobuild/internal/store/digest"
	"gobuild/internal/store/nar"
	"gobuild/internal/store/storepath"
)

// Export writes valid paths, each after those of them that it refers to. A
// path whose files have changed is an error, which comes after its archive has
// been written.
func Export(w *protocol.Writer, s *store.Store, paths []storepath.Path) error {
	sorted, err := s.Topological(paths)
	if err != nil {
		return err
	}
	for _, p := range sorted {
		w.Uint64(1)
		if err := exportOne(w, s, p); err != nil {
			return err
		}
	}
	w.Uint64(0)
	return w.Flush()
}

func exportOne(w *protocol.Writer, s *store.Store, p storepath.Path) error {
	info, err := s.Info(p)
	if err != nil {
		return err
	}
	if err := Send(w, s, &info); err != nil {
		return err
	}
	w.Uint64(itemMagic)
	w.Path(p)
	w.Paths(info.References)
	w.Path(info.Deriver)
	w.Uint64(0) // no signature
	return w.Err()
}

// Send writes the archive of a valid path and checks that it is what was
// registered; the receiver finds out too, but not whose fault it is.
func Send(w io.Writer, s *store.Store, info *store.Info) error {
	algo := info.NarHash.Algorithm()
	if algo == digest.Unknown {
		algo = digest.SHA256
	}
	sum := algo.New()
	if err := nar.Dump(io.MultiWriter(w, sum), s.RealPath(info.Path)); err != nil {
		return fmt.Errorf("reading path '%s': %w", info.Path, err)
	}
	if got := digest.FromHash(algo, sum); !info.NarHash.IsZero() && got != info.NarHash {
		return fmt.Errorf("hash of path '%s' has changed from '%s' to '%s'", info.Path, info.NarHash, got)
	}
	return nil
}
