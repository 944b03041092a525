// Package narinfo reads and writes the small files by which a binary cache
// describes a path and itself (binary-cache spec, sections 2 and 3).
package narinfo

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/storepath"
)

// Suffix ends the names of narinfo files; before it stands the hash part.
const Suffix = ".narinfo"

// Name is the file, relative to the cache, that describes p.
func Name(p storepath.Path) string { return p.HashPart() + Suffix }

// Info is what a cache says about a path. Nothing of it is to be believed
// before a signature or the contents have been verified.
type Info struct {
	Path        storepath.Path
	URL         string           // of the archive, relative to the cache
	Compression string           // of the archive; never empty
	FileHash    digest.Digest    // of the archive as it is stored; zero if not given
	FileSize    uint64           // bytes of the archive as it is stored; 0 if not given
	NarHash     digest.Digest    // SHA-256 of the archive
	NarSize     uint64           // bytes of the archive; never 0
	References  []storepath.Path // sorted, no duplicates; includes Path if it refers to itself
	Deriver     storepath.Path   // "" for unknown
	Sigs        []string         // "<key name>:<base-64>", sorted, no duplicates
	CA          storepath.ContentAddress
}

// A parser holds what Parse has understood so far.
type parser struct {
	dir  storepath.Dir
	info Info
}

// Parse reads the narinfo file of that name, "<hash part>.narinfo". It is
// as strict as Nix, and holds strangers to more: the path must be one of dir
// and have the hash part that was asked for (its name is for the caller to
// compare), its hash must be a SHA-256, and the archive must be in the cache.
func Parse(dir storepath.Dir, name string, text []byte) (*Info, error) {
	p := parser{dir: dir}
	corrupt := func(err error) (*Info, error) {
		return nil, fmt.Errorf("NAR info file '%s' is corrupt: %w", name, err)
	}
	rest := string(text)
	for line := 1; rest != ""; line++ {
		item, after, ok := strings.Cut(rest, "\n")
		if !ok {
			return corrupt(fmt.Errorf("expecting '\\n' at line %d", line))
		}
		rest = after
		key, value, ok := strings.Cut(item, ":")
		if !ok {
			return corrupt(fmt.Errorf("expecting ':' at line %d", line))
		}
		if value == "" {
			return corrupt(fmt.Errorf("expecting ' ' at line %d", line))
		}
		// The byte after the colon is a space by convention only.
		if err := p.field(key, value[1:]); err != nil {
			return corrupt(fmt.Errorf("%w at line %d", err, line))
		}
	}
	if err := p.finish(strings.TrimSuffix(name, Suffix)); err != nil {
		return corrupt(err)
	}
	return &p.info, nil
}

// field takes one line. Unknown names are for later versions of the format.
func (p *parser) field(key, value string) (err error) {
	i := &p.info
	switch key {
	case "StorePath":
		i.Path, err = p.dir.Parse(value)
	case "URL":
		i.URL = value
	case "Compression":
		i.Compression = value
	case "FileHash":
		i.FileHash, err = parseHash(value)
	case "FileSize":
		i.FileSize, err = parseSize("FileSize", value)
	case "NarHash":
		i.NarHash, err = parseHash(value)
	case "NarSize":
		i.NarSize, err = parseSize("NarSize", value)
	case "References":
		err = p.references(value)
	case "Deriver":
		if i.Deriver = ""; value != "unknown-deriver" {
			i.Deriver, err = p.dir.FromBase(value)
		}
	case "Sig":
		// Databases keep signatures in one column, separated by blanks.
		if value == "" || strings.ContainsFunc(value, isBlankOrControl) {
			return fmt.Errorf("malformed signature %q", value)
		}
		i.Sigs = append(i.Sigs, value)
	case "CA":
		if i.CA.Digest.IsSet() {
			return errors.New("extra CA")
		}
		i.CA, err = storepath.ParseContentAddress(value)
	}
	return err
}

