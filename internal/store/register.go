package store

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/storepath"
)

// Register makes paths valid, all of them or none, in one transaction. Their
// files must be complete and canonical. A path that is valid already is
// updated; its references are only ever added to.
func (s *Store) Register(infos []Info) error {
	if len(infos) == 0 {
		return nil
	}
	if s.cfg.ReadOnly {
		return ErrReadOnly
	}
	for i := range infos {
		if err := s.checkForm(&infos[i]); err != nil {
			return err
		}
		if err := s.checkAddress(&infos[i]); err != nil {
			return err
		}
	}
	drvs, drvErr := s.readDerivations(infos)
	err := s.tuneForWriting()
	if err != nil {
		return err
	}
	return s.write(func() error {
		if err := s.insertAll(infos, drvs); err != nil {
			return err
		}
		// the derivations were judged before the transaction, so that it
		// waits for no file; but a missing reference is the better message
		if drvErr != nil {
			return drvErr
		}
		return checkAcyclic(infos)
	})
}

func (s *Store) insertAll(infos []Info, drvs map[storepath.Path][]Output) error {
	ids := make(map[storepath.Path]int64, 2*len(infos))
	for i := range infos {
		id, err := s.upsert(&infos[i], drvs)
		if err != nil {
			return err
		}
		ids[infos[i].Path] = id
	}
	for i := range infos {
		from := ids[infos[i].Path]
		for _, r := range infos[i].References {
			to, ok := ids[r]
			if !ok {
				var err error
				if to, ok, err = s.db.integer("path-id", string(r)); err != nil {
					return err
				}
				if !ok {
					return invalid(r)
				}
				ids[r] = to
			}
			if err := s.db.run("insert-ref", from, to); err != nil {
				return err
			}
		}
	}
	return nil
}

// upsert writes one row of ValidPaths, and the outputs of a new derivation.
func (s *Store) upsert(info *Info, drvs map[storepath.Path][]Output) (int64, error) {
	sigs := strings.Join(slices.Sorted(slices.Values(info.Sigs)), " ")
	size, ultimate := null(int64(info.NarSize)), null(boolInt(info.Ultimate))
	hash, ca := info.NarHash.PrefixedHex(), null(info.CA.String())
	id, found, err := s.db.integer("path-id", string(info.Path))
	if err != nil {
		return 0, err
	}
	if found {
		return id, s.db.run("update-path", size, hash, ultimate, null(sigs), ca, id)
	}
	when := info.Registered
	if when.IsZero() {
		when = s.cfg.Now()
	}
	id, err = s.db.insert("insert-path", string(info.Path), hash, when.Unix(),
		null(string(info.Deriver)), size, ultimate, null(sigs), ca)
	if err != nil {
		return 0, err
	}
	for _, out := range drvs[info.Path] {
		if err := s.db.run("insert-output", id, out.ID, string(out.Path)); err != nil {
			return 0, err
		}
	}
	return id, nil
}

// boolInt is 1 or 0, which null turns into 1 or NULL.
func boolInt(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// checkForm refuses what would not come out of the database as it went in.
// References need no such care: they must be in it already.
func (s *Store) checkForm(info *Info) error {
	bad := func(why string) error { return fmt.Errorf("cannot register path '%s': %s", info.Path, why) }
	switch {
	case info.Path.Dir() != s.dir:
		return bad("it is not in the Nix store")
	case info.Deriver != "" && info.Deriver.Dir() != s.dir:
		return bad("its deriver is not in the Nix store")
	case info.NarHash.Algorithm() != digest.SHA256:
		return bad("it has no SHA-256 hash")
	case info.NarSize > math.MaxInt64:
		return bad("its size is out of range")
	}
	for _, sig := range info.Sigs {
		if sig == "" || strings.ContainsAny(sig, " \t\r\n\v\f") {
			return bad(fmt.Sprintf("malformed signature %q", sig))
		}
	}
	return nil
}

// checkAddress verifies that a path that claims to be content-addressed has
// the name which its address gives it.
func (s *Store) checkAddress(info *Info) error {
	if !info.CA.Digest.IsSet() {
		return nil
	}
	refs := storepath.ReferencesOf(info.Path, info.References)
	if want, err := s.dir.Content(info.CA, info.Path.Name(), refs); err != nil || want != info.Path {
		return fmt.Errorf("cannot add path '%s' to the Nix store because it claims to be content-addressed but isn't", info.Path)
	}
	return nil
}

// tuneForWriting makes the settings that only matter to those who write; a
// connection that only reads saves the time.
func (s *Store) tuneForWriting() error {
	if s.tuned || !s.cfg.WAL {
		return nil
	}
	err := s.retry(func() error {
		return errors.Join(s.db.run("wal-autocheckpoint"), s.db.run("journal-size-limit"))
	})
	s.tuned = err == nil
	return err
}

// Invalidate makes paths invalid, all of them or none, in the order given:
// referrers before what they refer to. Paths that are not valid are ignored. A
// path that another valid one refers to gives an *InUseError. The files stay.
func (s *Store) Invalidate(paths ...storepath.Path) error {
	if s.cfg.ReadOnly {
		return ErrReadOnly
	}
	if err := s.tuneForWriting(); err != nil {
		return err
	}
	return s.write(func() error {
		for _, p := range paths {
			if err := s.invalidate(p); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Store) invalidate(p storepath.Path) error {
	id, found, err := s.db.integer("path-id", string(p))
	if err != nil || !found {
		return err
	}
	users, err := s.pathsOf("referrers", id)
	if err != nil {
		return err
	}
	users = slices.DeleteFunc(users, func(u storepath.Path) bool { return u == p })
	if len(users) > 0 {
		return &InUseError{Path: p, Referrers: users}
	}
	return s.db.run("delete-path", id)
}

// quoted lists paths for a message.
func quoted(paths []storepath.Path) string {
	var b strings.Builder
	for i, p := range paths {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "'%s'", p)
	}
	return b.String()
}
