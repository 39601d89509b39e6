package testnet

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mdlayher/ndp"
)

// Asker asks for a neighbor every millisecond, until the end of the test.
type Asker struct {
	conn  *ndp.Conn
	over  chan struct{}
	ended sync.WaitGroup

	mu      sync.Mutex
	answers []time.Time
}

// Ask begins to ask on a link of a host.
func Ask(t testing.TB, from *Host, link string, target netip.Addr) *Asker {
	t.Helper()
	a := &Asker{over: make(chan struct{})}
	group, err := ndp.SolicitedNodeMulticast(target)
	if err != nil {
		t.Fatal(err)
	}
	from.Do(t, func() {
		var device *net.Interface
		if device, err = net.InterfaceByName(link); err == nil {
			a.conn, _, err = ndp.Listen(device, ndp.LinkLocal)
		}
		if err != nil {
			t.Fatal(err)
		}
		question := &ndp.NeighborSolicitation{TargetAddress: target, Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: device.HardwareAddr}}}
		a.ended.Go(func() {
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-a.over:
					return
				case <-tick.C:
					_ = a.conn.WriteTo(question, nil, group)
				}
			}
		})
	})
	a.ended.Go(func() {
		for {
			message, _, _, err := a.conn.ReadFrom()
			if err != nil {
				return // closed
			}
			if answer, ok := message.(*ndp.NeighborAdvertisement); ok && answer.TargetAddress == target && answer.Solicited {
				a.mu.Lock()
				a.answers = append(a.answers, time.Now())
				a.mu.Unlock()
			}
		}
	})
	t.Cleanup(func() {
		close(a.over)
		_ = a.conn.Close()
		a.ended.Wait()
	})
	return a
}

// Since are when answers have come, from a moment on.
func (a *Asker) Since(from time.Time) []time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	i, _ := slices.BinarySearchFunc(a.answers, from, time.Time.Compare)
	return slices.Clone(a.answers[i:])
}
