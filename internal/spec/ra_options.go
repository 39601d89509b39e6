package spec

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// RAOptions refine Options.RA.
type RAOptions struct {
	DNS           []netip.Addr `json:"dns,omitempty"`            // DNS servers
	Search        []string     `json:"search,omitempty"`         // search domains
	PREF64        netip.Prefix `json:"pref64,omitzero"`          // NAT64 prefix
	CaptivePortal string       `json:"captive_portal,omitempty"` // URI of a captive portal
	Autonomous    bool         `json:"autonomous,omitempty"`     // /64 pools are for SLAAC too
	Lifetime      *Seconds     `json:"lifetime,omitempty"`       // as a default router; nil: what RA says
	Announce      bool         `json:"announce,omitempty"`       // tell the parent link where the pools are
	NoUpstream    bool         `json:"no_upstream,omitempty"`    // nothing is taken from the parent's routers
}

// Bounds that keep each option in one packet of the smallest MTU: an advertisement
// is never fragmented (RFC 6980 §5), and of several packets hosts would read each
// for itself.
const (
	maxAdvertisedDNS    = 8
	maxAdvertisedSearch = 8
	maxSearchList       = 1024 // octets of RFC 1035 §3.1
	maxCaptivePortal    = 240
)

// Bounds of a default router's lifetime: the least that leaves time for three
// advertisements, and RFC 4861 §6.2.1 AdvDefaultLifetime.
const (
	minRouterLifetime = 30
	maxRouterLifetime = 9000
)

// raOptions are the rows of optionTable about router advertisements.
var raOptions = []option{
	{"ra", func(o *Options, k, v string) error {
		return choose(&o.RA, k, v, []Switch{SwitchAuto, SwitchOn, SwitchOff}, nil)
	}},
	{"ra.dns", func(o *Options, k, v string) error {
		for text := range strings.SplitSeq(v, ",") {
			a, err := netip.ParseAddr(strings.TrimSpace(text))
			if err != nil || !IsDNSServer(a) {
				return &OptionError{Key: k, Value: v, Allowed: "IPv6 addresses of DNS servers, with commas between them"}
			}
			o.Advertise.DNS = append(o.Advertise.DNS, a)
		}
		return atMost(k, v, len(o.Advertise.DNS), maxAdvertisedDNS)
	}},
	{"ra.search", func(o *Options, k, v string) error {
		for text := range strings.SplitSeq(v, ",") {
			name := strings.ToLower(strings.TrimSuffix(strings.TrimSpace(text), "."))
			if !IsDomain(name) {
				return &OptionError{Key: k, Value: v, Allowed: "domain names such as example.org, with commas between them"}
			}
			o.Advertise.Search = append(o.Advertise.Search, name)
		}
		return atMost(k, v, len(o.Advertise.Search), maxAdvertisedSearch)
	}},
	{"ra.pref64", func(o *Options, k, v string) error {
		p, err := netip.ParsePrefix(v)
		if err != nil || !IsNAT64Prefix(p) {
			return &OptionError{Key: k, Value: v, Allowed: "a NAT64 prefix such as 64:ff9b::/96, of length 96, 64, 56, 48, 40 or 32, RFC 8781"}
		}
		o.Advertise.PREF64 = p
		return nil
	}},
	{"ra.captive_portal", func(o *Options, k, v string) error {
		u, err := url.Parse(v)
		if err != nil || len(v) > maxCaptivePortal || u.Scheme != "https" && v != unrestricted || u.Scheme == "https" && u.Host == "" {
			return &OptionError{Key: k, Value: v, Allowed: "the https:// URI of the captive portal API, or " + unrestricted + ", RFC 8910"}
		}
		o.Advertise.CaptivePortal = v
		return nil
	}},
	{"ra.autonomous", func(o *Options, k, v string) error { return offOn(&o.Advertise.Autonomous, k, v) }},
	{"ra.lifetime", func(o *Options, k, v string) error {
		n, err := strconv.ParseUint(v, 10, 16)
		if err != nil || n != 0 && (n < minRouterLifetime || n > maxRouterLifetime) {
			return &OptionError{Key: k, Value: v, Allowed: fmt.Sprintf("seconds, %d to %d, or 0 for no default route", minRouterLifetime, maxRouterLifetime)}
		}
		lifetime := Seconds(n)
		o.Advertise.Lifetime = &lifetime
		return nil
	}},
	{"ra.upstream", func(o *Options, k, v string) error {
		s := SwitchOn
		err := choose(&s, k, v, []Switch{SwitchOn, SwitchOff}, nil)
		o.Advertise.NoUpstream = s == SwitchOff
		return err
	}},
	{"ra.announce", func(o *Options, k, v string) error { return offOn(&o.Advertise.Announce, k, v) }},
}

