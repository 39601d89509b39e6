package firewall

import (
	"fmt"
	"strings"

	"github.com/v6net/v6net/internal/spec"
)

// Denied connections can be told, network by network. A rule before the one that drops
// hands a packet's headers to whoever listens to an NFLOG group: so only packets that
// are lost anyway meet it, and it is there only while some network wants it.

// DefaultLogGroup is the NFLOG group of ours, where nobody chooses another. One group
// has one listener in each network namespace.
const DefaultLogGroup = 646

// What a network may tell in a second, and at once: more would be of use to nobody but
// whoever wants to fill the log. logBytes holds the headers of any packet that the log
// has words for.
const (
	logRate, logBurst = 10, 20
	logBytes          = 128
)

// A Reason is why a packet is denied, in one word.
type Reason string

// The reasons.
const (
	DeniedUnpublished Reason = "unpublished"
	DeniedNobody      Reason = "nobody"
	DeniedIsolated    Reason = "isolated"
	DeniedInternal    Reason = "internal"
	DeniedNeighbour   Reason = "neighbour"
	DeniedStray       Reason = "stray"
	DeniedPosing      Reason = "posing"
	DeniedInvalid     Reason = "invalid"
	DeniedForged      Reason = "forged"
)

// Words are the reason for people.
func (r Reason) Words() string {
	return map[Reason]string{
		DeniedUnpublished: "the port is not published, and the network is not open (inbound)",
		DeniedNobody:      "nobody has the address",
		DeniedIsolated:    "networks do not reach each other (isolate=on), and the port is not published",
		DeniedInternal:    "the network is internal: nothing gets in or out",
		DeniedNeighbour:   "containers of the network do not reach each other (com.docker.network.bridge.enable_icc=false)",
		DeniedStray:       "an address of the link alone is not forwarded from (RFC 3927)",
		DeniedPosing:      "it comes from elsewhere under an address of a network of containers (RFC 6092)",
		DeniedInvalid:     "conntrack can make nothing of it, so that it would leave under a private address",
		DeniedForged:      "a container sends what is not its own to send (antispoof)",
	}[r]
}

// Whose rules these are is said by how the log's prefixes begin.
const (
	prefixIn  = "v6net-in-"  // to a container of the network
	prefixOut = "v6net-out-" // from one
)

// ParseLogPrefix reads the prefix of a log rule of ours; ok: it is one.
func ParseLogPrefix(prefix string) (inward bool, why Reason, ok bool) {
	if rest, in := strings.CutPrefix(prefix, prefixIn); in {
		return true, Reason(rest), Reason(rest).Words() != ""
	}
	rest, out := strings.CutPrefix(prefix, prefixOut)
	return false, Reason(rest), out && Reason(rest).Words() != ""
}

// logging is the NFLOG group of rules that tell; 0: there are none.
type logging uint16

// The sets that say what is told: for bridges, and for their ports.
var (
	logBridges = [2]string{"logged", "log_rates"}
	logPorts   = [2]string{"logged_ports", "log_port_rates"}
)

// sets are those of the rules that tell, of which the second is filled by packets.
func (l logging) sets(names [2]string) []Set {
	sets := []Set{{Name: names[0], Key: typeLink}}
	if l != 0 {
		sets = append(sets, Set{Name: names[1], Key: typeLink, Dynamic: true})
	}
	return sets
}

// tell is the rule that tells, if there is one; link is iifname or oifname.
func (l logging) tell(sets [2]string, link string, why Reason) []string {
	if l == 0 {
		return nil
	}
	prefix := prefixIn
	if link == "iifname" {
		prefix = prefixOut
	}
	return []string{fmt.Sprintf(`%s @%s update @%s { %s limit rate %d/second burst %d packets } log prefix "%s%s" group %d snaplen %d`,
		link, sets[0], sets[1], link, logRate, logBurst, prefix, why, l, logBytes)}
}

// in tells and drops what goes to a network.
func (l logging) in(why Reason) []string {
	return append(l.tell(logBridges, "oifname", why), "oifname @denied_in drop")
}

// out tells and drops what comes from one.
func (l logging) out(why Reason) []string {
	return append(l.tell(logBridges, "iifname", why), "iifname @denied_out drop")
}

// between tells whichever of two networks wants it, the sender's first, in whose name
// it is counted.
func (l logging) between(why Reason) []string {
	if l == 0 {
		return l.out(why)
	}
	rules := append(l.tell(logBridges, "iifname", why), "iifname @logged iifname @denied_out drop")
	rules = append(rules, l.tell(logBridges, "oifname", why)...)
	return append(rules, "iifname @denied_out drop")
}

// Refusal is a packet that has been dropped, as a rule has told it.
type Refusal struct {
	Inward bool // to a container of the network, else from one
	Reason Reason
	// In and Out are the links that it came by and would have left by, Port the port of
	// a bridge that it came in by. Empty: there is none, or it is gone.
	In, Out, Port string
	MAC           string // the sender's, on In; empty: there is none
	spec.Headers
}
