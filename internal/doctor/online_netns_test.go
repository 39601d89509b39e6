//go:build netns

package doctor_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/v6net/v6net/internal/doctor"
	"github.com/v6net/v6net/internal/doctor/outside"
)

// outsideWorld is the router as DNS server and registry.
type outsideWorld struct {
	dns      net.PacketConn
	registry *httptest.Server
	off      time.Duration // of the registry's clock
}

const registryName = "registry.example"

func newOutsideWorld(t *testing.T, s *scene) *outsideWorld {
	t.Helper()
	w := &outsideWorld{}
	var tcp net.Listener
	s.up.Do(t, func() {
		var err error
		if w.dns, err = net.ListenPacket("udp6", net.JoinHostPort(routerAddress, "53")); err != nil {
			t.Fatal(err)
		}
		if tcp, err = net.Listen("tcp6", net.JoinHostPort(routerAddress, "443")); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { _ = w.dns.Close() })
	w.registry = &httptest.Server{Listener: tcp, Config: &http.Server{ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Date", time.Now().Add(w.off).UTC().Format(http.TimeFormat))
	})}}
	w.registry.StartTLS()
	t.Cleanup(w.registry.Close)
	return w
}

// answer serves DNS: of the registry's name it says these addresses.
func (w *outsideWorld) answer(t *testing.T, addrs ...string) {
	t.Helper()
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := w.dns.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if err := m.Unpack(buf[:n]); err != nil {
				continue
			}
			m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
			for _, q := range m.Questions {
				for _, a := range addrs {
					if q.Type == dnsmessage.TypeAAAA && q.Name.String() == registryName+"." {
						m.Answers = append(m.Answers, dnsmessage.Resource{
							Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1},
							Body:   &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr(a).As16()},
						})
					}
				}
			}
			if out, err := m.Pack(); err == nil {
				_, _ = w.dns.WriteTo(out, from)
			}
		}
	}()
}

// examine asks outside as `v6net doctor --online` does.
func (s *scene) examineOnline(t *testing.T) []doctor.Finding {
	t.Helper()
	f := s.facts(t)
	outside.Online{Registry: registryName, Resolver: &net.Resolver{PreferGo: true, StrictErrors: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp6", net.JoinHostPort(routerAddress, "53"))
	}}}.Gather(t.Context(), &f)
	return doctor.Examine(f)
}

func TestOnline(t *testing.T) {
	s := newScene(t)
	w := newOutsideWorld(t, s)
	one(t, of(s.examineOnline(t), "dns"), doctor.Problem, registryName) // nobody answers yet

	w.answer(t, routerAddress)
	found := s.examineOnline(t)
	for _, check := range []string{"dns", "registry", "clock"} {
		if f := of(append([]doctor.Finding(nil), found...), check); len(f) != 0 {
			t.Errorf("all is well, and %s found %+v", check, f)
		}
	}

	w.off = time.Hour + 30*time.Second // said in whole seconds
	one(t, of(s.examineOnline(t), "clock"), doctor.Problem, "-1h0m", "off from that of "+registryName)

	s.up.Run(t, "ip6tables", "-A", "INPUT", "-p", "tcp", "--dport", "443", "-j", "DROP")
	one(t, of(s.examineOnline(t), "registry"), doctor.Problem, "connect over IPv6")

	// A host without an uplink is told so, and nobody is waited for.
	s.self.Run(t, "ip", "-6", "route", "del", "default")
	one(t, of(s.examineOnline(t), "registry"), doctor.Warning, "no IPv6 default route")
}

func TestDNSWithoutAAAA(t *testing.T) {
	s := newScene(t)
	newOutsideWorld(t, s).answer(t)
	one(t, of(s.examineOnline(t), "dns"), doctor.Warning, "no IPv6 address")
}
