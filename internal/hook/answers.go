package hook

import (
	"fmt"
	"slices"
	"strconv"

	"gobuild/internal/store/storepath"
)

// AppendInfo appends the question what a substituter knows of paths. It makes
// the other question, which paths it has, unnecessary.
func AppendInfo(b []byte, paths []storepath.Path) []byte {
	return appendLine(append(b, "info "...), paths)
}

// An Offer is what a substituter knows of a path.
type Offer struct {
	Path       storepath.Path
	Deriver    storepath.Path   // "" when unknown
	References []storepath.Path // sorted, no duplicates
	Download   uint64           // bytes; 0: unknown
	NarSize    uint64           // bytes; 0: unknown
}

// ReadInfo makes a reader of the answer to AppendInfo.
func ReadInfo(dir storepath.Dir, asked []storepath.Path) *Answers {
	return &Answers{dir: dir, asked: sortedCopy(asked)}
}

func sortedCopy(paths []storepath.Path) []storepath.Path {
	return slices.Sorted(slices.Values(paths))
}

// Answers reads the answer to one question.
type Answers struct {
	dir   storepath.Dir
	asked []storepath.Path

	lines Lines
	field field
	left  uint64 // references still to come
	offer Offer
	done  bool
	err   error
}

type field uint8

const (
	fieldPath field = iota
	fieldDeriver
	fieldCount
	fieldReference
	fieldDownload
	fieldNarSize
)

// Feed takes the next bytes and hands out what they complete. It tells whether
// the answer is at its end, and fails on what is no answer; the Answers are of
// no use after either.
func (a *Answers) Feed(data []byte, offer func(Offer)) (done bool, err error) {
	a.lines.Feed(data, func(line []byte) {
		switch {
		case a.err != nil:
		case a.done:
			a.err = fmt.Errorf("unexpected line '%s' from substituter", clip(line))
		default:
			a.line(string(line), offer)
		}
	})
	return a.done && a.err == nil, a.err
}

// clip keeps messages short.
func clip(line []byte) []byte { return line[:min(len(line), 200)] }

// maxReferences is more than any path has.
const maxReferences = 1 << 16

func (a *Answers) line(text string, offer func(Offer)) {
	switch a.field {
	case fieldPath:
		a.path(text)
	case fieldDeriver:
		if text != "" {
			a.offer.Deriver = a.parse(text)
		}
		a.field = fieldCount
	case fieldCount:
		if a.left = a.number(text); a.left > maxReferences {
			a.err = fmt.Errorf("%d references from substituter are too many", a.left)
		}
		a.field = fieldReference
		a.noReferences()
	case fieldReference:
		a.offer.References = append(a.offer.References, a.parse(text))
		a.left--
		a.noReferences()
	case fieldDownload:
		a.offer.Download = a.number(text)
		a.field = fieldNarSize
	case fieldNarSize:
		a.offer.NarSize = a.number(text)
		a.emit(offer)
	}
}

func (a *Answers) path(text string) {
	if text == "" {
		a.done = true
		return
	}
	p := storepath.Path(text)
	if _, asked := slices.BinarySearch(a.asked, p); !asked {
		a.err = fmt.Errorf("got unexpected path '%s' from substituter", clip([]byte(text)))
		return
	}
	a.offer = Offer{Path: p}
	a.field = fieldDeriver
}

// noReferences goes on when the last reference has been read.
func (a *Answers) noReferences() {
	if a.left == 0 {
		a.field = fieldDownload
	}
}

func (a *Answers) emit(offer func(Offer)) {
	if a.err == nil {
		slices.Sort(a.offer.References)
		a.offer.References = slices.Compact(a.offer.References)
		offer(a.offer)
	}
	a.field = fieldPath
}

func (a *Answers) parse(text string) storepath.Path {
	p, err := a.dir.Parse(text)
	if err != nil && a.err == nil {
		a.err = fmt.Errorf("from substituter: %w", err)
	}
	return p
}

func (a *Answers) number(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil && a.err == nil {
		a.err = fmt.Errorf("integer expected from substituter instead of '%s'", clip([]byte(text)))
	}
	return n
}
