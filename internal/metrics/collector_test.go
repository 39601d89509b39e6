package metrics

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/v6net/v6net/internal/spec"
)

// everything is a status with something of all.
func everything() spec.Status {
	prefix := netip.MustParsePrefix
	at := func(seconds int64) time.Time { return time.Unix(seconds, 0) }
	options := spec.DefaultOptions()
	return spec.Status{
		Version: "1.2.3", Error: "firewall: no",
		Networks: []spec.NetworkStatus{{
			Network: spec.Network{ID: strings.Repeat("a", 64), Name: "web", Options: options, IPv6: []spec.Subnet{{
				Prefix: prefix("2001:db8:a::/64"), Lent: &spec.Lent{Prefixes: []spec.LentPrefix{
					{Prefix: prefix("2001:db8:b::/64"), Preferred: at(100), Valid: at(200)},
					{Prefix: prefix("2001:db8:a::/64"), Former: true, Preferred: at(1), Valid: at(150)},
				}},
			}}},
			Bridge: "v6naaaaaaaaaaaa", Parent: "eth0", Error: "parent", Notes: []string{"note"},
			Endpoints: []spec.Endpoint{{ID: "e"}, {ID: "f"}},
			RA:        &spec.AdvertiserStatus{Advertisement: spec.Advertisement{Link: "v6naaaaaaaaaaaa"}, Sent: at(50), Counters: map[string]uint64{"sent_multicast": 3}},
			Firewall:  &spec.FirewallCounters{LetIn: 1, LetOut: 2, DeniedIn: 3, DeniedOut: 4, Forged: map[string]uint64{"nginx\xff": 5}},
		}, {
			Network: spec.Network{ID: strings.Repeat("b", 64), Options: spec.Options{Mode: spec.ModeMacvlan}}, Parent: "eth0",
		}},
		Pools: []spec.PoolStatus{{Pool: spec.Pool{ID: "2001:db8:a::/64", Source: spec.SourcePD}, Leases: 3, Used: true}},
		Proxies: []spec.ProxyStatus{{Parent: "eth0", Path: "ebpf", Leases: 7, AllMulticast: true, Prefixes: []netip.Prefix{prefix("2001:db8::/80")},
			Conflicts: []spec.ProxyConflict{{}}, Counters: map[string]uint64{"solicited": 9, "unknown_target": 0}}},
		Parents:   []spec.AdvertiserStatus{{Advertisement: spec.Advertisement{Link: "eth0"}, Routers: []spec.HeardRouter{{}}, Notes: []string{"mtu"}}},
		Sysctls:   []spec.SysctlStatus{{}, {}},
		Obstacles: []spec.Obstacle{{Table: "inet filter", Chain: "forward", Why: "policy drop"}},
		Delegations: []spec.DelegationStatus{{SourceOnLink: spec.SourceOnLink{Source: spec.SourcePD, Link: "eth0"}, State: "bound", Since: at(10), Error: "late",
			Delegations: []spec.Delegation{{Prefix: prefix("2001:db8:b::/56"), Preferred: at(100)}}}},
	}
}

