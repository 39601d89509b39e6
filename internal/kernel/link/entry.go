package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	mdlayher "github.com/mdlayher/netlink"
	"github.com/v6net/v6net/internal/kernel/dump"
	"github.com/v6net/v6net/internal/kernel/nlattr"
	"github.com/v6net/v6net/internal/kernel/rtnl"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// skipStatistics is RTEXT_FILTER_SKIP_STATS (include/uapi/linux/rtnetlink.h): they are two
// thirds of what the kernel says of a link.
const skipStatistics = 1 << 3

// device is the kind of a link for which the kernel has none: hardware.
const device = "device"

// entry is a link as the kernel lists it: what is asked of all links, or of each of a
// thousand ports at a start. The library of [Handle] makes ten kilobytes of garbage of each
// link that it reads, and leaves out what a port has.
type entry struct {
	index, master, parent int
	parentElsewhere       bool // which index it is, is another namespace's to say (IFLA_LINK_NETNSID)
	name, alias, kind     string
	mac                   net.HardwareAddr
	mtu                   int
	flags                 uint32 // IFF_…

	addrGenMode       uint8
	hairpin, isolated bool   // of a bridge's port
	forwards          uint16 // which reserved addresses, see reservedAddresses

	ipvlanMode, ipvlanFlag uint16
}

func (e entry) isUp() bool     { return e.flags&unix.IFF_UP != 0 }
func (e entry) isBridge() bool { return e.kind == "bridge" }

// entry reads one link by name, as find does.
func (h *Handle) entry(name string) (entry, error) {
	found, err := readEntries(h.raw, mdlayher.Request, func(e *mdlayher.AttributeEncoder) { e.String(unix.IFLA_IFNAME, name) })
	switch {
	case errors.Is(err, unix.ENODEV):
		return entry{}, fmt.Errorf("link %s: %w", name, ErrNotFound)
	case err != nil:
		return entry{}, fmt.Errorf("read link %s: %w", name, err)
	case len(found) != 1:
		return entry{}, fmt.Errorf("read link %s: the kernel tells of %d links", name, len(found))
	}
	if err := rtnl.CheckName(name, found[0].name); err != nil {
		return entry{}, err
	}
	return found[0], nil
}

// list reads all links.
func (h *Handle) list(ctx context.Context) ([]entry, error) {
	links, err := dump.Retry(ctx, func() ([]entry, error) {
		return readEntries(h.raw, mdlayher.Request|mdlayher.Dump, func(*mdlayher.AttributeEncoder) {})
	})
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	return links, nil
}

// readEntries asks for links.
func readEntries(conn *mdlayher.Conn, flags mdlayher.HeaderFlags, which func(*mdlayher.AttributeEncoder)) ([]entry, error) {
	e := mdlayher.NewAttributeEncoder()
	e.Uint32(unix.IFLA_EXT_MASK, skipStatistics)
	which(e)
	request, err := e.Encode()
	if err != nil {
		return nil, err
	}
	messages, err := ask(conn, mdlayher.Message{
		Header: mdlayher.Header{Type: unix.RTM_GETLINK, Flags: flags},
		Data:   append(make([]byte, unix.SizeofIfInfomsg), request...),
	})
	if err != nil {
		return nil, err
	}
	links := make([]entry, 0, len(messages))
	for _, m := range messages {
		if m.Header.Flags&mdlayher.DumpInterrupted != 0 {
			return nil, netlink.ErrDumpInterrupted
		}
		if l, ok := readEntry(m.Data); ok {
			links = append(links, l)
		}
	}
	return links, nil
}

// ask sends a request and reads what answers it. A connection that is kept has the deadline
// of what was asked before.
func ask(conn *mdlayher.Conn, request mdlayher.Message) ([]mdlayher.Message, error) {
	if err := conn.SetDeadline(time.Now().Add(rtnl.ReplyTimeout)); err != nil {
		return nil, err
	}
	return conn.Execute(request)
}

// readEntry reads struct ifinfomsg and its attributes (rtnetlink(7)). It is not ok where
// there is no room for them.
func readEntry(b []byte) (e entry, ok bool) {
	if len(b) < unix.SizeofIfInfomsg {
		return e, false
	}
	e.index = int(int32(binary.NativeEndian.Uint32(b[4:])))
	e.flags = binary.NativeEndian.Uint32(b[8:])
	e.kind = device
	for kind, value := range nlattr.All(b[unix.SizeofIfInfomsg:]) {
		switch kind {
		case unix.IFLA_IFNAME:
			e.name = text(value)
		case unix.IFLA_IFALIAS:
			e.alias = text(value)
		case unix.IFLA_ADDRESS:
			e.mac = net.HardwareAddr(append([]byte(nil), value...))
		case unix.IFLA_MTU:
			e.mtu = nlattr.Number(value)
		case unix.IFLA_MASTER:
			e.master = nlattr.Number(value)
		case unix.IFLA_LINK:
			e.parent = nlattr.Number(value)
		case unix.IFLA_LINK_NETNSID:
			e.parentElsewhere = true
		case unix.IFLA_AF_SPEC:
			e.readFamilies(value)
		case unix.IFLA_LINKINFO:
			e.readInfo(value)
		}
	}
	return e, true
}

func (e *entry) readFamilies(b []byte) {
	for family, settings := range nlattr.All(b) {
		if family != unix.AF_INET6 {
			continue
		}
		for kind, value := range nlattr.All(settings) {
			if kind == unix.IFLA_INET6_ADDR_GEN_MODE && len(value) > 0 {
				e.addrGenMode = value[0]
			}
		}
	}
}

// readInfo reads what is particular to a kind of link, which comes first.
func (e *entry) readInfo(b []byte) {
	master := ""
	for kind, value := range nlattr.All(b) {
		switch {
		case kind == unix.IFLA_INFO_KIND:
			e.kind = text(value)
		case kind == unix.IFLA_INFO_SLAVE_KIND:
			master = text(value)
		case kind == unix.IFLA_INFO_DATA && e.kind == "ipvlan":
			for kind, value := range nlattr.All(value) {
				switch kind {
				case unix.IFLA_IPVLAN_MODE:
					e.ipvlanMode = uint16(nlattr.Number(value))
				case unix.IFLA_IPVLAN_FLAGS:
					e.ipvlanFlag = uint16(nlattr.Number(value))
				}
			}
		case kind == unix.IFLA_INFO_SLAVE_DATA && master == "bridge":
			for kind, value := range nlattr.All(value) {
				switch kind {
				case unix.IFLA_BRPORT_MODE:
					e.hairpin = nlattr.Number(value) != 0
				case unix.IFLA_BRPORT_ISOLATED:
					e.isolated = nlattr.Number(value) != 0
				case unix.IFLA_BRPORT_GROUP_FWD_MASK:
					e.forwards = uint16(nlattr.Number(value))
				}
			}
		}
	}
}

// text is a string's, without the zero at its end.
func text(value []byte) string { return strings.TrimSuffix(string(value), "\x00") }
