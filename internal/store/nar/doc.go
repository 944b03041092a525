// Package nar writes, checks and restores archives in the NAR format, the
// canonical serialisation of a file system tree (nar spec, sections 1 to 5).
// Archives are read as the work of an enemy: without recursion, and without
// holding memory for a length that is only claimed. Nothing here is safe for
// concurrent use.
package nar

import "fmt"

// MaxDepth bounds the directories inside each other, both written and read.
const MaxDepth = 16384

// BlockSize is the length in bytes of the blocks in which contents travel.
const BlockSize = 256 << 10

const (
	maxTag    = 1 << 10
	maxName   = 255
	maxTarget = 4095
)

// A FormatError means that the bytes read are no archive, as opposed to
// trouble in reading them or in writing the tree.
type FormatError struct{ msg string }

func (e *FormatError) Error() string { return e.msg }

func malformed(format string, args ...any) error {
	return &FormatError{"bad archive: " + fmt.Sprintf(format, args...)}
}

// Encoded strings and runs of strings of the grammar: a length of eight bytes,
// little endian, then the text, then zero bytes up to a multiple of eight.
const (
	encMagic      = "\x0d\x00\x00\x00\x00\x00\x00\x00nix-archive-1\x00\x00\x00"
	encOpen       = "\x01\x00\x00\x00\x00\x00\x00\x00(\x00\x00\x00\x00\x00\x00\x00"
	encClose      = "\x01\x00\x00\x00\x00\x00\x00\x00)\x00\x00\x00\x00\x00\x00\x00"
	encType       = encOpen + "\x04\x00\x00\x00\x00\x00\x00\x00type\x00\x00\x00\x00"
	encRegular    = encType + "\x07\x00\x00\x00\x00\x00\x00\x00regular\x00"
	encExecutable = "\x0a\x00\x00\x00\x00\x00\x00\x00executable\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	encContents   = "\x08\x00\x00\x00\x00\x00\x00\x00contents"
	encSymlink    = encType + "\x07\x00\x00\x00\x00\x00\x00\x00symlink\x00\x06\x00\x00\x00\x00\x00\x00\x00target\x00\x00"
	encDirectory  = encType + "\x09\x00\x00\x00\x00\x00\x00\x00directory\x00\x00\x00\x00\x00\x00\x00"
	encEntry      = "\x05\x00\x00\x00\x00\x00\x00\x00entry\x00\x00\x00" + encOpen + "\x04\x00\x00\x00\x00\x00\x00\x00name\x00\x00\x00\x00"
	encNode       = "\x04\x00\x00\x00\x00\x00\x00\x00node\x00\x00\x00\x00"
)

// ContentsOffset is where the bytes of a file that is not executable start, in
// an archive of nothing else. The eight bytes before it are their number.
const ContentsOffset = int64(len(encMagic) + len(encRegular) + len(encContents) + 8)

// FileSize is the length in bytes of the archive of a single file of n bytes
// that is not executable.
func FileSize(n int64) int64 { return ContentsOffset + (n+7)&^7 + int64(len(encClose)) }
