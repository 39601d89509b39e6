package ra

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/mdlayher/ndp"

	"github.com/v6net/v6net/internal/spec"
)

// maxMessage keeps an advertisement in one packet of IPv6's smallest MTU: it must
// not be fragmented (RFC 6980 §5).
const maxMessage = spec.MinMTU - 40

// maxOptions is what a message has room for beside its header and the router's
// own link-layer address.
const maxOptions = maxMessage - advertisementLen - 8

// Bounds of the interval between multicast advertisements (RFC 4861 §6.2.1).
const (
	defaultInterval = 600 * time.Second // MaxRtrAdvInterval
	leastInterval   = 4 * time.Second
)

// intervals are MinRtrAdvInterval and MaxRtrAdvInterval. A default router is
// advertised three times in its lifetime, so that two may be lost. The least is
// what RFC 4861 §6.2.1 allows at most: RFC 7772 §5.1 has no more than seven
// advertisements an hour wake up a host that sleeps.
func intervals(a spec.Advertisement) (least, most time.Duration) {
	most = defaultInterval
	if a.RouterLifetime > 0 {
		most = min(most, max(leastInterval, a.RouterLifetime.Duration()/3))
	}
	return max(most*3/4, 3*time.Second), most
}

// final is the last advertisement of a link, which takes back all that was said
// there (RFC 4861 §6.2.5, RFC 9096 §3.5).
func final(a spec.Advertisement) spec.Advertisement {
	a.RouterLifetime = 0
	a.Prefixes = slices.Clone(a.Prefixes)
	for i := range a.Prefixes {
		a.Prefixes[i].Valid, a.Prefixes[i].Preferred = 0, 0
	}
	a.Routes = slices.Clone(a.Routes)
	for i := range a.Routes {
		a.Routes[i].Lifetime = 0
	}
	a.DNS, a.Search, a.PREF64 = ended(a.DNS), ended(a.Search), ended(a.PREF64)
	return a
}

func ended[T comparable](items []spec.Lasting[T]) []spec.Lasting[T] {
	items = slices.Clone(items)
	for i := range items {
		items[i].Lifetime = 0
	}
	return items
}

// marshal is the advertisement as ICMPv6 carries it, its checksum left to the
// kernel, in as many messages as it takes (RFC 4861 §6.2.3): a host takes each
// for what it says, and misses nothing in it that another one says (§6.3.4).
// What is withdrawn comes last, so that the first message has what is in use.
func marshal(a spec.Advertisement, hardwareAddr [6]byte) ([][]byte, error) {
	options, err := encodeOptions(a)
	if err != nil {
		return nil, fmt.Errorf("encode advertisement for %s: %w", a.Link, err)
	}
	own := append([]byte{optionSourceLLA, 1}, hardwareAddr[:]...)
	var messages [][]byte
	m := header(a)
	for _, o := range options {
		if len(m)+len(o)+len(own) > maxMessage {
			messages = append(messages, append(m, own...))
			m = header(a)
		}
		m = append(m, o...)
	}
	return append(messages, append(m, own...)), nil
}

// header is a message up to its options (RFC 4861 §4.2).
func header(a spec.Advertisement) []byte {
	var flags byte
	if a.Managed {
		flags |= 0x80
	}
	if a.Other {
		flags |= 0x40
	}
	if a.RouterLifetime > 0 { // RFC 4191 §2.2: without a lifetime it must be medium
		flags |= preference(a.Preference)
	}
	lifetime := uint16(min(a.RouterLifetime, 0xffff))
	return append(binary.BigEndian.AppendUint16([]byte{typeAdvertisement, 0, 0, 0, a.HopLimit, flags}, lifetime), make([]byte, 8)...)
}

// encodeOptions are the options that carry an advertisement, none longer than
// maxOptions, what is in use before what is withdrawn.
func encodeOptions(a spec.Advertisement) ([][]byte, error) {
	var inUse, withdrawn [][]byte
	add := func(lifetime spec.Seconds, o []byte) {
		if lifetime == 0 {
			withdrawn = append(withdrawn, o)
		} else {
			inUse = append(inUse, o)
		}
	}
	for _, p := range a.Prefixes {
		add(p.Valid, prefixInformation(p))
	}
	for _, r := range a.Routes {
		add(r.Lifetime, routeInformation(r))
	}
	for _, g := range together(a.DNS, maxOptions-8, func(netip.Addr) int { return 16 }) {
		add(g.lifetime, dnsServers(g))
	}
	for _, g := range together(a.Search, maxOptions-16, func(name string) int { return len(name) + 2 }) {
		add(g.lifetime, searchList(g))
	}
	for _, p := range a.PREF64 {
		o, err := encode(&ndp.PREF64{Lifetime: eights(p.Lifetime), Prefix: p.Value})
		if err != nil {
			return nil, fmt.Errorf("NAT64 prefix %s: %w", p.Value, err)
		}
		add(p.Lifetime, o)
	}
	var rest []ndp.Option
	if a.CaptivePortal != "" {
		rest = append(rest, &ndp.CaptivePortal{URI: a.CaptivePortal})
	}
	if a.MTU > 0 {
		rest = append(rest, ndp.NewMTU(uint32(a.MTU)))
	}
	for _, r := range rest {
		o, err := encode(r)
		if err != nil {
			return nil, err
		}
		inUse = append(inUse, o)
	}
	return append(inUse, withdrawn...), nil
}

// encode is one option alone; the ndp package writes whole messages only.
func encode(o ndp.Option) ([]byte, error) {
	b, err := ndp.MarshalMessage(&ndp.RouterAdvertisement{Options: []ndp.Option{o}})
	if err != nil {
		return nil, err
	}
	return b[advertisementLen:], nil
}

