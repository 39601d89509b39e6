package spec

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Way is by which link the host reaches an address.
type Way struct {
	Link   string
	Bridge bool // the link is one
}

// Call is a connection that somebody would open, or an echo request.
type Call struct {
	From     netip.Addr `json:"from"`
	To       netip.Addr `json:"to"`
	Protocol string     `json:"protocol"` // tcp, udp, sctp or ping
	Port     uint16     `json:"port,omitempty"`
}

// callProtocols are those of a Call.
var callProtocols = []string{"tcp", "udp", "sctp", "ping"}

// ParseCall reads addresses and `PORT`, `PORT/PROTOCOL` or `ping`.
func ParseCall(from, to, port string) (c Call, err error) {
	if c.From, err = netip.ParseAddr(from); err != nil {
		return Call{}, fmt.Errorf("%q is no IP address", from)
	}
	if c.To, err = netip.ParseAddr(to); err != nil {
		return Call{}, fmt.Errorf("%q is no IP address", to)
	}
	number, protocol, named := strings.Cut(port, "/")
	if c.Protocol = protocol; !named {
		c.Protocol = "tcp"
	}
	if c.Protocol = strings.ToLower(c.Protocol); strings.EqualFold(port, "ping") {
		number, c.Protocol = "0", "ping"
	}
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		return Call{}, fmt.Errorf("%q is no port (allowed: 1 to 65535, with /tcp, /udp or /sctp, or ping)", port)
	}
	c.Port = uint16(n)
	return c, c.Validate()
}

// Validate checks a call.
func (c Call) Validate() error {
	switch {
	case !c.From.IsValid() || !c.To.IsValid():
		return errors.New("a call needs two addresses, from and to")
	case c.From.Zone() != "" || c.To.Zone() != "" || c.From.Is4In6() || c.To.Is4In6():
		return fmt.Errorf("a call needs two addresses without zones, from %s to %s", c.From, c.To)
	case c.From.Is4() != c.To.Is4():
		return fmt.Errorf("%s and %s are of different families", c.From, c.To)
	case !slices.Contains(callProtocols, c.Protocol):
		return fmt.Errorf("protocol %q (allowed: %s)", c.Protocol, strings.Join(callProtocols, ", "))
	case c.Protocol == "ping" && c.Port != 0:
		return fmt.Errorf("a ping has no port, but %d was given", c.Port)
	case c.Protocol != "ping" && c.Port == 0:
		return fmt.Errorf("port 0 is nobody's to be called at (allowed: 1 to 65535)")
	}
	for _, a := range []netip.Addr{c.From, c.To} {
		if a.IsUnspecified() || a.IsMulticast() || a == broadcast {
			return fmt.Errorf("%s is not the address of one host, and a call is from one to another", a)
		}
	}
	return nil
}

// broadcast is that of IPv4's links (RFC 919 §7).
var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// Verdict is what becomes of a call.
type Verdict string

// The verdicts.
const (
	Accepted Verdict = "accepted"
	Dropped  Verdict = "dropped"
	Unjudged Verdict = "not judged" // by v6net
)

// Judgement is what the firewall makes of a call.
type Judgement struct {
	// Warning says that the rules are not in place by which it was judged.
	Warning string  `json:"warning,omitempty"`
	Verdict Verdict `json:"verdict"`
	Why     string  `json:"why"`
	// Steps are what is known and done on the way, each in words.
	Steps []string `json:"steps"`
	// The rule that decides, in nft's words; empty where none does.
	Table string `json:"table,omitempty"`
	Chain string `json:"chain,omitempty"`
	Rule  string `json:"rule,omitempty"`
}
