package store

import (
	"bytes"
	"slices"
	"strconv"

	"gobuild/internal/store/storepath"
)

// RegistrationFormat chooses the lines of a registration text.
type RegistrationFormat struct {
	Hash    bool // archive hash and size, as in database dumps
	Deriver bool // else the deriver's line stays empty
}

// RegistrationText describes valid paths in the text form that "load" commands
// and builders read (archive spec, section 11), sorted by path.
func (s *Store) RegistrationText(paths []storepath.Path, f RegistrationFormat) ([]byte, error) {
	var b bytes.Buffer
	for _, p := range slices.Sorted(slices.Values(paths)) {
		info, err := s.Info(p)
		if err != nil {
			return nil, err
		}
		writeRegistration(&b, &info, f)
	}
	return b.Bytes(), nil
}

func writeRegistration(b *bytes.Buffer, info *Info, f RegistrationFormat) {
	line := func(text string) {
		b.WriteString(text)
		b.WriteByte('\n')
	}
	line(string(info.Path))
	if f.Hash {
		line(info.NarHash.Hex())
		line(strconv.FormatUint(info.NarSize, 10))
	}
	if !f.Deriver {
		info.Deriver = ""
	}
	line(string(info.Deriver))
	line(strconv.Itoa(len(info.References)))
	for _, r := range info.References {
		line(string(r))
	}
}
