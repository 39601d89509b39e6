// Package nlattr reads the attributes of netlink messages where they lie (struct nlattr of
// include/uapi/linux/netlink.h): the libraries' decoders copy each, which counts where a message
// is one of thousands.
package nlattr

import (
	"encoding/binary"
	"iter"

	"golang.org/x/sys/unix"
)

// All are the attributes in b by their types, without flags, as far as they are whole.
func All(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofNlAttr {
			size := int(binary.NativeEndian.Uint16(b))
			if size < unix.SizeofNlAttr || size > len(b) {
				return
			}
			const flags = unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER
			if !yield(binary.NativeEndian.Uint16(b[2:])&^flags, b[unix.SizeofNlAttr:size]) {
				return
			}
			b = b[min((size+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1), len(b)):]
		}
	}
}

// Number is an attribute of 8, 16 or 32 bits, the last with a sign; else 0.
func Number(value []byte) int {
	switch len(value) {
	case 1:
		return int(value[0])
	case 2:
		return int(binary.NativeEndian.Uint16(value))
	case 4:
		return int(int32(binary.NativeEndian.Uint32(value)))
	}
	return 0
}
