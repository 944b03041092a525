package archive

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"gobuild/internal/protocol"
	"gobuild/internal/store"
	"gobuild/internal/store/storepath"
)

// A Judge sees each path before it becomes valid. It may refuse it, and say
// what else is known of it.
type Judge func(*store.Info) error

// Import reads one export and makes its paths valid, one after the other; it
// returns them in the order of the stream, those too that were valid before.
// After an error the paths before it stay valid. Signatures in the stream
// count for nothing; a judge, if there is one, has to know what may come.
func Import(r *protocol.Reader, s *store.Store, judge Judge) ([]storepath.Path, error) {
	var paths []storepath.Path
	for {
		more := r.Uint64()
		switch {
		case r.Err() != nil:
			return paths, ended(r)
		case more == 0:
			return paths, nil
		case more != 1:
			return paths, errNoExport
		}
		p, err := importOne(r, s, judge)
		if err != nil {
			return paths, err
		}
		paths = append(paths, p)
	}
}

func ended(r *protocol.Reader) error {
	if errors.Is(r.Err(), io.EOF) { // an export says itself where it ends
		return errors.New("reading an export: unexpected end-of-file")
	}
	return fmt.Errorf("reading an export: %w", r.Err())
}

func importOne(r *protocol.Reader, s *store.Store, judge Judge) (storepath.Path, error) {
	tree, err := unpack(s, r)
	if err != nil {
		return "", fmt.Errorf("importing a path: %w", err)
	}
	defer tree.Remove()
	if magic := r.Uint64(); r.Err() == nil && magic != itemMagic {
		return "", errItemMagic
	}
	info := store.Info{Path: r.Path(s.Dir()), NarHash: tree.hash, NarSize: tree.size}
	info.References = r.Paths(s.Dir())
	info.Deriver = r.OptionalPath(s.Dir())
	if r.Uint64() == 1 {
		r.Text(maxSignature)
	}
	if r.Err() != nil {
		return "", ended(r)
	}
	slices.Sort(info.References)
	info.References = slices.Compact(info.References)
	if info.Deriver != "" && !info.Deriver.IsDerivation() {
		return "", errors.New("importing path '" + string(info.Path) + "': its deriver '" + string(info.Deriver) + "' is not a derivation")
	}
	if judge != nil {
		if err := judge(&info); err != nil {
			return "", err
		}
	}
	if err := tree.adopt(s, info); err != nil {
		return "", fmt.Errorf("importing path '%s': %w", info.Path, err)
	}
	return info.Path, nil
}

// maxSignature bounds the signatures of old exports, in bytes.
const maxSignature = 64 << 10
