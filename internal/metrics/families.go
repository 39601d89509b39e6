// Package metrics shows Prometheus what `v6net status` shows people: a scrape asks
// for the status, so that there is one home for every figure. Of its own it has
// only how long calls take, and how much is logged.
package metrics

import "github.com/prometheus/client_golang/prometheus"

// A Family is a metric with its labels.
type Family struct {
	Name, Help string
	Kind       prometheus.ValueType
	Labels     []string
}

func gauge(name, help string, labels ...string) *Family {
	return &Family{"v6net_" + name, help, prometheus.GaugeValue, labels}
}

func counter(name, help string, labels ...string) *Family {
	return &Family{"v6net_" + name, help, prometheus.CounterValue, labels}
}

// The families. A network's label is the ID that people are shown; v6net_network_info
// has its name.
var (
	buildInfo    = gauge("build_info", "1, with the version.", "version")
	hostDegraded = gauge("host_degraded", "1 while what all networks share (firewall, settings, advertisements) is not as it should be.")
	obstacles    = gauge("firewall_obstacles", "Chains of other firewalls that refuse what v6net lets through.")
	sysctls      = gauge("sysctls_changed", "Settings of the host that are changed, and put back with the last network.")

	networkInfo     = gauge("network_info", "1 for each network.", "network", "name", "mode", "bridge", "parent")
	networkDegraded = gauge("network_degraded", "1 while the network or one of its endpoints is not as it should be.", "network")
	networkNotes    = gauge("network_notes", "Things that are not as one might think though nothing has failed: a prefix that is not lent now, a container with its former address.", "network")
	endpoints       = gauge("endpoints", "Attachments of containers.", "network")
	prefixPreferred = gauge("network_prefix_preferred_timestamp_seconds", "When a lent prefix stops being preferred for new connections; absent where that is never.", "network", "prefix", "former")
	prefixValid     = gauge("network_prefix_valid_timestamp_seconds", "When a lent prefix of the network ends; absent where that is never.", "network", "prefix", "former")
	poolLeases      = gauge("pool_leases", "Addresses of the pool that are leased, gateways included.", "pool", "source", "used")

	firewallPackets = counter("firewall_packets_total", "Packets of no known connection, as the first of each are; counted since the rules were last made whole.", "network", "direction", "verdict")
	firewallForged  = counter("firewall_forged_packets_total", "Packets that a container sent from what is not its own, by its name or its endpoint.", "network", "container")

	proxyUp           = gauge("ndproxy_up", "1 while the NDP proxy answers on the link.", "parent")
	proxyEBPF         = gauge("ndproxy_ebpf", "1 while solicitations are answered in the kernel, by eBPF.", "parent")
	proxyAllMulticast = gauge("ndproxy_all_multicast", "1 while groups are not joined one by one, which MLD snooping needs.", "parent")
	proxyAddresses    = gauge("ndproxy_addresses", "Addresses that are answered for.", "parent")
	proxyPrefixes     = gauge("ndproxy_prefixes", "Prefixes that are answered for as a whole.", "parent")
	proxyConflicts    = gauge("ndproxy_conflicts", "Addresses that another host has for its own.", "parent")
	proxyFrames       = counter("ndproxy_frames_total", "Frames that were received, by the one reason for what became of each.", "parent", "reason")

	raUp       = gauge("ra_up", "1 while advertisements can be sent and heard on the link.", "link")
	raRouters  = gauge("ra_routers", "Other routers that are heard on the link.", "link")
	raNotes    = gauge("ra_notes", "Things that do not fit together with other routers of the link.", "link")
	raSent     = gauge("ra_last_sent_timestamp_seconds", "When an advertisement was last sent; absent where none was.", "link")
	raMessages = counter("ra_messages_total", "Router advertisements and solicitations, sent and received, by what became of each.", "link", "reason")

	sourceUp            = gauge("source_up", "1 while nothing goes wrong with a source of prefixes.", "source", "link")
	sourceState         = gauge("source_state", "1 for the state that a source of prefixes is in.", "source", "link", "state")
	sourceSince         = gauge("source_state_timestamp_seconds", "Since when it is in that state.", "source", "link")
	delegations         = gauge("delegations", "Prefixes that a source lends now.", "source", "link")
	delegationPreferred = gauge("delegation_preferred_timestamp_seconds", "When a lent prefix stops being preferred; absent where that is never.", "source", "link", "prefix")
	delegationValid     = gauge("delegation_valid_timestamp_seconds", "When a lent prefix ends; absent where that is never.", "source", "link", "prefix")
)

// Two families do not come from the status: logLines and callSeconds, a histogram.
var (
	logLines    = counter("log_lines_total", "Lines that were logged, by level.", "level")
	callSeconds = &Family{"v6net_call_duration_seconds", "How long calls of container engines took, failed ones included.", prometheus.UntypedValue, []string{"api", "method", "outcome"}}
)

// Families are all of them, in the order of the page.
func Families() []*Family {
	return append(statusFamilies(), logLines, callSeconds)
}

func statusFamilies() []*Family {
	return []*Family{
		buildInfo, hostDegraded, obstacles, sysctls,
		networkInfo, networkDegraded, networkNotes, endpoints, prefixPreferred, prefixValid, poolLeases,
		firewallPackets, firewallForged,
		proxyUp, proxyEBPF, proxyAllMulticast, proxyAddresses, proxyPrefixes, proxyConflicts, proxyFrames,
		raUp, raRouters, raNotes, raSent, raMessages,
		sourceUp, sourceState, sourceSince, delegations, delegationPreferred, delegationValid,
	}
}
