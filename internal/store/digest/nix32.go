package digest

import "fmt"

// Alphabet is the store's base-32: digits and lower-case letters without e, o,
// t and u. A character's index is its value.
const Alphabet = "0123456789abcdfghijklmnpqrsvwxyz"

// nix32Value maps a byte to its value, or to 0xff outside the alphabet.
var nix32Value = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i := range len(Alphabet) {
		t[Alphabet[i]] = byte(i)
	}
	return t
}()

func nix32Len(size int) int { return (size*8-1)/5 + 1 }

// IsNix32 tells whether c is a digit of the store's base-32.
func IsNix32(c byte) bool { return nix32Value[c] != 0xff }

// EncodeNix32 prints b as a little-endian number, most significant digit first
// (spec store-paths.md section 2).
func EncodeNix32(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	n := nix32Len(len(b))
	out := make([]byte, n)
	for k := range out {
		bit := 5 * (n - 1 - k)
		i, j := bit/8, bit%8
		v := uint16(b[i]) >> j
		if i+1 < len(b) {
			v |= uint16(b[i+1]) << (8 - j)
		}
		out[k] = Alphabet[v&31]
	}
	return string(out)
}

// DecodeNix32 reads the base-32 form of size bytes. It refuses foreign
// characters, a wrong length, and bits that do not fit.
func DecodeNix32(s string, size int) ([]byte, error) {
	bad := func() ([]byte, error) { return nil, fmt.Errorf("invalid base-32 hash '%s'", s) }
	if size <= 0 || len(s) != nix32Len(size) {
		return bad()
	}
	out := make([]byte, size)
	for k := range len(s) {
		v := nix32Value[s[len(s)-1-k]]
		if v == 0xff {
			return bad()
		}
		bit := 5 * k
		i, j := bit/8, bit%8
		out[i] |= v << j
		if carry := uint16(v) >> (8 - j); i+1 < size {
			out[i+1] |= byte(carry)
		} else if carry != 0 {
			return bad()
		}
	}
	return out, nil
}

// Compress folds b into n bytes by exclusive or, as store paths do with
// SHA-256 (spec store-paths.md section 5).
func Compress(b []byte, n int) []byte {
	out := make([]byte, n)
	for i, c := range b {
		out[i%n] ^= c
	}
	return out
}
