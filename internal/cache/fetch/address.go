package fetch

import (
	"fmt"
	"os"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/finalise"
	"gobuild/internal/store/storepath"
)

// An address holds a path to its content address: that is what makes it
// trustworthy without a signature. nil is for paths that have none.
type address struct {
	ca   storepath.ContentAddress
	hash finalise.ExtraHash // nil if the address is the archive's own hash
}

func newAddress(path storepath.Path, ca storepath.ContentAddress, self bool) (*address, error) {
	if !ca.Digest.IsSet() {
		return nil, nil
	}
	o := finalise.Output{Extra: ca.Digest.Algorithm()}
	switch ca.Method {
	case storepath.Flat, storepath.Text:
		o.Flat = true
	case storepath.NAR:
		if self {
			o.SelfHash = path.HashPart()
		} else if o.Extra == digest.SHA256 {
			return &address{ca: ca}, nil
		}
	default:
		return nil, fmt.Errorf("its content address '%s' is of a kind that cannot be verified", ca)
	}
	h, err := finalise.NewExtra(&o)
	return &address{ca, h}, err
}

// hashes tells whether the archive is to be hashed once more.
func (a *address) hashes() bool { return a != nil && a.hash != nil }

func (a *address) write(archive []byte) {
	if a.hashes() {
		a.hash.Write(archive)
	}
}

func (a *address) checkHash(path storepath.Path, narHash digest.Digest) error {
	if a == nil {
		return nil
	}
	got := narHash
	if a.hash != nil {
		got = a.hash.Digest()
	}
	if got != a.ca.Digest {
		return &mismatchError{"ca hash", path, a.ca.String(), storepath.ContentAddress{Method: a.ca.Method, Digest: got}.String()}
	}
	return nil
}

// checkKind is about addresses of a file's bytes: a link with that target, for
// one, would have the same hash.
func (a *address) checkKind(path storepath.Path, dest string) error {
	if a == nil || a.ca.Method == storepath.NAR {
		return nil
	}
	st, err := os.Lstat(dest)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() || st.Mode()&0o100 != 0 {
		return fmt.Errorf("its content address '%s' is that of a file that is not executable, and path '%s' is something else", a.ca, path)
	}
	return nil
}
