package refscan

import (
	"encoding/binary"
	"math/bits"
)

// An index answers at which places of a text its candidates are.
type index struct {
	text []byte // all candidates, one after the other
	// filter has two bits per gram in one word, chosen by the gram's hash.
	filter      []uint64
	filterShift uint
	// slots is an open-addressing table of the grams: each one's place in text
	// plus one, or 0 where it is free.
	slots     []uint32
	slotShift uint
}

// newIndex indexes candidates of HashLen bytes each.
func newIndex(candidates []string) *index {
	grams := stride * max(1, len(candidates))
	filterBits := uint(bits.Len(uint(grams*16-1))) - 6 // log2 of the words
	slotBits := uint(bits.Len(uint(grams*2 - 1)))
	x := &index{
		text:   make([]byte, 0, len(candidates)*HashLen),
		filter: make([]uint64, 1<<filterBits), filterShift: 64 - filterBits,
		slots: make([]uint32, 1<<slotBits), slotShift: 64 - slotBits,
	}
	for i, c := range candidates {
		x.text = append(x.text, c...)
		for offset := range stride {
			x.insert(uint32(i*HashLen + offset))
		}
	}
	return x
}

// mix spreads a gram over all bits, the upper ones best. Runs of one byte must
// not be special.
func mix(gram uint64) uint64 {
	gram = (gram ^ 0xd1b54a32d192ed03) * 0x9e3779b97f4a7c15
	return gram ^ gram>>29
}

// mask is the two bits that a hash has in its word of the filter.
func mask(h uint64) uint64 { return 1<<(h&63) | 1<<(h>>6&63) }

func (x *index) gram(place uint32) uint64 { return binary.LittleEndian.Uint64(x.text[place:]) }

func (x *index) insert(place uint32) {
	h := mix(x.gram(place))
	x.filter[h>>x.filterShift] |= mask(h)
	i := h >> x.slotShift
	for x.slots[i] != 0 {
		i = (i + 1) & uint64(len(x.slots)-1)
	}
	x.slots[i] = place + 1
}

// scan calls found for every candidate in b that lies wholly in it, with its
// place. Of overlapping occurrences it finds all. Samples go forward; several
// occurrences around one sample come in no order.
func (x *index) scan(b []byte, found func(candidate, at int)) {
	filter, shift := x.filter, x.filterShift
	for i := 0; i+gramLen <= len(b); i += stride {
		gram := binary.LittleEndian.Uint64(b[i:])
		h := mix(gram)
		if m := mask(h); filter[h>>shift]&m == m {
			x.verify(b, i, gram, h, found)
		}
	}
}

// verify looks up the gram at b[i:].
func (x *index) verify(b []byte, i int, gram, h uint64, found func(candidate, at int)) {
	for s := h >> x.slotShift; x.slots[s] != 0; s = (s + 1) & uint64(len(x.slots)-1) {
		place := x.slots[s] - 1
		if x.gram(place) != gram {
			continue
		}
		start := int(place) &^ (HashLen - 1)
		at := i - (int(place) - start)
		if at < 0 || at+HashLen > len(b) {
			continue
		}
		if equal(b[at:at+HashLen], x.text[start:start+HashLen]) {
			found(start/HashLen, at)
		}
	}
}

// equal compares two hash parts.
func equal(a, b []byte) bool {
	a, b = a[:HashLen], b[:HashLen]
	diff := uint64(0)
	for i := 0; i < HashLen; i += 8 {
		diff |= binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:])
	}
	return diff == 0
}
