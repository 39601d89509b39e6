package firewall

// ICMPv6Types are the numbers of the message types that rules name (RFC 4443 §1),
// and of those for which nft has no name.
var ICMPv6Types = map[string]byte{
	"destination-unreachable": 1, "packet-too-big": 2, "time-exceeded": 3, "parameter-problem": 4, "echo-request": 128,
	"mld-listener-query": 130, "mld-listener-report": 131, "mld-listener-done": 132, "nd-router-solicit": 133, "nd-router-advert": 134,
	"nd-neighbor-solicit": 135, "nd-neighbor-advert": 136, "nd-redirect": 137, "router-renumbering": 138, "ind-neighbor-solicit": 141,
	"ind-neighbor-advert": 142, "mld2-listener-report": 143, "148": 148, "149": 149, "151": 151, "152": 152, "153": 153,
}

// ICMPTypes are those of IPv4 (RFC 792, RFC 1256).
var ICMPTypes = map[string]byte{
	"destination-unreachable": 3, "redirect": 5, "echo-request": 8, "router-advertisement": 9, "time-exceeded": 11, "parameter-problem": 12,
}
