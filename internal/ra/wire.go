package ra

// ICMPv6 types and lengths up to the options (RFC 4861 §4.1, §4.2).
const (
	typeSolicitation  = 133
	typeAdvertisement = 134
	solicitationLen   = 8
	advertisementLen  = 16

	hopLimit = 255 // RFC 4861 §6.1
)

// Option types (RFC 4861 §4.6).
const (
	optionSourceLLA = 1
	optionPrefix    = 3
	optionRoute     = 24
	optionDNS       = 25
	optionSearch    = 31
)

// A Verdict says what became of a received message; it names the counter.
type Verdict string

// The verdicts. Those that make a message invalid are RFC 4861 §6.1.1 and §6.1.2,
// but for one.
const (
	Solicited     Verdict = "solicited"       // to be answered by unicast
	SolicitedAll  Verdict = "solicited_all"   // by a host without an address: by multicast
	Heard         Verdict = "heard"           // another router's advertisement
	WrongHopLimit Verdict = "wrong_hop_limit" // it may come from another link
	WrongCode     Verdict = "wrong_code"      // not 0
	Fragmented    Verdict = "fragmented"      // RFC 6980 §5: silently ignored
	Short         Verdict = "short"           // cut off before the options
	WrongOption   Verdict = "wrong_option"    // one of length 0, or longer than the message
	WrongSource   Verdict = "wrong_source"    // a router's not link-local, or :: with a link-layer address
	Foreign       Verdict = "foreign"         // neither solicitation nor advertisement
)

// Judge checks a message as RFC 4861 §6.1.1 and §6.1.2 ask for. Options that are
// not looked into cannot make it invalid.
func Judge(b []byte, from Received) Verdict {
	least := solicitationLen
	switch {
	case len(b) < 1:
		return Short
	case b[0] == typeAdvertisement:
		least = advertisementLen
	case b[0] != typeSolicitation:
		return Foreign
	}
	switch {
	case from.Fragmented:
		return Fragmented
	case from.HopLimit != hopLimit:
		return WrongHopLimit
	case len(b) < least:
		return Short
	case b[1] != 0:
		return WrongCode
	}
	hasLLA := false
	for o := b[least:]; len(o) > 0; o = o[int(o[1])*8:] {
		if len(o) < 8 || o[1] == 0 || int(o[1])*8 > len(o) {
			return WrongOption
		}
		hasLLA = hasLLA || o[0] == optionSourceLLA
	}
	switch {
	case b[0] == typeAdvertisement && from.Source.IsLinkLocalUnicast():
		return Heard
	case b[0] == typeAdvertisement:
		return WrongSource
	case from.Source.IsUnspecified() && hasLLA, from.Source.IsMulticast():
		return WrongSource
	case from.Source.IsUnspecified():
		return SolicitedAll
	default:
		return Solicited
	}
}
