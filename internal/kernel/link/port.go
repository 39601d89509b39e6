package link

import (
	"encoding/binary"

	mdlayher "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/spec"
)

// reservedAddresses are those of 01:80:c2:00:00:00 to 0f (IEEE 802.1Q §8.6.3) that a port
// can forward as any multicast address, a bit for each: all but the second, whose frames
// (PAUSE) a bridge drops in any case. By itself a bridge leaves such a frame, whatever is in
// it, to the port's own stack, judged by nobody, and learns its sender (br_handle_frame in
// net/bridge/br_input.c): so a container could have the host's neighbour table filled, and
// its neighbours' frames.
const reservedAddresses = 0xfffd

// forwards says which reserved addresses a port forwards. Where the firewall judges frames
// it is to see these, too. Where it does not they are the link's, as the standard has it: a
// container's LACP, EAPOL or LLDP is not to get out of a card that is on the bridge.
func forwards(want spec.Veth) uint16 {
	if want.Judged {
		return reservedAddresses
	}
	return 0
}

// setPort has a bridge's port as all of ours are, in one request.
func (h *Handle) setPort(index int, want spec.Veth) error {
	e := mdlayher.NewAttributeEncoder()
	e.Nested(unix.IFLA_PROTINFO, func(port *mdlayher.AttributeEncoder) error {
		port.Uint8(unix.IFLA_BRPORT_MODE, 1) // hairpin
		port.Uint8(unix.IFLA_BRPORT_ISOLATED, flag(want.Isolated))
		port.Uint16(unix.IFLA_BRPORT_GROUP_FWD_MASK, forwards(want))
		return nil
	})
	attributes, err := e.Encode()
	if err != nil {
		return err
	}
	header := make([]byte, unix.SizeofIfInfomsg)
	header[0] = unix.AF_BRIDGE
	binary.NativeEndian.PutUint32(header[4:], uint32(index))
	_, err = ask(h.raw, mdlayher.Message{
		Header: mdlayher.Header{Type: unix.RTM_SETLINK, Flags: mdlayher.Request | mdlayher.Acknowledge},
		Data:   append(header, attributes...),
	})
	return err
}

func flag(on bool) uint8 {
	if on {
		return 1
	}
	return 0
}
