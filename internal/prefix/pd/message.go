package pd

import (
	"encoding/binary"
	"net"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/v6net/v6net/internal/spec"
)

// mostElapsed is what the Elapsed Time option can say (RFC 8415 §21.9).
const mostElapsed = 0xffff * 10 * time.Millisecond

// A question is a message but for its transaction ID and elapsed time.
type question struct {
	kind         dhcpv6.MessageType
	server       []byte             // nil: any
	associations []spec.Association // with the prefixes that are asked for or named
}

// message is what goes over the link. Reconfigure is refused by not accepting it
// (§21.20): whoever can send one may renumber this host at will, since the messages'
// authentication protects from nobody who has seen the exchange before.
func (c *Client) message(q question, id dhcpv6.TransactionID, elapsed time.Duration) []byte {
	m := dhcpv6.Message{MessageType: q.kind, TransactionID: id}
	m.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionClientID, OptionData: c.config.DUID})
	if q.server != nil {
		m.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionServerID, OptionData: q.server})
	}
	m.AddOption(dhcpv6.OptElapsedTime(min(elapsed, mostElapsed)))
	if q.kind != dhcpv6.MessageTypeRelease {
		m.AddOption(dhcpv6.OptRequestedOption(dhcpv6.OptionSolMaxRT)) // §18.2.1: MUST
	}
	if q.kind == dhcpv6.MessageTypeSolicit {
		m.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionRapidCommit})
	}
	for _, a := range q.associations {
		m.AddOption(c.association(q.kind, a))
	}
	return m.ToBytes()
}

// hint is the length of prefix to ask for; zero: any.
func (c *Client) hint() int {
	if c.unhinted {
		return 0
	}
	return c.config.Bits
}

// association is an IA_PD option. One without a prefix asks for any of the length
// that is wanted (§18.2.1, §21.22); T1 and T2 are the server's to say.
func (c *Client) association(kind dhcpv6.MessageType, a spec.Association) *dhcpv6.OptIAPD {
	pd := &dhcpv6.OptIAPD{}
	binary.BigEndian.PutUint32(pd.IaId[:], a.ID)
	for _, d := range a.Delegations {
		pd.Options.Add(&dhcpv6.OptIAPrefix{Prefix: &net.IPNet{
			IP: d.Prefix.Addr().AsSlice(), Mask: net.CIDRMask(d.Prefix.Bits(), 128),
		}})
	}
	if len(a.Delegations) == 0 && c.hint() > 0 && kind != dhcpv6.MessageTypeRelease {
		pd.Options.Add(&dhcpv6.OptIAPrefix{Prefix: &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(c.config.Bits, 128)}})
	}
	return pd
}
