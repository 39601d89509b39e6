package ndproxy

import (
	"fmt"
	"net/netip"
)

// An Action is what becomes of a received frame.
type Action uint8

// The actions.
const (
	Ignore Action = iota // nothing of ours, or nothing to say
	Drop                 // a solicitation that the RFCs or our limits forbid to answer
	Answer
)

// String names the action in lower case.
func (a Action) String() string {
	switch a {
	case Ignore:
		return "ignore"
	case Drop:
		return "drop"
	case Answer:
		return "answer"
	default:
		return fmt.Sprintf("Action(%d)", uint8(a))
	}
}

// A Reason says why a frame was answered, ignored or dropped; every frame is
// counted under exactly one.
type Reason uint8

// The reasons.
const (
	NotSolicitation Reason = iota // not a neighbor solicitation over IPv6
	Own                           // this host sent it: a loop, or an endpoint that shares our MAC
	OtherHost                     // the frame is for another station
	ExtensionHeader               // an extension header before the message
	UnknownTarget                 // no live lease (RFC 6583)
	Looped                        // our own probe or question, sent back by the network (RFC 7527)
	Advertised                    // another node's advertisement of an address that is none of ours
	Conflict                      // another node's advertisement of a lease, or its question under one

	Truncated      // shorter than its headers say
	Fragmented     // RFC 6980 §5
	BadHopLimit    // RFC 4861 §7.1.1, as all that follow: not 255
	BadChecksum    //
	BadCode        // not 0
	BadLength      // under 24 bytes
	BadTarget      // multicast
	BadOption      // of length 0, or longer than the message
	BadSource      // no unicast address; or not that of one station
	BadDestination // from ::, and not to a solicited-node group
	BadDADOption   // from ::, and with a source link-layer address
	BadSolicited   // an advertisement to a group that claims to be solicited (§7.1.2)
	RateLimited    // more than we are willing to answer
	SendFailed     // the link did not take the answer, or too many wait to be sent

	Solicited // resolution: multicast, answered to the solicitor
	Probed    // unreachability detection: unicast, answered to the solicitor (RFC 4861 §7.3)
	Defended  // duplicate address detection: answered to all nodes (RFC 4862 §5.4)

	reasons // their number
)

var reasonTable = [reasons]struct {
	name   string
	action Action
}{
	NotSolicitation: {"not_solicitation", Ignore},
	Own:             {"own", Ignore},
	OtherHost:       {"other_host", Ignore},
	ExtensionHeader: {"extension_header", Ignore},
	UnknownTarget:   {"unknown_target", Ignore},
	Looped:          {"looped", Ignore},
	Advertised:      {"advertised", Ignore},
	Conflict:        {"conflict", Ignore},
	Truncated:       {"truncated", Drop},
	Fragmented:      {"fragmented", Drop},
	BadHopLimit:     {"bad_hop_limit", Drop},
	BadChecksum:     {"bad_checksum", Drop},
	BadCode:         {"bad_code", Drop},
	BadLength:       {"bad_length", Drop},
	BadTarget:       {"bad_target", Drop},
	BadOption:       {"bad_option", Drop},
	BadSource:       {"bad_source", Drop},
	BadDestination:  {"bad_destination", Drop},
	BadDADOption:    {"bad_dad_option", Drop},
	BadSolicited:    {"bad_solicited", Drop},
	RateLimited:     {"rate_limited", Drop},
	SendFailed:      {"send_failed", Drop},
	Solicited:       {"solicited", Answer},
	Probed:          {"probed", Answer},
	Defended:        {"defended", Answer},
}

// String names the reason in lower case with underscores, as metrics do.
func (r Reason) String() string {
	if r >= reasons {
		return fmt.Sprintf("Reason(%d)", uint8(r))
	}
	return reasonTable[r].name
}

// Action is what becomes of a frame for this reason.
func (r Reason) Action() Action {
	if r >= reasons {
		return Ignore
	}
	return reasonTable[r].action
}

// A Verdict is the decision on one received frame.
type Verdict struct {
	Reason        Reason
	Advertisement Advertisement // what to send; only when the action is Answer
	Rival         Rival         // only when the reason is Conflict
}

// A Rival is another node that has a lease for its own.
type Rival struct {
	Target       netip.Addr
	HardwareAddr [6]byte // sender of the frame
}

// Action is what becomes of the frame.
func (v Verdict) Action() Action { return v.Reason.Action() }
