// Package refscan finds and replaces the hash parts of store paths in streams
// of bytes (nar spec, sections 7 and 8). Nothing here is safe for concurrent
// use.
//
// The search looks at eight bytes in every twenty-four. Wherever a hash part
// of thirty-two bytes lies, exactly one of these samples falls inside it, at
// an offset from 0 to 23; so a table of the 24 grams of eight bytes at these
// offsets of every candidate tells at each sample whether a candidate can be
// there. Eight bytes of a hash are 40 random bits: other text does not hit the
// table by chance, and the cost does not depend on what the text is.
package refscan

// HashLen is the length in bytes of a hash part.
const HashLen = 32

const (
	gramLen = 8
	stride  = HashLen - gramLen // and the number of grams per candidate
)
