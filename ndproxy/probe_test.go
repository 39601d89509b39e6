package ndproxy

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdlayher/ndp"
)

// RFC 7527: our own probe that comes back is known whoever seems to have sent it,
// another's is not, and neither is ours for another target.
func TestOwnNonce(t *testing.T) {
	at := here
	at.Nonces = NewNonces()
	for name, c := range map[string]struct {
		frame []byte
		at    Station
		want  Reason
	}{
		"sent back as it was":       {probe(nil, leased, at), at, Own},
		"sent back by another MAC":  {from(probe(nil, leased, at), neighbor), at, Looped},
		"another node's":            {from(probe(nil, leased, Station{HardwareAddr: router, Nonces: NewNonces()}), neighbor), at, Defended},
		"of who knows of no nonces": {from(probe(nil, leased, at), neighbor), here, Defended},
		"a target without a lease":  {from(probe(nil, unknown, at), neighbor), at, Looped},
	} {
		t.Run(name, func(t *testing.T) {
			if v := Decide(c.frame, c.at, set{leased: true}); v.Reason != c.want {
				t.Errorf("verdict %v, want %v", v.Reason, c.want)
			}
		})
	}
}

func from(frame []byte, mac [6]byte) []byte { copy(frame[6:], mac[:]); return frame }

// mdlayher/ndp reads what we ask.
func TestSolicitations(t *testing.T) {
	at := here
	at.Nonces = NewNonces()
	for name, c := range map[string]struct {
		frame  []byte
		source netip.Addr
		target netip.Addr
		option ndp.Option
	}{
		"probe":   {probe(nil, leased, at), netip.IPv6Unspecified(), leased, &ndp.Nonce{}},
		"gateway": {solicit(nil, leased, host, at), leased, host, &ndp.LinkLayerAddress{Direction: ndp.Source, Addr: router[:]}},
	} {
		t.Run(name, func(t *testing.T) {
			source, destination := netip.AddrFrom16([16]byte(c.frame[22:])), netip.AddrFrom16([16]byte(c.frame[38:]))
			m, err := ndp.ParseMessage(c.frame[54:])
			if err != nil {
				t.Fatal(err)
			}
			ns, ok := m.(*ndp.NeighborSolicitation)
			if !ok || ns.TargetAddress != c.target || source != c.source || destination != groupOf(c.target) || len(ns.Options) != 1 || c.frame[21] != 255 {
				t.Fatalf("%x: %+v from %v to %v", c.frame, m, source, destination)
			}
			if got, want := ns.Options[0].Code(), c.option.Code(); got != want {
				t.Errorf("option %d, want %d", got, want)
			}
			if want, err := ndp.MarshalMessageChecksum(ns, source, destination); err != nil || !bytes.Equal(c.frame[54:], want) {
				t.Errorf("message %x, mdlayher/ndp writes %x", c.frame[54:], want)
			}
		})
	}
}

// A new lease is told to all there is: by probe, advertisement, and a question to
// each gateway on its behalf.
func TestGatewaysLearn(t *testing.T) {
	supervise(t, func(s *Supervisor, _ *fakeHost, f *fakeLink) {
		gateway := netip.MustParseAddr("fe80::99")
		f.gateways = []netip.Addr{gateway}
		s.Add("eth0", leased)
		synctest.Wait()
		var asked []netip.Addr
		for len(f.out) > 0 {
			b := <-f.out
			if b[icmpOffset] == typeSolicitation {
				asked = append(asked, netip.AddrFrom16([16]byte(b[62:])))
			}
		}
		if len(asked) != 2 || asked[0] != leased || asked[1] != gateway {
			t.Errorf("asked for %v, want for %v and %v", asked, leased, gateway)
		}
	})
}

// A prefix has all multicast received, whenever it comes.
func TestPrefixJoinsAll(t *testing.T) {
	supervise(t, func(s *Supervisor, host *fakeHost, f *fakeLink) {
		prefix := netip.MustParsePrefix("2001:db8:9::/64")
		s.Add("eth0", leased)
		synctest.Wait()
		if f.all || status(s, "eth0").AllMulticast {
			t.Error("all multicast is received for one lease")
		}
		s.AddPrefix("eth0", prefix)
		again := newFakeLink()
		host.set("eth1", again)
		s.AddPrefix("eth1", prefix)
		synctest.Wait()
		for link, f := range map[string]*fakeLink{"eth0": f, "eth1": again} {
			if !f.all || !status(s, link).AllMulticast {
				t.Errorf("%s: not all multicast is received", link)
			}
		}
	})
}

// With a delay, an answer to multicast comes within it, one to unicast at once;
// a lease that goes meanwhile is not answered for, and what waits is bounded.
func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeLink()
		host := &fakeHost{links: map[string]*fakeLink{"eth0": f}}
		s := NewSupervisor(host.dial, Knobs{Delay: time.Second, SourceRate: 1e6, Rate: 1e6}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- s.Run(ctx) }()
		s.Add("eth0", leased)
		s.Add("eth0", unknown)
		time.Sleep(time.Second)
		announced(t, f)
		f.in <- unicast(leased).marshal(t)
		synctest.Wait()
		if len(f.out) != 1 {
			t.Fatalf("%d answers to unicast at once, want 1", len(f.out))
		}
		<-f.out
		for range maxDelayed + 10 {
			f.in <- multicast(leased).marshal(t)
		}
		synctest.Wait()
		if c := status(s, "eth0").Counters; c["send_failed"] != 10 || c["solicited"] != maxDelayed {
			t.Errorf("counters %v, want %d waiting and 10 too many", c, maxDelayed)
		}
		time.Sleep(time.Second)
		if len(f.out) != maxDelayed {
			t.Errorf("%d answers after the delay, want %d", len(f.out), maxDelayed)
		}
		for len(f.out) > 0 {
			<-f.out
		}
		f.in <- multicast(unknown).marshal(t)
		synctest.Wait()
		sent := len(f.out) // if chance had it sent at once
		s.Remove("eth0", unknown)
		time.Sleep(2 * time.Second)
		if len(f.out) != sent {
			t.Error("answered for a lease that had gone")
		}
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

// With everything in a frame that counts, an answer allocates nothing, whatever
// limits it.
func TestAnswerAllocatesNothing(t *testing.T) {
	limit := newShares(1e9, 1e9)
	var p Proxy
	p.nonces = NewNonces()
	p.Leases.Add(leased)
	f := newFakeLink()
	frame, probed, out := multicast(leased).marshal(t), dad(leased).marshal(t), make([]byte, 0, FrameLen)
	now := time.Duration(0)
	if n := testing.AllocsPerRun(1000, func() {
		for _, b := range [][]byte{frame, probed} {
			now++
			v := Decide(b, p.station(f), &p)
			if limit.take([6]byte(b[6:]), now) {
				out = v.Advertisement.AppendFrame(out[:0])
			}
			p.Counters.count(v.Reason)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
