// Package digest holds hash values: it computes, parses and prints them in the
// bases that stores use (hexadecimal, the store's base-32, base-64 and SRI).
package digest

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
)

// Algorithm names a hash function. The zero value means "not known".
type Algorithm uint8

// The hash functions that stores know.
const (
	Unknown Algorithm = iota
	MD5
	SHA1
	SHA256
	SHA512
)

// MaxSize is the length in bytes of the longest digest.
const MaxSize = sha512.Size

var names = [...]string{Unknown: "unknown", MD5: "md5", SHA1: "sha1", SHA256: "sha256", SHA512: "sha512"}

// ParseAlgorithm returns the algorithm of that exact, lower-case name.
func ParseAlgorithm(name string) (Algorithm, error) {
	for a := MD5; a <= SHA512; a++ {
		if names[a] == name {
			return a, nil
		}
	}
	return Unknown, fmt.Errorf("unknown hash algorithm '%s', expect 'md5', 'sha1', 'sha256', or 'sha512'", name)
}

// String is the algorithm's name as it stands in files.
func (a Algorithm) String() string { return names[a] }

// Size is the length of a digest in bytes.
func (a Algorithm) Size() int {
	switch a {
	case MD5:
		return md5.Size
	case SHA1:
		return sha1.Size
	case SHA256:
		return sha256.Size
	case SHA512:
		return sha512.Size
	}
	return 0
}

// New returns a running hash; it panics on Unknown.
func (a Algorithm) New() hash.Hash {
	switch a {
	case MD5:
		return md5.New()
	case SHA1:
		return sha1.New()
	case SHA256:
		return sha256.New()
	case SHA512:
		return sha512.New()
	}
	panic("digest: New of an unknown algorithm")
}

// A Digest is a hash value with its algorithm. It is comparable; the zero
// value means "no digest".
type Digest struct {
	algo Algorithm
	sum  [MaxSize]byte
}

// New makes a digest of the raw sum, whose length must be the algorithm's.
func New(a Algorithm, sum []byte) Digest {
	if len(sum) != a.Size() {
		panic(fmt.Sprintf("digest: %d bytes given for %s", len(sum), a))
	}
	d := Digest{algo: a}
	copy(d.sum[:], sum)
	return d
}

// Of hashes data.
func Of(a Algorithm, data []byte) Digest {
	h := a.New()
	h.Write(data)
	return New(a, h.Sum(nil))
}

// FromHash takes the current sum of a running hash of that algorithm.
func FromHash(a Algorithm, h hash.Hash) Digest { return New(a, h.Sum(nil)) }

// Algorithm says which function made the digest; Unknown for the zero value.
func (d Digest) Algorithm() Algorithm { return d.algo }

// IsSet tells a digest from the zero value.
func (d Digest) IsSet() bool { return d.algo != Unknown }

// IsZero tells whether every byte of the sum is zero, the databases' way of
// writing "unknown".
func (d Digest) IsZero() bool { return d.sum == [MaxSize]byte{} }

// Bytes is the raw sum, in a slice of the caller's own.
func (d Digest) Bytes() []byte { return append([]byte(nil), d.sum[:d.algo.Size()]...) }

// Hex is the sum in lower-case hexadecimal.
func (d Digest) Hex() string { return hex.EncodeToString(d.sum[:d.algo.Size()]) }

// Nix32 is the sum in the store's base-32.
func (d Digest) Nix32() string { return EncodeNix32(d.sum[:d.algo.Size()]) }

// Base64 is the sum in padded base-64.
func (d Digest) Base64() string { return base64.StdEncoding.EncodeToString(d.sum[:d.algo.Size()]) }

// SRI is the sum as in web pages' integrity attributes, "sha256-…=".
func (d Digest) SRI() string { return d.algo.String() + "-" + d.Base64() }

// String is the algorithm, a colon and the base-32 sum.
func (d Digest) String() string { return d.algo.String() + ":" + d.Nix32() }

// PrefixedHex is the algorithm, a colon and the hexadecimal sum.
func (d Digest) PrefixedHex() string { return d.algo.String() + ":" + d.Hex() }

// Parse reads a digest in any of the forms of spec store-paths.md section 3.
// want is the algorithm that the context demands, or Unknown; without a
// context the text must name its algorithm.
func Parse(text string, want Algorithm) (Digest, error) {
	algo, body, sri, err := splitPrefix(text)
	if err != nil {
		return Digest{}, err
	}
	switch {
	case algo == Unknown && want == Unknown:
		return Digest{}, fmt.Errorf("hash '%s' does not include a type, nor is the type otherwise known from context", text)
	case algo == Unknown:
		algo = want
	case want != Unknown && want != algo:
		return Digest{}, fmt.Errorf("hash '%s' should have type '%s'", text, want)
	}
	return parseBody(algo, body, sri)
}

// ParseHex reads exactly one algorithm's hexadecimal digits, either case.
func ParseHex(a Algorithm, text string) (Digest, error) {
	sum, err := hex.DecodeString(text)
	if err != nil || len(sum) != a.Size() {
		return Digest{}, fmt.Errorf("invalid base-16 hash '%s'", text)
	}
	return New(a, sum), nil
}

// ParseBare reads a digest without any prefix, in whichever base its length
// tells: the form in derivations.
func ParseBare(a Algorithm, text string) (Digest, error) { return parseBody(a, text, false) }

func splitPrefix(text string) (algo Algorithm, body string, sri bool, err error) {
	if name, rest, ok := strings.Cut(text, ":"); ok {
		algo, err = ParseAlgorithm(name)
		return algo, rest, false, err
	}
	if name, rest, ok := strings.Cut(text, "-"); ok {
		algo, err = ParseAlgorithm(name)
		return algo, rest, true, err
	}
	return Unknown, text, false, nil
}

func parseBody(a Algorithm, body string, sri bool) (Digest, error) {
	size := a.Size()
	switch {
	case sri || len(body) == base64.StdEncoding.EncodedLen(size):
		sum, err := decodeBase64(body)
		if err != nil {
			return Digest{}, err
		}
		if len(sum) != size {
			form := "base-64"
			if sri {
				form = "SRI"
			}
			return Digest{}, fmt.Errorf("invalid %s hash '%s'", form, body)
		}
		return New(a, sum), nil
	case len(body) == 2*size:
		return ParseHex(a, body)
	case len(body) == nix32Len(size):
		sum, err := DecodeNix32(body, size)
		if err != nil {
			return Digest{}, err
		}
		return New(a, sum), nil
	}
	return Digest{}, fmt.Errorf("hash '%s' has wrong length for hash algorithm '%s'", body, a)
}

// decodeBase64 is as lax as the original's: it stops at the first '=', skips
// line feeds, and ignores left-over bits.
func decodeBase64(s string) ([]byte, error) {
	var out []byte
	var acc, bits uint
	for i := 0; i < len(s) && s[i] != '='; i++ {
		if s[i] == '\n' {
			continue
		}
		v := strings.IndexByte(base64Alphabet, s[i])
		if v < 0 {
			return nil, fmt.Errorf("invalid character in Base64 string: '%c'", s[i])
		}
		acc, bits = acc<<6|uint(v), bits+6
		if bits >= 8 {
			bits -= 8
			out = append(out, byte(acc>>bits))
		}
	}
	return out, nil
}

const base64Alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
