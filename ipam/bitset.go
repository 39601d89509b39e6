package ipam

import (
	"maps"
	"math/bits"
	"slices"
)

const (
	wordShift = 6                                // 64 bits to a word
	levels    = (64 + wordShift - 1) / wordShift // enough for 64-bit numbers
)

// bitset is a sparse set of numbers. Level 0 has a bit for every number; a bit
// of level n+1 says that a whole word of level n is full. A zero word is not
// stored, so a number costs one map entry at most, and 64 neighbours share it.
//
// The levels above are what keeps next flat: a million numbers in a row are one
// full bit near the root, not a million steps.
type bitset [levels]map[uint64]uint64

func (s *bitset) has(n uint64) bool { return s[0][n>>wordShift]&bit(n) != 0 }

// add puts n into the set.
func (s *bitset) add(n uint64) {
	for level := range s {
		if s[level] == nil {
			s[level] = make(map[uint64]uint64)
		}
		word := s[level][n>>wordShift] | bit(n)
		s[level][n>>wordShift] = word
		if word != ^uint64(0) {
			return
		}
		n >>= wordShift
	}
}

// remove takes n, which must be in the set, out of it.
func (s *bitset) remove(n uint64) {
	for level := range s {
		word := s[level][n>>wordShift]
		if rest := word &^ bit(n); rest != 0 {
			s[level][n>>wordShift] = rest
		} else {
			delete(s[level], n>>wordShift)
		}
		if word != ^uint64(0) {
			return
		}
		n >>= wordShift
	}
}

// next is the least number from..to that is not in the set.
func (s *bitset) next(from, to uint64) (uint64, bool) {
	if from > to {
		return 0, false
	}
	n := from // a number; on the levels above, the word below that it stands for
	for level := range s {
		if free := ^s[level][n>>wordShift] >> (n % 64); free != 0 {
			n += uint64(bits.TrailingZeros64(free))
			// Ending here when n is past the end also keeps descend's shifts
			// within 64 bits.
			if n > to>>(level*wordShift) {
				return 0, false
			}
			n = s.descend(level, n)
			return n, n <= to
		}
		n = n>>wordShift + 1
		if n > to>>((level+1)*wordShift) {
			return 0, false
		}
	}
	return 0, false
}

// descend is the least number not in the set below n, a bit of level that is not full.
func (s *bitset) descend(level int, n uint64) uint64 {
	for ; level > 0; level-- {
		n = n<<wordShift | uint64(bits.TrailingZeros64(^s[level-1][n]))
	}
	return n
}

// sorted copies the set into a slice, ascending.
func (s *bitset) sorted() []uint64 {
	var out []uint64
	for _, i := range slices.Sorted(maps.Keys(s[0])) {
		for word := s[0][i]; word != 0; word &= word - 1 {
			out = append(out, i<<wordShift|uint64(bits.TrailingZeros64(word)))
		}
	}
	return out
}

func bit(n uint64) uint64 { return 1 << (n % 64) }
