// Package storepath knows the syntax of store paths and how each kind of store
// object gets its path (spec store-paths.md sections 4 to 9).
package storepath

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"gobuild/internal/store/digest"
)

// HashLen is the number of base-32 characters before the dash of a base name.
const HashLen = 32

// MaxNameLen is the longest name: a file name of 255 bytes less the hash part,
// the dash, and room for suffixes such as ".drv.chroot".
const MaxNameLen = 211

// DrvSuffix ends the name of every derivation.
const DrvSuffix = ".drv"

// ErrNotInStore is wrapped by errors about paths that lie outside the store.
var ErrNotInStore = errors.New("is not in the Nix store")

// Dir is a logical store directory: absolute, canonical, without a slash at
// the end.
type Dir string

// A Path is a whole store path, "<store directory>/<hash>-<name>". Values come
// from the functions of this package, so their syntax has been checked.
type Path string

// ParseDir checks and canonicalises a store directory.
func ParseDir(s string) (Dir, error) {
	if !strings.HasPrefix(s, "/") {
		return "", fmt.Errorf("store directory '%s' is not an absolute path", s)
	}
	c := path.Clean(s)
	if c == "/" {
		return "", errors.New("the store directory cannot be '/'")
	}
	return Dir(c), nil
}

// Parse reads a path that must name a store object itself. The path is
// canonicalised lexically first, as a user may write it.
func (d Dir) Parse(s string) (Path, error) {
	if p, ok := d.fast(s); ok {
		return p, nil
	}
	c := path.Clean(s)
	if !strings.HasPrefix(s, "/") || path.Dir(c) != string(d) {
		return "", fmt.Errorf("path '%s' %w", s, ErrNotInStore)
	}
	return d.FromBase(path.Base(c))
}

// ParseExact is Parse without the canonicalisation: for files, where another
// spelling of the same path is an error.
func (d Dir) ParseExact(s string) (Path, error) {
	if p, ok := d.fast(s); ok {
		return p, nil
	}
	n := len(d)
	if len(s) <= n || s[:n] != string(d) || s[n] != '/' || strings.Contains(s[n+1:], "/") {
		return "", fmt.Errorf("path '%s' %w", s, ErrNotInStore)
	}
	return d.FromBase(s[n+1:])
}

// fast accepts the canonical spelling of a good path without allocating.
func (d Dir) fast(s string) (Path, bool) {
	n := len(d)
	if len(s) < n+1+HashLen+2 || s[n] != '/' || s[:n] != string(d) {
		return "", false
	}
	if CheckBase(s[n+1:]) != nil {
		return "", false
	}
	return Path(s), true
}

// FromBase makes the path of a base name, "<hash>-<name>".
func (d Dir) FromBase(base string) (Path, error) {
	if err := CheckBase(base); err != nil {
		return "", err
	}
	return Path(string(d) + "/" + base), nil
}

// Split finds the store path that s lies in or is, and the rest below it
// ("" or starting with a slash).
func (d Dir) Split(s string) (p Path, rest string, err error) {
	c := path.Clean(s)
	below, ok := strings.CutPrefix(c, string(d)+"/")
	if !ok || !strings.HasPrefix(s, "/") {
		return "", "", fmt.Errorf("path '%s' %w", s, ErrNotInStore)
	}
	base, tail, found := strings.Cut(below, "/")
	if p, err = d.FromBase(base); err != nil {
		return "", "", err
	}
	if found {
		rest = "/" + tail
	}
	return p, rest, nil
}

// CheckBase checks the syntax of a base name.
func CheckBase(base string) error {
	if len(base) < HashLen+1 {
		return fmt.Errorf("'%s' is too short to be a valid store path", base)
	}
	for i := range HashLen {
		if !digest.IsNix32(base[i]) {
			return fmt.Errorf("store path '%s' contains illegal base-32 character '%c'", base, base[i])
		}
	}
	if base[HashLen] != '-' {
		return fmt.Errorf("store path '%s' has no dash after its hash", base)
	}
	if why := nameFault(base[HashLen+1:]); why != "" {
		return fmt.Errorf("store path '%s' %s", base, why)
	}
	return nil
}

// CheckName checks the name of a new store object.
func CheckName(name string) error {
	if why := nameFault(name); why != "" {
		return fmt.Errorf("store path name '%s' %s", name, why)
	}
	return nil
}

func nameFault(name string) string {
	switch {
	case name == "":
		return "has an empty name"
	case len(name) > MaxNameLen:
		return fmt.Sprintf("has a name longer than %d characters", MaxNameLen)
	case name == "." || name == "..":
		return "has the name of a directory entry"
	case strings.HasPrefix(name, ".-") || strings.HasPrefix(name, "..-"):
		return "has a name that starts like a directory entry"
	}
	for i := range len(name) {
		if !nameByte[name[i]] {
			return fmt.Sprintf("contains illegal character '%c'", name[i])
		}
	}
	return ""
}

var nameByte = func() (t [256]bool) {
	for _, c := range []byte("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+-._?=") {
		t[c] = true
	}
	return t
}()

// Base is the last component, "<hash>-<name>".
func (p Path) Base() string { return string(p[strings.LastIndexByte(string(p), '/')+1:]) }

// Dir is the store directory that the path lies in.
func (p Path) Dir() Dir { return Dir(p[:strings.LastIndexByte(string(p), '/')]) }

// HashPart is the 32 characters that make the path unique.
func (p Path) HashPart() string { return p.Base()[:HashLen] }

// Name is what follows the hash part and its dash.
func (p Path) Name() string { return p.Base()[HashLen+1:] }

// IsDerivation tells by the name alone.
func (p Path) IsDerivation() bool { return strings.HasSuffix(string(p), DrvSuffix) }
