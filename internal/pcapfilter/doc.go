// Package pcapfilter compiles the part of tcpdump's filter language (pcap-filter(7)) that
// people use to classic BPF. What it takes means what tcpdump takes it for; what it does
// not take it refuses by name.
package pcapfilter

// Supported says what can be written, for people.
const Supported = "ip, ip6, arp, tcp, udp, sctp, icmp, icmp6; [ip|ip6] [src|dst] host NAME-OR-ADDRESS; [ip|ip6] [src|dst] net PREFIX; " +
	"[tcp|udp|sctp] [src|dst] port N; … portrange N-N; and, or, not, ( )"
