//go:build netns

package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/control"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// figure is what a scrape says of a series, with its labels as they are there.
func figure(t *testing.T, text, series string) float64 {
	t.Helper()
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no %s in\n%s", series, text)
	return 0
}

// The proxy alone shows Prometheus what it prints on SIGUSR1.
func TestNDProxyMetrics(t *testing.T) {
	a := newAlone(t, "--interface", "eth0", "--prefix", "2001:db8::5/128", "--metrics", "[::1]:9547")
	within(t, "the address is answered for", func() bool { return a.resolves(t, "2001:db8::5") })
	a.resolves(t, "2001:db8::6")
	text := a.self.Run(t, "curl", "-sS", "--max-time", "5", "http://[::1]:9547/metrics")
	if n := figure(t, text, `v6net_ndproxy_up{parent="eth0"}`); n != 1 {
		t.Errorf("the proxy is shown as up: %v", n)
	}
	solicited := figure(t, text, `v6net_ndproxy_frames_total{parent="eth0",reason="solicited"}`)
	unknown := figure(t, text, `v6net_ndproxy_frames_total{parent="eth0",reason="unknown_target"}`)
	if solicited < 1 || unknown < 1 {
		t.Errorf("%v solicited, %v unknown", solicited, unknown)
	}
	a.signal(syscall.SIGUSR1)
	printed := regexp.MustCompile(`\bsolicited (\d+)`)
	within(t, "the counters are printed", func() bool { return a.said("NDP PROXY on eth0", "solicited") > 0 })
	a.mu.Lock()
	defer a.mu.Unlock()
	if got := printed.FindStringSubmatch(strings.Join(a.log, "\n")); got == nil || got[1] != fmt.Sprint(solicited) {
		t.Errorf("printed %q, and %v is shown", got, solicited)
	}
	if got := a.self.Run(t, "curl", "-sS", "--max-time", "5", "http://[::1]:9547/healthz"); got != "ok" {
		t.Errorf("health: %q", got)
	}
}

// The daemon shows what status says, of a network with a container that is called.
func TestDaemonMetrics(t *testing.T) {
	s := newSite(t)
	s.lend(t, lentUntil("2001:db8:a000::/56", time.Hour, 2*time.Hour))
	_, addr := s.run(t, 1)
	s.answers(t, addr.String())
	self := testnet.Self(t)
	text := self.Run(t, "curl", "-sS", "--max-time", "5", "--unix-socket", s.scrape, "http://v6net/metrics")
	status, err := control.NewClient(s.socket).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := status.Networks[0]
	id := spec.ShortID(n.ID)
	lent := n.IPv6[0].Lent.Prefixes[0]
	for series, want := range map[string]float64{
		fmt.Sprintf(`v6net_endpoints{network="%s"}`, id):                                                                      float64(len(n.Endpoints)),
		fmt.Sprintf(`v6net_network_degraded{network="%s"}`, id):                                                               0,
		fmt.Sprintf(`v6net_network_info{bridge="%s",mode="bridge",name="",network="%s",parent="eth0"}`, n.Bridge, id):         1,
		fmt.Sprintf(`v6net_firewall_packets_total{direction="in",network="%s",verdict="let"}`, id):                            float64(n.Firewall.LetIn),
		fmt.Sprintf(`v6net_network_prefix_valid_timestamp_seconds{former="false",network="%s",prefix="%s"}`, id, lent.Prefix): float64(lent.Valid.UnixMilli()) / 1000,
		fmt.Sprintf(`v6net_pool_leases{pool="%s",source="pd",used="true"}`, status.Pools[0].ID):                               float64(status.Pools[0].Leases),
		fmt.Sprintf(`v6net_ra_messages_total{link="%s",reason="sent_multicast"}`, n.Bridge):                                   float64(n.RA.Counters["sent_multicast"]),
		`v6net_sysctls_changed`: float64(len(status.Sysctls)),
	} {
		if got := figure(t, text, series); got != want {
			t.Errorf("%s %v, and status says %v", series, got, want)
		}
	}
	if n.Firewall.LetIn == 0 || len(n.Endpoints) != 1 {
		t.Errorf("%+v: the test proves nothing", n)
	}
	if got := self.Run(t, "curl", "-sS", "--max-time", "5", "--unix-socket", s.scrape, "http://v6net/healthz"); got != "ok" {
		t.Errorf("health: %q", got)
	}
}
