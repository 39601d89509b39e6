package icmp6

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/mdlayher/ndp"
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
	p := &probe{link: found, nonces: make(map[netip.Addr]*ndp.Nonce), taken: make(map[netip.Addr]bool)}
	for _, addr := range addrs {
		if p.taken[addr] = slices.Contains(own, addr); !p.taken[addr] {
			p.nonces[addr] = ndp.NewNonce()
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
	nonces map[netip.Addr]*ndp.Nonce // addresses that nobody has objected to yet
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
		// RFC 4862 §5.4.2: in the group before the solicitation goes out.
		if err := groups.join(addr); err != nil {
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

func (p *probe) solicit(socket *os.File, addr netip.Addr, nonce *ndp.Nonce) error {
	frame, err := neighborFrame(p.link.hardwareAddr, unspecified, solicitedNode(addr),
		&ndp.NeighborSolicitation{TargetAddress: addr, Options: []ndp.Option{nonce}})
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
		if source, m, err := parseNeighbor(frame[:n]); err == nil {
			p.hear(source, m)
		}
	}
	return nil
}

// hear takes in one message (RFC 4862 §5.4.3, §5.4.4).
func (p *probe) hear(source netip.Addr, m ndp.Message) {
	var target netip.Addr
	switch m := m.(type) {
	case *ndp.NeighborAdvertisement:
		target = m.TargetAddress
	case *ndp.NeighborSolicitation:
		target = m.TargetAddress
		if !source.IsUnspecified() {
			return // it looks for the address, as we do
		}
		if nonce := p.nonces[target]; nonce != nil && slices.ContainsFunc(m.Options, func(o ndp.Option) bool {
			n, ok := o.(*ndp.Nonce)
			return ok && n.Equal(nonce)
		}) {
			return
		}
	}
	if _, asked := p.nonces[target]; asked {
		p.taken[target] = true
		delete(p.nonces, target)
	}
}
