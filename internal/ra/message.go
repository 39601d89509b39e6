package ra

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/mdlayher/ndp"

	"github.com/v6net/v6net/internal/spec"
)

// maxMessage keeps an advertisement in one packet of IPv6's smallest MTU: it must
// not be fragmented (RFC 6980 §5).
const maxMessage = spec.MinMTU - 40

// Bounds of the interval between multicast advertisements (RFC 4861 §6.2.1).
const (
	defaultInterval = 600 * time.Second // MaxRtrAdvInterval
	leastInterval   = 4 * time.Second
)

// intervals are MinRtrAdvInterval and MaxRtrAdvInterval. A default router is
// advertised three times in its lifetime, so that two may be lost.
func intervals(a spec.Advertisement) (least, most time.Duration) {
	most = defaultInterval
	if a.RouterLifetime > 0 {
		most = min(most, max(leastInterval, a.RouterLifetime.Duration()/3))
	}
	return max(most/3, 3*time.Second), most
}

// marshal is the advertisement as ICMPv6 carries it, its checksum left to the
// kernel.
func marshal(a spec.Advertisement, hardwareAddr [6]byte) ([]byte, error) {
	_, most := intervals(a)
	return encode(a, hardwareAddr, 3*most) // RFC 8106 §5.1, RFC 8781 §4.1
}

// marshalFinal is the last advertisement of a link, which takes back all that
// was said there (RFC 4861 §6.2.5, RFC 9096 §3.5).
func marshalFinal(a spec.Advertisement, hardwareAddr [6]byte) ([]byte, error) {
	a.RouterLifetime = 0
	a.Prefixes = append([]spec.AdvertisedPrefix(nil), a.Prefixes...)
	for i := range a.Prefixes {
		a.Prefixes[i].Valid, a.Prefixes[i].Preferred = 0, 0
	}
	a.Routes = append([]spec.AdvertisedRoute(nil), a.Routes...)
	for i := range a.Routes {
		a.Routes[i].Lifetime = 0
	}
	return encode(a, hardwareAddr, 0)
}

func encode(a spec.Advertisement, hardwareAddr [6]byte, lifetime time.Duration) ([]byte, error) {
	m := &ndp.RouterAdvertisement{
		CurrentHopLimit: a.HopLimit, RouterLifetime: a.RouterLifetime.Duration(),
		ManagedConfiguration: a.Managed, OtherConfiguration: a.Other,
	}
	if a.RouterLifetime > 0 { // RFC 4191 §2.2: without a lifetime it must be medium
		m.RouterSelectionPreference = preference(a.Preference)
	}
	for _, p := range a.Prefixes {
		m.Options = append(m.Options, prefixInformation(p))
	}
	for _, r := range a.Routes {
		m.Options = append(m.Options, routeInformation(r))
	}
	if len(a.DNS) > 0 {
		m.Options = append(m.Options, &ndp.RecursiveDNSServer{Lifetime: lifetime, Servers: a.DNS})
	}
	if len(a.Search) > 0 {
		m.Options = append(m.Options, &ndp.DNSSearchList{Lifetime: lifetime, DomainNames: a.Search})
	}
	if a.PREF64.IsValid() {
		m.Options = append(m.Options, &ndp.PREF64{Lifetime: lifetime, Prefix: a.PREF64})
	}
	if a.CaptivePortal != "" {
		m.Options = append(m.Options, &ndp.CaptivePortal{URI: a.CaptivePortal})
	}
	if a.MTU > 0 {
		m.Options = append(m.Options, ndp.NewMTU(uint32(a.MTU)))
	}
	m.Options = append(m.Options, &ndp.LinkLayerAddress{Direction: ndp.Source, Addr: net.HardwareAddr(hardwareAddr[:])})
	b, err := ndp.MarshalMessage(m)
	if err != nil {
		return nil, fmt.Errorf("encode advertisement for %s: %w", a.Link, err)
	}
	if len(b) > maxMessage {
		return nil, fmt.Errorf("encode advertisement for %s: %w", a.Link, errTooLong)
	}
	return b, nil
}

var errTooLong = errors.New("it does not fit a packet of 1280 bytes: advertise fewer prefixes, routes or DNS servers")

// prefixInformation is the option of RFC 4861 §4.6.2, made here since the ndp
// package has neither R (RFC 6275 §7.2) nor P (RFC 9762 §4).
func prefixInformation(p spec.AdvertisedPrefix) ndp.Option {
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
	value := []byte{byte(p.Prefix.Bits()), flags}
	value = binary.BigEndian.AppendUint32(value, uint32(p.Valid))
	value = binary.BigEndian.AppendUint32(value, uint32(p.Preferred))
	value = append(value, 0, 0, 0, 0)
	return &ndp.RawOption{Type: optionPrefix, Length: 4, Value: append(value, addr.AsSlice()...)}
}

// routeInformation is the option of RFC 4191 §2.3.
func routeInformation(r spec.AdvertisedRoute) ndp.Option {
	return &ndp.RouteInformation{
		PrefixLength: uint8(r.Prefix.Bits()), Prefix: r.Prefix.Masked().Addr(),
		Preference: preference(r.Preference), RouteLifetime: r.Lifetime.Duration(),
	}
}

func preference(p spec.Preference) ndp.Preference {
	switch p {
	case spec.PreferenceLow:
		return ndp.Low
	case spec.PreferenceHigh:
		return ndp.High
	default:
		return ndp.Medium
	}
}

// silent reports whether there is nothing to say: the link is listened on alone.
func silent(a spec.Advertisement) bool {
	return equal(a, spec.Advertisement{Link: a.Link})
}

// current leaves out what was withdrawn long enough ago.
func current(a spec.Advertisement, now time.Time) spec.Advertisement {
	prefixes, routes := a.Prefixes, a.Routes
	a.Prefixes, a.Routes = nil, nil
	for _, p := range prefixes {
		if p.Until.IsZero() || now.Before(p.Until) {
			a.Prefixes = append(a.Prefixes, p)
		}
	}
	for _, r := range routes {
		if r.Until.IsZero() || now.Before(r.Until) {
			a.Routes = append(a.Routes, r)
		}
	}
	return a
}
