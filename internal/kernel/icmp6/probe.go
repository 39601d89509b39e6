package icmp6

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/mdlayher/ndp"
	"github.com/vishvananda/netlink"
)

// retransTimer is how long a probe waits for an objection (RFC 4862 §5.4, RFC
// 4861 §10 RETRANS_TIMER).
const retransTimer = time.Second

// Probe does duplicate address detection (RFC 4862 §5.4) on a link for several
// addresses at once, without configuring them. It returns those that another
// node has or is about to take, and those that the link itself has. It takes a
// second, less when all are taken. Frames go out without the random delay of RFC
// 4862 §5.4.2: not every host of the link probes at the same moment.
//
// One's own probe that the network sends back is told by its nonce (RFC 7527).
func Probe(ctx context.Context, link string, addrs []netip.Addr) (taken []netip.Addr, err error) {
	found, err := findLink(ctx, link)
	if err != nil {
		return nil, err
	}
	own, err := found.addresses(ctx)
	if err != nil {
		return nil, err
	}
	p := &probe{link: found, nonces: make(map[netip.Addr][]byte), taken: make(map[netip.Addr]bool)}
	for _, addr := range addrs {
		p.taken[addr] = slices.ContainsFunc(own, func(a netlink.Addr) bool { return a.IP.Equal(addr.AsSlice()) })
		if !p.taken[addr] {
			p.nonces[addr] = make([]byte, 6) // RFC 7527 §4.1: 6 bytes or more
			_, _ = rand.Read(p.nonces[addr]) // never fails
		}
	}
	if err := p.run(ctx); err != nil {
		return nil, fmt.Errorf("probe on link %s: %w", link, err)
	}
	for _, addr := range addrs {
		if p.taken[addr] {
			taken = append(taken, addr)
		}
	}
	return taken, nil
}

type probe struct {
	link   ethernetLink
	nonces map[netip.Addr][]byte // addresses that nobody has objected to yet
	taken  map[netip.Addr]bool
}

func (p *probe) run(ctx context.Context) error {
	socket, err := listen(p.link, neighborFilter(p.link, typeSolicitation, typeAdvertisement))
	if err != nil {
		return err
	}
	defer func() { _ = socket.Close() }()
	groups, err := newGroups(p.link)
	if err != nil {
		return err
	}
	defer func() { _ = groups.close() }()

	for addr, nonce := range p.nonces {
		// RFC 4862 §5.4.2: in the group before the solicitation goes out. The socket
		// hears all groups that reach the link.
		if err := groups.join(addr); err != nil && !errors.Is(err, errTooManyGroups) {
			return err
		}
		if err := p.solicit(socket, addr, nonce); err != nil {
			return fmt.Errorf("solicit %s: %w", addr, err)
		}
	}
	if err := socket.SetReadDeadline(time.Now().Add(retransTimer)); err != nil {
		return err
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		_ = socket.SetReadDeadline(time.Unix(1, 0))
	})
	err = p.listen(socket)
	if !stop() {
		<-ended
		return ctx.Err()
	}
	return err
}

func (p *probe) solicit(socket *os.File, addr netip.Addr, nonce []byte) error {
	frame, err := neighborFrame(p.link.hardwareAddr, unspecified, solicitedNode(addr),
		&ndp.NeighborSolicitation{TargetAddress: addr, Options: []ndp.Option{
			&ndp.RawOption{Type: optionNonce, Length: 1, Value: nonce},
		}})
	if err != nil {
		return err
	}
	_, err = socket.Write(frame)
	return err
}

// listen hears objections until the time is over or all addresses have one.
func (p *probe) listen(socket *os.File) error {
	frame := make([]byte, 1<<16)
	for len(p.nonces) > 0 {
		n, err := socket.Read(frame)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		if m, ok := parseNeighbor(frame[:n]); ok {
			p.hear(m)
		}
	}
	return nil
}

// hear takes in one message (RFC 4862 §5.4.3, §5.4.4).
func (p *probe) hear(m received) {
	nonce, asked := p.nonces[m.target]
	switch {
	case !asked:
		return
	case m.solicitation && !m.source.IsUnspecified():
		return // it looks for the address, as we do
	case m.solicitation && bytes.Equal(m.nonce, nonce):
		return // our own, back from the network
	}
	p.taken[m.target] = true
	delete(p.nonces, m.target)
}
