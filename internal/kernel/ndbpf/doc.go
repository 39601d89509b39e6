// Package ndbpf is the fast path of the NDP proxy: an eBPF program at the ingress
// of a link (tcx, or clsact before Linux 6.6) that answers ordinary solicitations
// for live leases where they arrive, and a filter that keeps from the packet
// socket what it has settled.
//
// What needs judgement comes to the packet socket, and so to package ndproxy, as
// without eBPF: several options, extension headers, questions under an address of
// ours, and everything that is invalid. So there is one place for decisions.
// Duplicate address detection is answered here, too: an ipvlan in mode l3 takes it
// away before any socket hears it.
package ndbpf
