package ra

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/mdlayher/ndp"

	"github.com/v6net/v6net/internal/spec"
)

// Decoded is an advertisement as somebody reads it from the wire.
type Decoded struct {
	spec.Advertisement
	HardwareAddr net.HardwareAddr // of the router; nil: not said
	// Unknown counts options of types that are not looked into.
	Unknown int
}

// Decode reads a valid router advertisement as ICMPv6 carries it. An option that
// cannot be read counts as unknown and does not hide the others.
func Decode(b []byte) Decoded {
	var d Decoded
	if len(b) < advertisementLen || b[0] != typeAdvertisement {
		return d
	}
	d.HopLimit, d.RouterLifetime = b[4], spec.Seconds(binary.BigEndian.Uint16(b[6:]))
	d.Managed, d.Other = b[5]&0x80 != 0, b[5]&0x40 != 0
	d.Preference = readPreference(b[5])
	for o := b[advertisementLen:]; len(o) >= 8 && o[1] > 0 && int(o[1])*8 <= len(o); o = o[int(o[1])*8:] {
		if !d.option(o[:int(o[1])*8]) {
			d.Unknown++
		}
	}
	return d
}

// option reads one option. Prefixes and routes are read here: the ndp package
// drops R and P of the one, and bits after the last whole byte of the other. So
// are lists, of which it reads no more than 248 octets.
func (d *Decoded) option(o []byte) bool {
	switch o[0] {
	case optionPrefix:
		return d.prefix(o)
	case optionRoute:
		return d.route(o)
	case optionDNS:
		return d.dnsServers(o)
	case optionSearch:
		return d.searchList(o)
	}
	// The ndp package reads whole messages only.
	m, err := ndp.ParseMessage(append([]byte{typeAdvertisement, advertisementLen - 1: 0}, o...))
	if err != nil {
		return false
	}
	a, ok := m.(*ndp.RouterAdvertisement)
	if !ok || len(a.Options) != 1 {
		return false
	}
	switch o := a.Options[0].(type) {
	case *ndp.PREF64:
		d.PREF64 = append(d.PREF64, lasting([]netip.Prefix{o.Prefix}, o.Lifetime)...)
	case *ndp.CaptivePortal:
		d.CaptivePortal = o.URI
	case *ndp.MTU:
		d.MTU = int(o.MTU)
	case *ndp.LinkLayerAddress:
		d.HardwareAddr = o.Addr
	default:
		return false
	}
	return true
}

// dnsServers reads RFC 8106 §5.1.
func (d *Decoded) dnsServers(o []byte) bool {
	if len(o) < 24 || len(o)%16 != 8 {
		return false
	}
	lifetime := spec.Seconds(binary.BigEndian.Uint32(o[4:]))
	for a := o[8:]; len(a) > 0; a = a[16:] {
		d.DNS = append(d.DNS, spec.Lasting[netip.Addr]{Value: netip.AddrFrom16([16]byte(a)), Lifetime: lifetime})
	}
	return true
}

// searchList reads RFC 8106 §5.2: names without compression, up to the padding. A
// label may have any octets but a dot, which would make two of it.
func (d *Decoded) searchList(o []byte) bool {
	var names []spec.Lasting[string]
	lifetime := spec.Seconds(binary.BigEndian.Uint32(o[4:]))
	var labels []string
	for o = o[8:]; len(o) > 0; {
		n := int(o[0])
		if n > 63 || n >= len(o) && n > 0 || slices.Contains(o[1:1+n], '.') {
			return false
		}
		if n > 0 {
			labels = append(labels, string(o[1:1+n]))
		} else if len(labels) > 0 {
			names = append(names, spec.Lasting[string]{Value: strings.Join(labels, "."), Lifetime: lifetime})
			labels = nil
		}
		o = o[1+n:]
	}
	if len(labels) > 0 || len(names) == 0 {
		return false
	}
	d.Search = append(d.Search, names...)
	return true
}

// lasting are values that one option gives one lifetime.
func lasting[T comparable](values []T, lifetime time.Duration) []spec.Lasting[T] {
	all := make([]spec.Lasting[T], len(values))
	for i, v := range values {
		all[i] = spec.Lasting[T]{Value: v, Lifetime: spec.Seconds(lifetime / time.Second)}
	}
	return all
}

func (d *Decoded) prefix(o []byte) bool {
	if len(o) != 32 || o[2] > 128 {
		return false
	}
	d.Prefixes = append(d.Prefixes, spec.AdvertisedPrefix{
		Prefix: netip.PrefixFrom(netip.AddrFrom16([16]byte(o[16:])), int(o[2])),
		OnLink: o[3]&0x80 != 0, Autonomous: o[3]&0x40 != 0, Router: o[3]&0x20 != 0, Delegating: o[3]&0x10 != 0,
		Valid:     spec.Seconds(binary.BigEndian.Uint32(o[4:])),
		Preferred: spec.Seconds(binary.BigEndian.Uint32(o[8:])),
	})
	return true
}

// route reads RFC 4191 §2.3: of the prefix as much is there as its length needs.
func (d *Decoded) route(o []byte) bool {
	if len(o) > 24 || o[2] > 128 || int(o[2]) > (len(o)-8)*8 || o[3]>>3&3 == 2 {
		return false // RFC 4191 §2.1: the reserved preference; such a route is ignored
	}
	var a [16]byte
	copy(a[:], o[8:])
	d.Routes = append(d.Routes, spec.AdvertisedRoute{
		Prefix:     netip.PrefixFrom(netip.AddrFrom16(a), int(o[2])).Masked(),
		Preference: readPreference(o[3]), Lifetime: spec.Seconds(binary.BigEndian.Uint32(o[4:])),
	})
	return true
}

// readPreference reads the two bits of RFC 4191 §2.1.
func readPreference(flags byte) spec.Preference {
	switch flags >> 3 & 3 {
	case 1:
		return spec.PreferenceHigh
	case 3:
		return spec.PreferenceLow
	default:
		return spec.PreferenceMedium
	}
}
