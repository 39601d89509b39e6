//go:build netns

package icmp6

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/mdlayher/ndp"

	"github.com/v6net/v6net/internal/testnet"
	"github.com/v6net/v6net/ndproxy"
)

// BenchmarkPacketPath is one solicitation and its answer over a veth pair, one
// at a time, both ends in this process. Allocations are those of both ends.
func BenchmarkPacketPath(b *testing.B) {
	for _, leases := range []uint64{1, 1000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("leases=%d", leases), func(b *testing.B) {
			self, up := testnet.Self(b), testnet.New(b, "up")
			testnet.Connect(b, self, "eth0", up, "lan0")
			var socket *os.File
			var lan0 ethernetLink
			var err error
			up.Do(b, func() {
				if lan0, err = findLink(b.Context(), "lan0"); err == nil {
					socket, err = listen(lan0, neighborFilter(lan0, typeAdvertisement))
				}
			})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = socket.Close() }()

			proxy := ndproxy.Proxy{Knobs: ndproxy.Knobs{Rate: 1e9, SourceRate: 1e9}}
			for i := range leases {
				proxy.Leases.Add(address(i))
			}
			conn, err := Dial(b.Context(), "eth0")
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			ran := make(chan error)
			go func() { ran <- proxy.Run(ctx, conn) }()
			defer func() {
				cancel()
				<-ran //nolint:errcheck // it was cancelled
			}()

			frames := make([][]byte, 4096)
			for i := range frames {
				target := address(uint64(i) * 0x9e3779b97f4a7c15 % leases)
				frames[i], err = neighborFrame(lan0.hardwareAddr, netip.MustParseAddr("2001:db8::ffff:2"), solicitedNode(target),
					&ndp.NeighborSolicitation{TargetAddress: target})
				if err != nil {
					b.Fatal(err)
				}
			}
			answer := make([]byte, 2048)
			if err := socket.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
				b.Fatal(err)
			}
			times := make([]time.Duration, 0, 1<<20)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				began := time.Now()
				if _, err := socket.Write(frames[i%len(frames)]); err != nil {
					b.Fatal(err)
				}
				if _, err := socket.Read(answer); err != nil {
					b.Fatalf("after %d answers: %v; counters %v", i, err, proxy.Counters.Snapshot())
				}
				if len(times) < cap(times) {
					times = append(times, time.Since(began))
				}
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Nanoseconds())/1000, "p50-µs")
			b.ReportMetric(float64(times[len(times)*99/100].Nanoseconds())/1000, "p99-µs")
		})
	}
}

func address(n uint64) netip.Addr {
	a := netip.MustParseAddr("2001:db8::").As16()
	binary.BigEndian.PutUint64(a[8:], n)
	return netip.AddrFrom16(a)
}
