package finalise

import (
	"crypto/sha256"
	"hash"

	"gobuild/internal/store/nar"
	"gobuild/internal/store/optimise"
)

// A mark is a place in a block where a file begins or ends.
type mark struct {
	at    int
	end   bool
	inode uint64 // of a file that begins
}

// fileSums hashes the archive that each file and symbolic link would be alone,
// out of the archive that they are in together. That saves reading them again.
type fileSums struct {
	hash   hash.Hash
	inside bool // a file: its description goes on
	sums   []optimise.Sum
}

func newFileSums() *fileSums { return &fileSums{hash: sha256.New()} }

func (f *fileSums) take(b block) {
	from := 0
	for _, m := range b.marks {
		if m.end {
			f.hash.Write(b.data[from:m.at])
			f.hash.Sum(f.sums[len(f.sums)-1].Hash[:0])
			f.inside = false
			continue
		}
		f.hash.Reset()
		f.hash.Write([]byte(nar.Magic))
		f.sums = append(f.sums, optimise.Sum{Inode: m.inode})
		f.inside, from = true, m.at
	}
	if f.inside {
		f.hash.Write(b.data[from:])
	}
}
