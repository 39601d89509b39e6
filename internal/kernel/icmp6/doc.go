// Package icmp6 holds v6net's raw sockets: the packet socket of the NDP proxy,
// the probe for duplicate addresses, and announcements to a bridge's ports.
//
// Everything it sets on a link belongs to a socket and goes with it, even when
// the process is killed.
package icmp6
