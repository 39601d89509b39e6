package pd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/v6net/v6net/internal/spec"
)

// Bounds of what a server may say.
const (
	mostPrefixes     = 16 // of one association
	mostAssociations = 16
	mostDUID         = 2 + 128 // RFC 8415 §11.1
	leastDUID        = 2 + 1
	mostText         = 200 // of a status message that is shown
)

// forever is the lifetime, T1 or T2 that never ends (RFC 8415 §7.7).
const forever = 0xffffffff * time.Second

// An answer is an Advertise or Reply that is meant for this client.
type answer struct {
	reply      bool
	rapid      bool
	server     []byte
	preference uint8
	status     status
	pds        []granted
	// solicitMost is the server's SOL_MAX_RT; zero: it says none, or none that is valid.
	solicitMost time.Duration
}

// granted is an IA_PD of an answer.
type granted struct {
	id       uint32
	t1, t2   time.Duration
	status   status
	prefixes []lent
}

// lent is a prefix of an answer; one with a valid lifetime of zero is taken back.
type lent struct {
	prefix           netip.Prefix
	preferred, valid time.Duration
}

// status is a Status Code option (RFC 8415 §21.13); without one all is well.
type status struct {
	code iana.StatusCode
	text string
}

func (s status) ok() bool { return s.code == iana.StatusSuccess }

func (s status) String() string {
	name := s.code.String()
	switch s.code { // as RFC 8415 calls them
	case iana.StatusUnspecFail:
		name = "UnspecFail"
	case iana.StatusNoBinding:
		name = "NoBinding"
	case iana.StatusNotOnLink:
		name = "NotOnLink"
	case iana.StatusUseMulticast:
		name = "UseMulticast"
	case iana.StatusNoPrefixAvail:
		name = "NoPrefixAvail"
	case iana.StatusNoAddrsAvail:
		name = "NoAddrsAvail"
	}
	if s.text == "" {
		return name
	}
	return fmt.Sprintf("%s (%q)", name, s.text)
}

// Why a message is none for this client.
var (
	errShort       = errors.New("shorter than a message's header")
	errKind        = errors.New("neither Advertise nor Reply")
	errTransaction = errors.New("of another transaction")
	errClient      = errors.New("for another client")
	errServer      = errors.New("without a server identifier, or with one of a length that is none")
)

// parse reads an answer to the client's question of that transaction. What makes a
// message invalid (RFC 8415 §16.3, §16.10) is an error; an association or prefix that
// is wrong is left out.
func parse(b []byte, id dhcpv6.TransactionID, client []byte) (answer, error) {
	if len(b) < dhcpv6.MessageHeaderSize {
		return answer{}, errShort
	}
	kind := dhcpv6.MessageType(b[0])
	switch {
	case kind != dhcpv6.MessageTypeAdvertise && kind != dhcpv6.MessageTypeReply:
		return answer{}, errKind
	case !bytes.Equal(b[1:4], id[:]):
		return answer{}, errTransaction
	}
	var options dhcpv6.Options
	if err := options.FromBytesWithParser(b[4:], parseOption); err != nil {
		return answer{}, fmt.Errorf("options: %w", err)
	}
	if !bytes.Equal(content(options, dhcpv6.OptionClientID), client) {
		return answer{}, errClient
	}
	a := answer{
		reply:  kind == dhcpv6.MessageTypeReply,
		rapid:  options.GetOne(dhcpv6.OptionRapidCommit) != nil,
		server: content(options, dhcpv6.OptionServerID),
		status: statusOf(options),
	}
	if len(a.server) < leastDUID || len(a.server) > mostDUID {
		return answer{}, errServer
	}
	mo := dhcpv6.MessageOptions{Options: options}
	a.preference = mo.Preference()
	if b := content(options, dhcpv6.OptionSolMaxRT); len(b) == 4 {
		if d := time.Duration(binary.BigEndian.Uint32(b)) * time.Second; d >= leastSolicitMost && d <= mostSolicitMost {
			a.solicitMost = d
		}
	}
	for _, pd := range mo.IAPD() {
		a.add(pd)
	}
	return a, nil
}

