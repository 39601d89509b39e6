package cloud

import (
	"net/http"
	"regexp"
)

// delivery says how the packets to a prefix come to the machine.
type delivery string

const (
	routed  delivery = "routed"  // to the machine's link-layer address, without neighbor discovery for each
	onLink  delivery = "on-link" // the provider's router solicits every address
	unsaid  delivery = "unsaid"  // the provider does not say: somebody has to answer, in case
	address delivery = "address" // there is no prefix: the provider gives single addresses
)

// A vendor is what there is to know of one cloud: data, not code.
type vendor struct {
	name string
	// marks are the firmware's fields (/sys/class/dmi/id) by which a machine of this
	// cloud is known, and how their values begin. Any will do.
	marks []mark

	endpoint string // where the metadata are
	token    *token // to be fetched first; nil: none
	headers  map[string]string
	path     string // {mac}: the link's MAC address
	absent   bool   // the path is not there (404) where no prefix is assigned; else that is a server's failure
	read     reading
	delivery delivery
	why      string // of delivery address: for people
}

type mark struct{ field, value string }

// token is how one is fetched (PUT), and the header that it goes into.
type token struct {
	path    string
	headers map[string]string
	header  string
}

// reading is where in the metadata the prefixes are. One of lines, pattern and path.
type reading struct {
	lines   bool           // one prefix a line
	pattern *regexp.Regexp // its first group
	// path leads through JSON: a field; "*" for each of an array; "field=value" for
	// those of an array, where no value stands for the link's MAC address.
	path []string
	// Of an object at the end of path: its fields. Else it is a string.
	address, bits string
	length        int // of a prefix that has none
}

const linkLocal = "http://169.254.169.254"

// vendors are the clouds that document where a machine learns its prefix. The marks
// are those that cloud-init knows them by.
var vendors = []vendor{
	{
		name:     "AWS",
		marks:    []mark{{"sys_vendor", "Amazon EC2"}, {"board_vendor", "Amazon EC2"}},
		endpoint: linkLocal,
		token: &token{
			path:    "/latest/api/token",
			headers: map[string]string{"X-aws-ec2-metadata-token-ttl-seconds": "60"},
			header:  "X-aws-ec2-metadata-token",
		},
		path:     "/latest/meta-data/network/interfaces/macs/{mac}/ipv6-prefix",
		absent:   true,
		read:     reading{lines: true},
		delivery: routed, // the VPC delivers to the interface that has the prefix, as its CNI plugin relies on
	},
	{
		name:     "Google Cloud",
		marks:    []mark{{"product_name", "Google Compute Engine"}},
		endpoint: linkLocal,
		headers:  map[string]string{"Metadata-Flavor": "Google"},
		path:     "/computeMetadata/v1/instance/network-interfaces/?recursive=true",
		read:     reading{path: []string{"mac=", "ipv6s", "*"}, length: 96},
		delivery: routed, // every interface has a /96, of which DHCPv6 gives the first address
	},
	{
		name:     "DigitalOcean",
		marks:    []mark{{"sys_vendor", "DigitalOcean"}},
		endpoint: linkLocal,
		path:     "/metadata/v1.json",
		// The /64 is of many machines; each may use the sixteen addresses around its own.
		read:     reading{path: []string{"interfaces", "public", "mac=", "ipv6", "ip_address"}, length: 124},
		delivery: onLink,
	},
	{
		name:     "Hetzner Cloud",
		marks:    []mark{{"sys_vendor", "Hetzner"}},
		endpoint: linkLocal,
		path:     "/hetzner/v1/metadata",
		read:     reading{pattern: regexp.MustCompile(`(?m)^\s+(?:- )?address: ["']?([0-9a-fA-F:]+/[0-9]+)["']?\s*$`)},
		delivery: unsaid,
	},
	{
		name:     "Vultr",
		marks:    []mark{{"sys_vendor", "Vultr"}},
		endpoint: linkLocal,
		path:     "/v1.json",
		read:     reading{path: []string{"interfaces", "mac=", "ipv6"}, address: "network", bits: "prefix"},
		delivery: onLink,
	},
	{
		name:     "Linode",
		marks:    []mark{{"sys_vendor", "Linode"}, {"sys_vendor", "Akamai"}},
		endpoint: linkLocal,
		token: &token{
			path:    "/v1/token",
			headers: map[string]string{"Metadata-Token-Expiry-Seconds": "60"},
			header:  "Metadata-Token",
		},
		headers: map[string]string{"Accept": "application/json"},
		path:    "/v1/network",
		// The SLAAC address is of a /64 of many machines; ranges are this one's.
		read:     reading{path: []string{"ipv6", "ranges", "*"}},
		delivery: routed,
	},
	{
		name:     "Scaleway",
		marks:    []mark{{"sys_vendor", "Scaleway"}},
		endpoint: "http://169.254.42.42",
		path:     "/conf?format=json",
		read:     reading{path: []string{"public_ips", "family=inet6"}, address: "address", bits: "netmask"},
		delivery: routed,
	},
	{
		name:     "Oracle Cloud",
		marks:    []mark{{"chassis_asset_tag", "OracleCloud.com"}},
		delivery: address,
		why:      "its machines have single addresses of the subnet's /64, which are to be assigned one by one",
	},
	{
		name:     "Azure",
		marks:    []mark{{"chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77"}},
		delivery: address,
		why:      "its metadata name single addresses, and it drops packets of others",
	},
}

// request is the one for a path of the endpoint.
func (v vendor) request(method, base, path string, headers map[string]string) (*http.Request, error) {
	r, err := http.NewRequest(method, base+path, nil)
	if err != nil {
		return nil, err
	}
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	return r, nil
}