func (p *parser) references(value string) error {
	if len(p.info.References) > 0 {
		return errors.New("extra References")
	}
	for base := range strings.SplitSeq(value, " ") {
		if base == "" {
			continue
		}
		r, err := p.dir.FromBase(base)
		if err != nil {
			return err
		}
		p.info.References = append(p.info.References, r)
	}
	slices.Sort(p.info.References)
	p.info.References = slices.Compact(p.info.References)
	return nil
}

// finish judges the whole.
func (p *parser) finish(hashPart string) error {
	i := &p.info
	switch {
	case i.Path == "":
		return errors.New("StorePath missing")
	case i.Path.HashPart() != hashPart:
		return fmt.Errorf("it is about path '%s'", i.Path)
	case !i.NarHash.IsSet():
		return errors.New("NarHash missing")
	case i.NarHash.Algorithm() != digest.SHA256:
		return errors.New("NarHash is not a SHA-256 hash")
	case i.URL == "":
		return errors.New("URL missing")
	case i.NarSize == 0:
		return errors.New("NarSize missing or zero")
	}
	if i.Compression == "" {
		i.Compression = "bzip2"
	}
	slices.Sort(i.Sigs)
	i.Sigs = slices.Compact(i.Sigs)
	return checkURL(i.URL)
}

// checkURL keeps a cache from sending its users elsewhere: to files of theirs,
// or to servers that only they can reach.
func checkURL(url string) error {
	bad := func(why string) error { return fmt.Errorf("URL %q %s", url, why) }
	if strings.ContainsFunc(url, isBlankOrControl) {
		return bad("has illegal characters")
	}
	if strings.HasPrefix(url, "/") || strings.HasPrefix(url, `\`) {
		return bad("is not relative to the cache")
	}
	for i, part := range strings.FieldsFunc(url, func(r rune) bool { return strings.ContainsRune(`/\?#`, r) }) {
		if i == 0 && strings.Contains(part, ":") {
			return bad("is not relative to the cache")
		}
		if part == ".." {
			return bad("leads out of the cache")
		}
	}
	return nil
}

func isBlankOrControl(r rune) bool { return r <= ' ' || r == 0x7f }

// parseHash wants the algorithm in the text, in either notation.
func parseHash(value string) (digest.Digest, error) {
	d, err := digest.Parse(value, digest.Unknown)
	if err != nil {
		return d, fmt.Errorf("bad hash: %w", err)
	}
	return d, nil
}

func parseSize(field, value string) (uint64, error) {
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("invalid %s", field)
	}
	return n, nil
}

// AddSig adds a signature, unless it is there.
func (i *Info) AddSig(sig string) {
	i.Sigs = slices.Sorted(slices.Values(append(slices.Clone(i.Sigs), sig)))
	i.Sigs = slices.Compact(i.Sigs)
}

// Append writes the file to b as Nix would, byte for byte.
func (i *Info) Append(b []byte) []byte {
	line := func(key, value string) {
		b = append(append(b, key...), ": "...)
		b = append(append(b, value...), '\n')
	}
	line("StorePath", string(i.Path))
	line("URL", i.URL)
	line("Compression", i.Compression)
	if i.FileHash.IsSet() {
		line("FileHash", i.FileHash.String())
	}
	if i.FileHash.IsSet() || i.FileSize > 0 {
		line("FileSize", strconv.FormatUint(i.FileSize, 10))
	}
	line("NarHash", i.NarHash.String())
	line("NarSize", strconv.FormatUint(i.NarSize, 10))
	b = append(b, "References: "...)
	for n, r := range i.References {
		if n > 0 {
			b = append(b, ' ')
		}
		b = append(b, r.Base()...)
	}
	b = append(b, '\n')
	if i.Deriver != "" {
		line("Deriver", i.Deriver.Base())
	}
	for _, sig := range slices.Sorted(slices.Values(i.Sigs)) {
		line("Sig", sig)
	}
	if ca := i.CA.String(); ca != "" {
		line("CA", ca)
	}
	return b
}
