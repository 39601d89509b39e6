// Package onlink lends what a link has: the prefixes that the hosts on it take for their
// own, by router advertisement or by hand. It tells a prefix that has ended from one
// that is away for a moment: a link that goes down loses its advertised addresses at
// once (net/ipv6/addrconf.c, addrconf_ifdown), and has them back when the router says
// so again.
package onlink
