package pcapng

import (
	"encoding/binary"
	"math"
	"time"
)

// block is one of the file (§3.1 of the draft): its type, its length, what it holds, in
// units of four bytes, options, and its length again.
type block struct {
	b       []byte
	options bool // there are some
}

var order = binary.LittleEndian

func newBlock(kind uint32) *block {
	b := &block{}
	b.uint32(kind)
	b.uint32(0) // its length, in the end
	return b
}

func (b *block) uint16(n uint16) { b.b = order.AppendUint16(b.b, n) }
func (b *block) uint32(n uint32) { b.b = order.AppendUint32(b.b, n) }
func (b *block) uint64(n uint64) { b.b = order.AppendUint64(b.b, n) }

// bytes are followed by nothing up to the next four.
func (b *block) bytes(value []byte) {
	b.b = append(b.b, value...)
	for len(b.b)%4 != 0 {
		b.b = append(b.b, 0)
	}
}

// time is in nanoseconds, its upper half first.
func (b *block) time(t time.Time) {
	ns := uint64(t.UnixNano())
	b.uint32(uint32(ns >> 32))
	b.uint32(uint32(ns))
}

// option adds one (§3.5), or an entry of names. One that is longer than its length can say
// is left out.
func (b *block) option(code uint16, value []byte) {
	if len(value) > math.MaxUint16 {
		return
	}
	b.uint16(code)
	b.uint16(uint16(len(value)))
	b.bytes(value)
	b.options = true
}

func (b *block) text(code uint16, s string) {
	if s != "" {
		b.option(code, []byte(s))
	}
}

func (b *block) timeOption(code uint16, t time.Time) {
	b.uint16(code)
	b.uint16(8)
	b.time(t)
	b.options = true
}

// end is behind the last option.
func (b *block) end() {
	b.uint32(0)
	b.options = false
}

func (b *block) whole() []byte {
	if b.options {
		b.end()
	}
	length := uint32(len(b.b) + 4)
	order.PutUint32(b.b[4:], length)
	return order.AppendUint32(b.b, length)
}