// scrape is what Prometheus gets, v6net's own lines.
func scrape(t *testing.T, status Status, more ...prometheus.Collector) string {
	t.Helper()
	recorder := httptest.NewRecorder()
	handler(t.Context(), status, slog.New(slog.DiscardHandler), more...).ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if recorder.Code != http.StatusOK {
		t.Fatalf("status %d: %s", recorder.Code, recorder.Body)
	}
	var b strings.Builder
	for line := range strings.Lines(recorder.Body.String()) {
		if strings.HasPrefix(line, "v6net_") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func always(s spec.Status) Status { return func(context.Context) spec.Status { return s } }

func TestEverythingOfAStatusIsShown(t *testing.T) {
	want := `v6net_build_info{version="1.2.3"} 1
v6net_delegation_preferred_timestamp_seconds{link="eth0",prefix="2001:db8:b::/56",source="pd"} 100
v6net_delegations{link="eth0",source="pd"} 1
v6net_endpoints{network="aaaaaaaaaaaa"} 2
v6net_endpoints{network="bbbbbbbbbbbb"} 0
v6net_firewall_forged_packets_total{container="nginx�",network="aaaaaaaaaaaa"} 5
v6net_firewall_obstacles 1
v6net_firewall_packets_total{direction="in",network="aaaaaaaaaaaa",verdict="denied"} 3
v6net_firewall_packets_total{direction="in",network="aaaaaaaaaaaa",verdict="let"} 1
v6net_firewall_packets_total{direction="out",network="aaaaaaaaaaaa",verdict="denied"} 4
v6net_firewall_packets_total{direction="out",network="aaaaaaaaaaaa",verdict="let"} 2
v6net_host_degraded 1
v6net_ndproxy_addresses{parent="eth0"} 7
v6net_ndproxy_all_multicast{parent="eth0"} 1
v6net_ndproxy_conflicts{parent="eth0"} 1
v6net_ndproxy_ebpf{parent="eth0"} 1
v6net_ndproxy_frames_total{parent="eth0",reason="solicited"} 9
v6net_ndproxy_frames_total{parent="eth0",reason="unknown_target"} 0
v6net_ndproxy_prefixes{parent="eth0"} 1
v6net_ndproxy_up{parent="eth0"} 1
v6net_network_degraded{network="aaaaaaaaaaaa"} 1
v6net_network_degraded{network="bbbbbbbbbbbb"} 0
v6net_network_info{bridge="",mode="macvlan",name="",network="bbbbbbbbbbbb",parent="eth0"} 1
v6net_network_info{bridge="v6naaaaaaaaaaaa",mode="bridge",name="web",network="aaaaaaaaaaaa",parent="eth0"} 1
v6net_network_notes{network="aaaaaaaaaaaa"} 1
v6net_network_notes{network="bbbbbbbbbbbb"} 0
v6net_network_prefix_preferred_timestamp_seconds{former="false",network="aaaaaaaaaaaa",prefix="2001:db8:b::/64"} 100
v6net_network_prefix_valid_timestamp_seconds{former="false",network="aaaaaaaaaaaa",prefix="2001:db8:b::/64"} 200
v6net_network_prefix_valid_timestamp_seconds{former="true",network="aaaaaaaaaaaa",prefix="2001:db8:a::/64"} 150
v6net_pool_leases{pool="2001:db8:a::/64",source="pd",used="true"} 3
v6net_ra_last_sent_timestamp_seconds{link="v6naaaaaaaaaaaa"} 50
v6net_ra_messages_total{link="v6naaaaaaaaaaaa",reason="sent_multicast"} 3
v6net_ra_notes{link="eth0"} 1
v6net_ra_notes{link="v6naaaaaaaaaaaa"} 0
v6net_ra_routers{link="eth0"} 1
v6net_ra_routers{link="v6naaaaaaaaaaaa"} 0
v6net_ra_up{link="eth0"} 1
v6net_ra_up{link="v6naaaaaaaaaaaa"} 1
v6net_source_state{link="eth0",source="pd",state="bound"} 1
v6net_source_state_timestamp_seconds{link="eth0",source="pd"} 10
v6net_source_up{link="eth0",source="pd"} 0
v6net_sysctls_changed 2
`
	got := scrape(t, always(everything()))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	// Of every family there is something, or the status above lacks it.
	for _, f := range statusFamilies() {
		if f != delegationValid && !strings.Contains(got, "\n"+f.Name+"{") && !strings.Contains("\n"+got, "\n"+f.Name+" ") && !strings.HasPrefix(got, f.Name) {
			t.Errorf("nothing is shown of %s", f.Name)
		}
	}
}

// An empty status has no figures of networks, and still says that it is there.
func TestAnEmptyStatus(t *testing.T) {
	if got, want := scrape(t, always(spec.Status{})), "v6net_build_info{version=\"\"} 1\nv6net_firewall_obstacles 0\nv6net_host_degraded 0\nv6net_sysctls_changed 0\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestCalls(t *testing.T) {
	calls := NewCalls()
	calls.Record(Docker, "NetworkDriver.Join", 3*time.Millisecond, false)
	calls.Record(Docker, "NetworkDriver.Join", 30*time.Second, true)
	got := scrape(t, always(spec.Status{}), calls)
	for _, want := range []string{
		`v6net_call_duration_seconds_bucket{api="docker",method="NetworkDriver.Join",outcome="ok",le="0.005"} 1`,
		`v6net_call_duration_seconds_count{api="docker",method="NetworkDriver.Join",outcome="ok"} 1`,
		`v6net_call_duration_seconds_bucket{api="docker",method="NetworkDriver.Join",outcome="error",le="20"} 0`,
		`v6net_call_duration_seconds_count{api="docker",method="NetworkDriver.Join",outcome="error"} 1`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("no line %s in\n%s", want, got)
		}
	}
}

// Lines are counted by whoever writes them, whatever attributes he has.
func TestLines(t *testing.T) {
	lines := NewLines()
	log := lines.Count(slog.New(slog.NewTextHandler(io.Discard, nil)))
	log.Error("one")
	log.With("link", "eth0").WithGroup("g").Error("two")
	log.Debug("not written, and not counted")
	got := scrape(t, always(spec.Status{}), lines)
	for _, want := range []string{`v6net_log_lines_total{level="error"} 2`, `v6net_log_lines_total{level="warn"} 0`} {
		if !strings.Contains(got, want+"\n") || strings.Contains(got, "debug") {
			t.Errorf("no line %s in\n%s", want, got)
		}
	}
}