// unrestricted says that there is no captive portal (RFC 8910 §2).
const unrestricted = "urn:ietf:params:capport:unrestricted"

func atMost(key, value string, n, limit int) error {
	if n > limit {
		return &OptionError{Key: key, Value: value, Allowed: fmt.Sprintf("at most %d", limit)}
	}
	return nil
}

// IsDNSServer accepts addresses that a DNS server may have (RFC 8106 §5.1).
func IsDNSServer(a netip.Addr) bool {
	return a.Is6() && !a.Is4In6() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && a.Zone() == ""
}

// IsNAT64Prefix accepts what RFC 8781 §4 can carry.
func IsNAT64Prefix(p netip.Prefix) bool {
	return p.Addr().Is6() && !p.Addr().Is4In6() && p == p.Masked() && slices.Contains([]int{96, 64, 56, 48, 40, 32}, p.Bits())
}

// IsDomain accepts what a DNS search list can carry (RFC 1035 §2.3.1, RFC 8106 §5.2).
func IsDomain(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range label {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return false
			}
		}
	}
	return true
}

func offOn(dst *bool, key, value string) error {
	s := SwitchOff
	if err := choose(&s, key, value, []Switch{SwitchOff, SwitchOn}, nil); err != nil {
		return err
	}
	*dst = s == SwitchOn
	return nil
}

// validateRA checks what the options say against the network.
func (n Network) validateRA() error {
	o := n.Options.Advertise
	off := n.Options.RA == SwitchOff
	switch {
	case searchList(o.Search) > maxSearchList:
		return fmt.Errorf("option ra.search=%s: the names take %d octets (at most %d, to fit a packet)", strings.Join(o.Search, ","), searchList(o.Search), maxSearchList)
	case off && (o.Autonomous || o.NoUpstream || o.Lifetime != nil || len(o.DNS)+len(o.Search) > 0 || o.PREF64.IsValid() || o.CaptivePortal != ""):
		return fmt.Errorf("option ra=off: the network's advertisements are refined by other ra.… options (leave these out, or ra=off)")
	case o.Autonomous && !slices.ContainsFunc(n.IPv6, func(s Subnet) bool { return s.Prefix.Bits() == 64 }):
		return fmt.Errorf("option ra.autonomous=on: hosts make addresses from a /64 alone (RFC 4862 §5.5.3), and subnet %s is none (--ipam-opt prefix_length=64, or --subnet)", n.IPv6[0].Prefix)
	case n.Internal && (n.Options.RA == SwitchOn || o.Lifetime != nil && *o.Lifetime > 0):
		return fmt.Errorf("option ra: an internal network has no default route to advertise (allowed: ra=auto, ra=off)")
	case n.Internal && o.Announce:
		return fmt.Errorf("option ra.announce=on: an internal network is not reached from the parent")
	}
	return nil
}

// searchList is how many octets names take in a DNS search list: each label has
// one for its length, and each name one for its end (RFC 1035 §3.1).
func searchList(names []string) (octets int) {
	for _, name := range names {
		octets += len(name) + 2
	}
	return octets
}
