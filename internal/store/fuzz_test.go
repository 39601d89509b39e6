package store

import (
	"bytes"
	"testing"
)

// FuzzDamagedJournal: whatever is written into a journal's file wherever, it says what it
// said, or is refused.
func FuzzDamagedJournal(f *testing.F) {
	f.Add(uint32(0), []byte{1})
	f.Add(uint32(80), []byte{0xed, 0x0c, 0xda, 0xed}) // in a meta page
	f.Add(uint32(2*4096), bytes.Repeat([]byte{0xff}, 16))
	f.Add(uint32(5*4096+16), []byte{0, 0, 0, 0, 0, 0, 0, 0, 1}) // where elements of a page are
	f.Add(uint32(3*4096), make([]byte, 4096))
	var h history
	f.Fuzz(func(t *testing.T, at uint32, damage []byte) {
		if h.files == nil {
			h = write(t, 40)
		}
		text := bytes.Clone(h.files[len(h.files)-1])
		copy(text[int(at)%len(text):], damage)
		says, err := verdict(t, memory(t), text)
		if err == nil && says != h.says[len(h.says)-1] {
			t.Errorf("with %x at %d it says\n%s\nwant\n%s", damage, int(at)%len(text), says, h.says[len(h.says)-1])
		}
	})
}
