package icmp6

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/mdlayher/ndp"
)

// Ask reports whether somebody on the link has an address: it solicits it from the
// link's own link-local address (RFC 4861 §7.2.2) and waits a second for an
// advertisement. The host's neighbour cache is left as it is. It is no duplicate
// address detection, which would have a node give up an address that it is about
// to take.
func Ask(ctx context.Context, link string, target netip.Addr) (answers bool, err error) {
	found, err := findLink(ctx, link)
	if err != nil {
		return false, err
	}
	source, err := found.linkLocal(ctx)
	if err != nil {
		return false, err
	}
	if !source.IsValid() {
		return false, fmt.Errorf("link %s: no link-local address to ask from", link)
	}
	socket, err := listen(found, neighborFilter(found, typeAdvertisement))
	if err != nil {
		return false, err
	}
	defer func() { _ = socket.Close() }()
	frame, err := neighborFrame(found.hardwareAddr, source, solicitedNode(target), &ndp.NeighborSolicitation{
		TargetAddress: target,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: found.hardwareAddr[:]}},
	})
	if err != nil {
		return false, fmt.Errorf("solicit %s on %s: %w", target, link, err)
	}
	if _, err := socket.Write(frame); err != nil {
		return false, fmt.Errorf("solicit %s on %s: %w", target, link, err)
	}
	if err := socket.SetReadDeadline(time.Now().Add(retransTimer)); err != nil {
		return false, err
	}
	stop := context.AfterFunc(ctx, func() { _ = socket.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 1<<16)
	for {
		n, err := socket.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return false, ctx.Err()
		}
		if err != nil {
			return false, fmt.Errorf("wait for %s on %s: %w", target, link, err)
		}
		if m, ok := parseNeighbor(buf[:n]); ok && !m.solicitation && m.target == target {
			return true, nil
		}
	}
}