// parseOption reads the options that matter; others may hold what they like.
func parseOption(code dhcpv6.OptionCode, data []byte) (dhcpv6.Option, error) {
	switch code {
	case dhcpv6.OptionIAPD, dhcpv6.OptionPreference, dhcpv6.OptionStatusCode:
		return dhcpv6.ParseOption(code, data)
	default:
		return &dhcpv6.OptionGeneric{OptionCode: code, OptionData: bytes.Clone(data)}, nil
	}
}

func content(options dhcpv6.Options, code dhcpv6.OptionCode) []byte {
	if o := options.GetOne(code); o != nil {
		return o.ToBytes()
	}
	return nil
}

func statusOf(options dhcpv6.Options) status {
	s, ok := options.GetOne(dhcpv6.OptionStatusCode).(*dhcpv6.OptStatusCode)
	if !ok {
		return status{}
	}
	return status{s.StatusCode, clean(s.StatusMessage)}
}

// clean is a server's text as it may be shown and logged.
func clean(text string) string {
	text = strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(text, "")))
	if runes := []rune(text); len(runes) > mostText {
		text = string(runes[:mostText]) + "…"
	}
	return text
}

// add reads an IA_PD. One whose T1 is after its T2 is invalid (RFC 8415 §21.21).
func (a *answer) add(pd *dhcpv6.OptIAPD) {
	g := granted{
		id: binary.BigEndian.Uint32(pd.IaId[:]), t1: pd.T1, t2: pd.T2,
		status: statusOf(pd.Options.Options),
	}
	if len(a.pds) >= mostAssociations || g.t1 > g.t2 && g.t2 > 0 || slices.ContainsFunc(a.pds, func(other granted) bool { return other.id == g.id }) {
		return
	}
	for _, p := range pd.Options.Prefixes() {
		if l, ok := read(p); ok && len(g.prefixes) < mostPrefixes && !a.overlaps(g, l) {
			g.prefixes = append(g.prefixes, l)
		}
	}
	a.pds = append(a.pds, g)
}

// overlaps reports whether a prefix would be lent twice, or is named twice.
func (a *answer) overlaps(g granted, l lent) bool {
	clash := func(other lent) bool {
		return other.prefix == l.prefix || l.valid > 0 && other.valid > 0 && other.prefix.Overlaps(l.prefix)
	}
	return slices.ContainsFunc(g.prefixes, clash) ||
		slices.ContainsFunc(a.pds, func(g granted) bool { return slices.ContainsFunc(g.prefixes, clash) })
}

// read reads an IA Prefix option. One whose preferred lifetime is longer than the
// valid one is invalid, as is one that the server says is none (RFC 8415 §21.22).
func read(p *dhcpv6.OptIAPrefix) (lent, bool) {
	if p.Prefix == nil || p.PreferredLifetime > p.ValidLifetime || !statusOf(p.Options.Options).ok() {
		return lent{}, false
	}
	addr, ok := netip.AddrFromSlice(p.Prefix.IP)
	bits, of := p.Prefix.Mask.Size()
	if !ok || of != 128 {
		return lent{}, false
	}
	prefix := netip.PrefixFrom(addr, bits).Masked() // bits beyond the length say nothing (§21.22)
	return lent{prefix, p.PreferredLifetime, p.ValidLifetime}, spec.IsDelegable(prefix)
}

// granted is the association of that ID, if the answer has it.
func (a *answer) granted(id uint32) (granted, bool) {
	i := slices.IndexFunc(a.pds, func(g granted) bool { return g.id == id })
	if i < 0 {
		return granted{}, false
	}
	return a.pds[i], true
}

// live is how many prefixes the answer lends to the associations of these IDs.
func (a *answer) live(ids []uint32) int {
	n := 0
	for _, id := range ids {
		g, _ := a.granted(id)
		for _, l := range g.prefixes {
			if l.valid > 0 {
				n++
			}
		}
	}
	return n
}

// refusal is why an answer has nothing for the associations of these IDs, in words.
func (a *answer) refusal(ids []uint32) string {
	why := a.status
	for _, id := range ids {
		if g, ok := a.granted(id); ok && why.ok() {
			why = g.status
		}
	}
	reason := "no prefix in its answer"
	if !why.ok() {
		reason = why.String()
	}
	return fmt.Sprintf("%s lends no prefix: %s", serverName(a.server), reason)
}

// serverName names a server for people.
func serverName(duid []byte) string { return fmt.Sprintf("DHCPv6 server %x", duid) }
