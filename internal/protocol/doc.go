// Package protocol is the language in which stores talk to each other: the
// encoding of numbers, texts and lists (worker-protocol spec, section 2), the
// messages that several protocols share, and the client of the serve protocol,
// which "ssh://" stores and remote builders speak (serve-protocol spec).
//
// What is read is taken for the work of an enemy: every length has a limit, no
// memory is taken for what is only claimed, and nothing recurses. Readers and
// Writers keep their first error and do nothing after it, so that a message is
// read or written in one go and its fate asked once.
package protocol

// Limits of what is believed, in bytes. The texts of a message are an
// environment at most, its lists the paths of a store.
const (
	MaxText = 64 << 20
	MaxList = 256 << 20
	// maxName bounds texts that are names, paths, hashes or signatures.
	maxName = 4 << 10
)

// A Version is that of a protocol: the major number times 256 and the minor.
type Version uint64

// Major is the number that both sides must agree on.
func (v Version) Major() uint64 { return uint64(v >> 8) }

// Minor is the number that grows with what is added.
func (v Version) Minor() uint64 { return uint64(v & 0xff) }
