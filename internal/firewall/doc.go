// Package firewall decides what may reach a container: networks and published
// ports in, nftables tables out. It is pure; internal/kernel/nft puts them into
// the kernel.
//
// They are written in nft's own language. Their chains are the same for every
// host: what depends on networks and containers is an element of a named set or
// map, so that a packet's cost does not grow with their number and a change is
// a change of elements.
//
// # Living beside other rulesets
//
// A drop in our chain is final, but an accept is not: the packet still meets
// the base chains of others, and Docker sets the policy of `FORWARD` to DROP.
// What our chain accepts it therefore vouches for, by [VouchMark] in the packet's
// mark, and one rule in the foreign chain accepts what carries that mark.
package firewall
