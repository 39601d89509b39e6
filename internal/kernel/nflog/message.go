package nflog

import (
	"encoding/binary"
	"net"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/firewall"
)

// Of include/uapi/linux/netfilter/nfnetlink_log.h.
const (
	msgPacket = unix.NFNL_SUBSYS_ULOG << 8
	msgConfig = unix.NFNL_SUBSYS_ULOG<<8 | 1

	attrHeader  = 1 // struct nfulnl_msg_packet_hdr
	attrIn      = 4
	attrOut     = 5
	attrPort    = 6 // of a bridge, in
	attrMAC     = 8 // struct nfulnl_msg_packet_hw
	attrPayload = 9
	attrPrefix  = 10

	cfgCommand   = 1
	cfgMode      = 2
	cfgThreshold = 5

	commandBind = 1
	copyPacket  = 2

	familyBytes = 4 // struct nfgenmsg
)

// told is a message of a rule's, with links by their index; 0: none.
type told struct {
	firewall.Refusal
	in, out, port uint32
}

// decode reads a message. ok: it is of a rule of ours. The kernel has made the message,
// and somebody anywhere the packet that is in it.
func decode(m netlink.Message) (t told, ok bool) {
	if m.Header.Type != msgPacket || len(m.Data) < familyBytes {
		return told{}, false
	}
	attributes, err := netlink.NewAttributeDecoder(m.Data[familyBytes:])
	if err != nil {
		return told{}, false
	}
	attributes.ByteOrder = binary.BigEndian
	var ether uint16
	var payload []byte
	for attributes.Next() {
		switch b := attributes.Bytes(); attributes.Type() {
		case attrHeader:
			if len(b) >= 2 {
				ether = binary.BigEndian.Uint16(b)
			}
		case attrIn:
			t.in = number(b)
		case attrOut:
			t.out = number(b)
		case attrPort:
			t.port = number(b)
		case attrMAC:
			if len(b) >= 10 && binary.BigEndian.Uint16(b) == 6 {
				t.MAC = net.HardwareAddr(b[4:10]).String()
			}
		case attrPayload:
			payload = b
		case attrPrefix:
			t.Inward, t.Reason, ok = firewall.ParseLogPrefix(text(b))
		}
	}
	if attributes.Err() != nil || !ok {
		return told{}, false
	}
	t.Headers = firewall.ReadHeaders(ether, payload)
	return t, true
}

func number(b []byte) uint32 {
	if len(b) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

// text is a string up to its final zero.
func text(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// bind is the message by which a socket becomes the listener of a group. All of it is in
// one, so that no packet is told before it is said how. Each is told at once: the rules
// see to it that they are few.
func bind(group uint16) (netlink.Message, error) {
	attributes := netlink.NewAttributeEncoder()
	attributes.ByteOrder = binary.BigEndian
	attributes.Uint8(cfgCommand, commandBind)
	// How much of a packet is copied the rules say; this is the most that is.
	attributes.Bytes(cfgMode, append(binary.BigEndian.AppendUint32(nil, maxPayload), copyPacket, 0))
	attributes.Uint32(cfgThreshold, 1)
	b, err := attributes.Encode()
	if err != nil {
		return netlink.Message{}, err
	}
	return netlink.Message{
		Header: netlink.Header{Type: msgConfig, Flags: netlink.Request | netlink.Acknowledge},
		Data:   append([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, byte(group >> 8), byte(group)}, b...),
	}, nil
}

// maxPayload bounds what is copied of a packet.
const maxPayload = 256
