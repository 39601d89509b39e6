// Package ndbpf is the fast path of the NDP proxy: an eBPF program at the ingress
// of a link (tcx, or clsact before Linux 6.6) that answers ordinary solicitations
// for live leases where they arrive, and a filter that keeps from the packet
// socket what it has settled.
//
// What needs judgement comes to the packet socket, and so to package ndproxy, as
// without eBPF: duplicate address detection, other options, extension headers,
// and everything that is invalid. So there is one place for decisions.
package ndbpf
