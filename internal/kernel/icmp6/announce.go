package icmp6

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/ndp"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/kernel/afpacket"
)

// Announcer tells the hosts behind the ports of bridges where an address is now.
//
// Its socket stays open: closing a packet socket waits until no packet is under
// way (synchronize_net in packet_release, net/packet/af_packet.c), which takes
// ten milliseconds and more.
type Announcer struct{ socket int }

// NewAnnouncer opens an Announcer in the network namespace of the calling thread.
func NewAnnouncer() (*Announcer, error) {
	// Protocol 0: the socket sends, and receives nothing.
	socket, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket for announcements: %w", err)
	}
	return &Announcer{socket}, nil
}

// Close releases the socket, after the last call.
func (a *Announcer) Close() error { return unix.Close(a.socket) }

// Announce tells the hosts behind a bridge's ports that addr is now at mac, by
// an unsolicited neighbor advertisement of its owner (RFC 4861 §7.2.6) or an ARP
// announcement (RFC 5227 §3). It sends once out of every port; the endpoint's own
// port is not to be among them. A port that is gone is no error. It may be
// called from any goroutine.
func (a *Announcer) Announce(ctx context.Context, ports []string, addr netip.Addr, mac net.HardwareAddr) error {
	frame, err := announcement(addr, mac)
	if err != nil {
		return fmt.Errorf("announce %s: %w", addr, err)
	}
	var errs []error
	for _, port := range ports {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		if err := a.sendFrom(port, frame); err != nil {
			errs = append(errs, fmt.Errorf("announce %s on port %s: %w", addr, port, err))
		}
	}
	return errors.Join(errs...)
}

func announcement(addr netip.Addr, mac net.HardwareAddr) ([]byte, error) {
	if len(mac) != 6 {
		return nil, fmt.Errorf("%q is no Ethernet address", mac)
	}
	from := [6]byte(mac)
	if addr.Is4() {
		return arpAnnouncement(addr, from), nil
	}
	return neighborFrame(from, addr, allNodes, &ndp.NeighborAdvertisement{
		Override:      true,
		TargetAddress: addr,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: mac}},
	})
}

// sendFrom sends a frame out of a link, if the link is there and up.
func (a *Announcer) sendFrom(link string, frame []byte) error {
	index, err := a.linkIndex(link)
	if err == nil {
		// The frame's EtherType, for what looks at the packet on its way.
		to := &unix.SockaddrLinklayer{Ifindex: index, Halen: 6, Protocol: afpacket.NetworkOrder(uint16(frame[12])<<8 | uint16(frame[13]))}
		copy(to.Addr[:], frame[:6])
		err = unix.Sendto(a.socket, frame, 0, to)
	}
	if errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENETDOWN) {
		return nil // it went meanwhile
	}
	return err
}

// linkIndex asks by ioctl (netdevice(7)): a bridge has up to 1023 ports, and a
// netlink request for each, which reads all attributes, costs more than sending.
func (a *Announcer) linkIndex(link string) (int, error) {
	request, err := unix.NewIfreq(link)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(a.socket, unix.SIOCGIFINDEX, request); err != nil {
		return 0, err
	}
	return int(request.Uint32()), nil
}
