package link

import (
	"encoding/binary"
	"testing"

	mdlayher "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A message that is cut off anywhere is read as far as it goes.
func TestReadEntry(t *testing.T) {
	e := mdlayher.NewAttributeEncoder()
	e.String(unix.IFLA_IFNAME, "v6nv1")
	e.Nested(unix.IFLA_LINKINFO, func(info *mdlayher.AttributeEncoder) error {
		info.String(unix.IFLA_INFO_KIND, "veth")
		info.String(unix.IFLA_INFO_SLAVE_KIND, "bridge")
		info.Nested(unix.IFLA_INFO_SLAVE_DATA, func(port *mdlayher.AttributeEncoder) error {
			port.Uint8(unix.IFLA_BRPORT_MODE, 1)
			port.Uint8(unix.IFLA_BRPORT_ISOLATED, 1)
			return nil
		})
		return nil
	})
	e.Nested(unix.IFLA_AF_SPEC, func(families *mdlayher.AttributeEncoder) error {
		families.Nested(unix.AF_INET6, func(inet6 *mdlayher.AttributeEncoder) error {
			inet6.Uint8(unix.IFLA_INET6_ADDR_GEN_MODE, addrGenModeNone)
			return nil
		})
		return nil
	})
	e.Uint32(unix.IFLA_MASTER, 7)
	attrs, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	header := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(header[4:], 8)
	binary.NativeEndian.PutUint32(header[8:], unix.IFF_UP)
	message := append(header, attrs...)

	got, ok := readEntry(message)
	if !ok || got.index != 8 || got.master != 7 || got.name != "v6nv1" || got.kind != "veth" || !got.isUp() ||
		!got.hairpin || !got.isolated || got.addrGenMode != addrGenModeNone {
		t.Errorf("read %+v, %t", got, ok)
	}
	for cut := range message {
		if got, ok := readEntry(message[:cut]); ok != (cut >= unix.SizeofIfInfomsg) || ok && got.master != 0 {
			t.Errorf("cut off at %d: %+v, %t", cut, got, ok)
		}
	}
}
