package ndproxy

import (
	"fmt"
	"net/netip"
)

// never are addresses that no proxy answers for, whoever asks it to.
var never = []struct {
	prefix netip.Prefix
	why    string
}{
	{netip.MustParsePrefix("fe80::/10"), "the link-local addresses, of which every host and router of the link has its own"}, // RFC 4291 §2.5.6
	{netip.MustParsePrefix("ff00::/8"), "the multicast groups, which nobody asks for"},                                       // RFC 4291 §2.7
	{netip.MustParsePrefix("::/8"), "the loopback, embedded IPv4 and translated addresses, which are on no link"},            // RFC 4291 §2.5, RFC 6052 §2.1
}

// Answerable refuses addresses that cannot be this host's to answer for.
func Answerable(prefix netip.Prefix) error {
	for _, n := range never {
		if n.prefix.Overlaps(prefix) {
			return fmt.Errorf("%s has to do with %s, %s; allowed are global and unique local addresses, best as a list (--addresses)", prefix, n.prefix, n.why)
		}
	}
	return nil
}
