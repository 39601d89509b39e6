package metrics

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/v6net/v6net/internal/spec"
)

// Status is whoever knows how v6net is: the daemon's engine, or the NDP proxy alone.
type Status func(context.Context) spec.Status

// collector turns a status into metrics, at every scrape.
type collector struct {
	ctx    context.Context // of the server: a Collector has no other
	status Status
	descs  map[*Family]*prometheus.Desc
}

func newCollector(ctx context.Context, status Status) *collector {
	c := &collector{ctx: ctx, status: status, descs: map[*Family]*prometheus.Desc{}}
	for _, f := range statusFamilies() {
		c.descs[f] = prometheus.NewDesc(f.Name, f.Help, f.Labels, nil)
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(descs chan<- *prometheus.Desc) {
	for _, f := range statusFamilies() {
		descs <- c.descs[f]
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(metrics chan<- prometheus.Metric) {
	emit := func(f *Family, value float64, labels ...string) {
		for i := range labels {
			labels[i] = strings.ToValidUTF8(labels[i], "�") // of what came from elsewhere
		}
		metrics <- prometheus.MustNewConstMetric(c.descs[f], f.Kind, value, labels...)
	}
	s := c.status(c.ctx)
	emit(buildInfo, 1, s.Version)
	emit(hostDegraded, truth(s.Error != ""))
	emit(obstacles, float64(len(s.Obstacles)))
	emit(sysctls, float64(len(s.Sysctls)))
	for _, n := range s.Networks {
		network(emit, n)
	}
	for _, p := range s.Pools {
		emit(poolLeases, float64(p.Leases), p.ID, string(p.Source), strconv.FormatBool(p.Used))
	}
	for _, p := range s.Proxies {
		proxy(emit, p)
	}
	for _, a := range s.Parents {
		advertiser(emit, a)
	}
	for _, d := range s.Delegations {
		source(emit, d)
	}
}

// emitter is how one figure goes out.
type emitter func(f *Family, value float64, labels ...string)

func network(emit emitter, n spec.NetworkStatus) {
	id := spec.ShortID(n.ID)
	mode := n.Options.Mode
	if mode == "" {
		mode = spec.ModeBridge
	}
	emit(networkInfo, 1, id, n.Name, string(mode), n.Bridge, n.Parent)
	emit(networkDegraded, truth(n.Error != ""), id)
	emit(networkNotes, float64(len(n.Notes)), id)
	emit(endpoints, float64(len(n.Endpoints)), id)
	for _, s := range n.IPv6 {
		if s.Lent == nil {
			continue
		}
		for _, p := range s.Lent.Prefixes {
			labels := []string{id, p.Prefix.String(), strconv.FormatBool(p.Former)}
			if !p.Former {
				timestamp(emit, prefixPreferred, p.Preferred, labels...)
			}
			timestamp(emit, prefixValid, p.Valid, labels...)
		}
	}
	if c := n.Firewall; c != nil {
		emit(firewallPackets, float64(c.LetIn), id, "in", "let")
		emit(firewallPackets, float64(c.LetOut), id, "out", "let")
		emit(firewallPackets, float64(c.DeniedIn), id, "in", "denied")
		emit(firewallPackets, float64(c.DeniedOut), id, "out", "denied")
		for who, count := range c.Forged {
			emit(firewallForged, float64(count), id, who)
		}
	}
	if n.RA != nil {
		advertiser(emit, *n.RA)
	}
}

func proxy(emit emitter, p spec.ProxyStatus) {
	emit(proxyUp, truth(p.Error == ""), p.Parent)
	emit(proxyEBPF, truth(p.Path == "ebpf"), p.Parent)
	emit(proxyAllMulticast, truth(p.AllMulticast), p.Parent)
	emit(proxyAddresses, float64(p.Leases), p.Parent)
	emit(proxyPrefixes, float64(len(p.Prefixes)), p.Parent)
	emit(proxyConflicts, float64(len(p.Conflicts)), p.Parent)
	for reason, count := range p.Counters {
		emit(proxyFrames, float64(count), p.Parent, reason)
	}
}

func advertiser(emit emitter, a spec.AdvertiserStatus) {
	emit(raUp, truth(a.Error == ""), a.Link)
	emit(raRouters, float64(len(a.Routers)), a.Link)
	emit(raNotes, float64(len(a.Notes)), a.Link)
	timestamp(emit, raSent, a.Sent, a.Link)
	for reason, count := range a.Counters {
		emit(raMessages, float64(count), a.Link, reason)
	}
}

func source(emit emitter, d spec.DelegationStatus) {
	at := []string{string(d.Source), d.Link}
	emit(sourceUp, truth(d.Error == ""), at...)
	emit(sourceState, 1, string(d.Source), d.Link, d.State)
	timestamp(emit, sourceSince, d.Since, at...)
	emit(delegations, float64(len(d.Delegations)), at...)
	for _, lent := range d.Delegations {
		labels := []string{string(d.Source), d.Link, lent.Prefix.String()}
		timestamp(emit, delegationPreferred, lent.Preferred, labels...)
		timestamp(emit, delegationValid, lent.Valid, labels...)
	}
}

// timestamp leaves out a time that is not, or never.
func timestamp(emit emitter, f *Family, at time.Time, labels ...string) {
	if !at.IsZero() {
		emit(f, float64(at.UnixMilli())/1000, labels...)
	}
}

func truth(set bool) float64 {
	if set {
		return 1
	}
	return 0
}
