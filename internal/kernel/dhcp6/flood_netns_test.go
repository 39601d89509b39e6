//go:build netns

package dhcp6

import (
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/v6net/v6net/internal/prefix/pd"
)

// Somebody on the link answers what nobody asked, thousands of times a second: a lease is had
// from the server all the same, and prolonged, nothing of the flood's is taken for one, and
// none of it is left afterwards.
func TestFloodOfAnswers(t *testing.T) {
	l := newLab(t)
	l.stop()
	l.level = slog.LevelInfo
	l.start("boot")
	before, held := runtime.NumGoroutine(), heap()
	stop, sent := l.flood()
	defer stop()
	ours := netip.MustParsePrefix("2001:db8:100::/40")
	end := l.kea("aa", 2, 30, 40, 60, pool(ours.Addr().String(), ours.Bits(), 56))
	lent := l.lease(56)
	began, at := sent.Load(), lent.Valid
	l.eventually("the lease is prolonged in the midst of a thousand answers", func() bool {
		now := l.status().Delegations
		return sent.Load()-began > 1000 && len(now) == 1 && now[0].Prefix == lent.Prefix && now[0].Valid.After(at)
	})
	stop()
	if s := l.status(); len(s.Delegations) != 1 || !ours.Overlaps(s.Delegations[0].Prefix) || s.Error != "" {
		t.Errorf("after the flood: %+v", s)
	}
	l.mu.Lock()
	for _, told := range l.told {
		if told != lent.Prefix.String() {
			t.Errorf("told of %q, where %s is lent", told, lent.Prefix)
		}
	}
	l.mu.Unlock()
	l.supervisor.Keep(nil)
	l.eventually("the lease is given back", func() bool { return len(l.supervisor.Status()) == 0 })
	end()
	l.eventually("nothing of it is left", func() bool {
		return runtime.NumGoroutine() <= before && heap() < held+8<<20
	})
	t.Logf("%d answers were sent", sent.Load())
}

// flood sends answers of all kinds to this host's client, with transactions by chance.
func (l *lab) flood() (stop func(), sent *atomic.Int64) {
	t := l.t
	t.Helper()
	duid, err := l.journal.DUID(pd.NewDUID)
	if err != nil {
		t.Fatal(err)
	}
	var conn *net.UDPConn
	l.up.Do(t, func() {
		to := netip.AddrPortFrom(netip.MustParseAddr(l.self.LinkLocal(t, "eth0")).WithZone("lan0"), clientPort)
		conn, err = net.DialUDP("udp6", nil, net.UDPAddrFromAddrPort(to))
	})
	if err != nil {
		t.Fatal(err)
	}
	offered := dhcpv6.OptIAPrefix{PreferredLifetime: time.Hour, ValidLifetime: time.Hour,
		Prefix: &net.IPNet{IP: net.ParseIP("2001:db8:bad::"), Mask: net.CIDRMask(56, 128)}}
	messages := make([][]byte, 0, 16)
	for _, kind := range []dhcpv6.MessageType{dhcpv6.MessageTypeAdvertise, dhcpv6.MessageTypeReply, dhcpv6.MessageTypeReconfigure} {
		m := &dhcpv6.Message{MessageType: kind}
		m.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionClientID, OptionData: duid})
		m.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionServerID, OptionData: []byte{0, 3, 0, 1, 2, 0, 0, 0, 0, 0xba}})
		m.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionPreference, OptionData: []byte{255}})
		m.AddOption(&dhcpv6.OptIAPD{IaId: [4]byte{0, 0, 0, 1}, T1: time.Hour, T2: time.Hour, Options: dhcpv6.PDOptions{Options: dhcpv6.Options{&offered}}})
		whole := m.ToBytes()
		messages = append(messages, whole, whole[:len(whole)/2], whole[:5])
	}
	over := make(chan struct{})
	sent = new(atomic.Int64)
	var ended sync.WaitGroup
	ended.Go(func() {
		for pause := time.NewTicker(5 * time.Millisecond); ; {
			select {
			case <-over:
				pause.Stop()
				return
			case <-pause.C:
			}
			for _, m := range messages {
				transaction := rand.Uint32()
				m[1], m[2], m[3] = byte(transaction>>16), byte(transaction>>8), byte(transaction)
				_, _ = conn.Write(m) // while no session is open the host says that the port is closed
				sent.Add(1)
			}
		}
	})
	return sync.OnceFunc(func() {
		close(over)
		ended.Wait()
		_ = conn.Close()
	}), sent
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