// group is what one option carries with one lifetime.
type group[T comparable] struct {
	lifetime spec.Seconds
	values   []T
	size     int
}

// together makes groups of what has the same lifetime, in the order given, none
// of them larger than most.
func together[T comparable](items []spec.Lasting[T], most int, size func(T) int) []group[T] {
	var groups []group[T]
	for _, item := range items {
		n := size(item.Value)
		i := slices.IndexFunc(groups, func(g group[T]) bool { return g.lifetime == item.Lifetime && g.size+n <= most })
		if i < 0 {
			i = len(groups)
			groups = append(groups, group[T]{lifetime: item.Lifetime})
		}
		groups[i].values = append(groups[i].values, item.Value)
		groups[i].size += n
	}
	return groups
}

// eights is a lifetime as the PREF64 option has it: in units of 8 seconds, rounded
// up, to 65528 (RFC 8781 §4.1).
func eights(s spec.Seconds) time.Duration {
	return time.Duration((min(s, 65528)+7)/8*8) * time.Second
}

// prefixInformation is the option of RFC 4861 §4.6.2, made here since the ndp
// package has neither R (RFC 6275 §7.2) nor P (RFC 9762 §4).
func prefixInformation(p spec.AdvertisedPrefix) []byte {
	var flags byte
	for i, set := range []bool{p.OnLink, p.Autonomous, p.Router, p.Delegating} {
		if set {
			flags |= 0x80 >> i
		}
	}
	addr := p.Prefix.Masked().Addr()
	if p.Router {
		addr = p.Prefix.Addr()
	}
	o := []byte{optionPrefix, 4, byte(p.Prefix.Bits()), flags}
	o = binary.BigEndian.AppendUint32(o, uint32(p.Valid))
	o = binary.BigEndian.AppendUint32(o, uint32(p.Preferred))
	return append(append(o, 0, 0, 0, 0), addr.AsSlice()...)
}

// routeInformation is the option of RFC 4191 §2.3: of the prefix as much as its
// length needs.
func routeInformation(r spec.AdvertisedRoute) []byte {
	words := (r.Prefix.Bits() + 63) / 64
	o := []byte{optionRoute, byte(1 + words), byte(r.Prefix.Bits()), preference(r.Preference)}
	o = binary.BigEndian.AppendUint32(o, uint32(r.Lifetime))
	return append(o, r.Prefix.Masked().Addr().AsSlice()[:8*words]...)
}

// dnsServers is the option of RFC 8106 §5.1, and searchList that of §5.2. They are
// made here since the ndp package has no option longer than 248 octets.
func dnsServers(g group[netip.Addr]) []byte {
	o := binary.BigEndian.AppendUint32([]byte{optionDNS, byte(1 + 2*len(g.values)), 0, 0}, uint32(g.lifetime))
	for _, a := range g.values {
		o = append(o, a.AsSlice()...)
	}
	return o
}

func searchList(g group[string]) []byte {
	o := binary.BigEndian.AppendUint32([]byte{optionSearch, 0, 0, 0}, uint32(g.lifetime))
	for _, name := range g.values {
		for label := range strings.SplitSeq(name, ".") {
			o = append(append(o, byte(len(label))), label...)
		}
		o = append(o, 0)
	}
	o = append(o, make([]byte, -len(o)&7)...)
	o[1] = byte(len(o) / 8)
	return o
}

// preference is that of RFC 4191 §2.1 at its place in the flags.
func preference(p spec.Preference) byte {
	switch p {
	case spec.PreferenceLow:
		return 3 << 3
	case spec.PreferenceHigh:
		return 1 << 3
	default:
		return 0
	}
}

// silent reports whether there is nothing to say: the link is listened on alone.
func silent(a spec.Advertisement) bool {
	return equal(a, spec.Advertisement{Link: a.Link})
}

// current leaves out what was withdrawn long enough ago.
func current(a spec.Advertisement, now time.Time) spec.Advertisement {
	over := func(until time.Time) bool { return !until.IsZero() && !now.Before(until) }
	a.Prefixes = without(a.Prefixes, func(p spec.AdvertisedPrefix) bool { return over(p.Until) })
	for i := range a.Prefixes {
		p := &a.Prefixes[i]
		p.Valid = atMost(p.Valid, p.ValidUntil, now)
		p.Preferred = min(atMost(p.Preferred, p.PreferredUntil, now), p.Valid)
	}
	a.Routes = without(a.Routes, func(r spec.AdvertisedRoute) bool { return over(r.Until) })
	a.DNS = without(a.DNS, func(s spec.Lasting[netip.Addr]) bool { return over(s.Until) })
	a.Search = without(a.Search, func(s spec.Lasting[string]) bool { return over(s.Until) })
	a.PREF64 = without(a.PREF64, func(s spec.Lasting[netip.Prefix]) bool { return over(s.Until) })
	return a
}

// atMost is a lifetime that does not go beyond a time, if that is set.
func atMost(lifetime spec.Seconds, until, now time.Time) spec.Seconds {
	if until.IsZero() {
		return lifetime
	}
	left := max(until.Sub(now), 0) / time.Second
	if left >= time.Duration(lifetime) {
		return lifetime
	}
	return spec.Seconds(left)
}

// without is a copy of all that drop does not want dropped; nil when that is none.
func without[T any](all []T, drop func(T) bool) []T {
	var kept []T
	for _, one := range all {
		if !drop(one) {
			kept = append(kept, one)
		}
	}
	return kept
}
