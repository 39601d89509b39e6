package netavark

import (
	"encoding/json"
	"net/netip"
)

// interfaceKey is that of a network's interface: a bridge's name, or a parent.
const interfaceKey = "network_interface"

// network is a network as Podman keeps it in its folder and sends it to `create`
// (containers/common libnetwork/types Network). What a plugin does not know of it
// is kept as it came, in rest.
type network struct {
	Name        string            `json:"name"`
	ID          string            `json:"id"`
	Driver      string            `json:"driver"`
	Internal    bool              `json:"internal"`
	DNSEnabled  bool              `json:"dns_enabled"`
	IPv6Enabled bool              `json:"ipv6_enabled"`
	Subnets     []subnet          `json:"subnets,omitempty"`
	Routes      []route           `json:"routes,omitempty"`
	DNSServers  []netip.Addr      `json:"network_dns_servers,omitempty"`
	Options     map[string]string `json:"options,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"` // sent to `create` alone by netavark 1.x
	IPAM        map[string]string `json:"ipam_options,omitempty"`

	rest map[string]json.RawMessage
}

type subnet struct {
	Subnet  netip.Prefix `json:"subnet"`
	Gateway *netip.Addr  `json:"gateway,omitempty"`
	Range   *leaseRange  `json:"lease_range,omitempty"`
}

type leaseRange struct {
	Start *netip.Addr `json:"start_ip,omitempty"`
	End   *netip.Addr `json:"end_ip,omitempty"`
}

type route struct {
	Destination netip.Prefix `json:"destination"`
	Gateway     *netip.Addr  `json:"gateway,omitempty"` // optional in 2.x
	Metric      *int         `json:"metric,omitempty"`
	Type        string       `json:"route_type,omitempty"` // 2.x: empty or unicast for what is meant here
}

// UnmarshalJSON keeps what this version does not know.
func (n *network) UnmarshalJSON(text []byte) error {
	type plain network
	if err := json.Unmarshal(text, (*plain)(n)); err != nil {
		return err
	}
	return json.Unmarshal(text, &n.rest)
}

// MarshalJSON writes it back. Fields that are empty now are left out.
func (n network) MarshalJSON() ([]byte, error) {
	type plain network
	text, err := json.Marshal(plain(n))
	if err != nil {
		return nil, err
	}
	all := map[string]json.RawMessage{}
	for key, value := range n.rest {
		all[key] = value
	}
	for _, key := range []string{"subnets", "routes", "network_dns_servers", "options", "labels", "ipam_options"} {
		delete(all, key)
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	return json.Marshal(all)
}

// call is the input of setup and teardown (netavark's NetworkPluginExec).
type call struct {
	ContainerID   string         `json:"container_id"`
	ContainerName string         `json:"container_name"`
	PortMappings  []portMapping  `json:"port_mappings"`
	Network       network        `json:"network"`
	Options       networkOptions `json:"network_options"`
}

type portMapping struct {
	ContainerPort uint16 `json:"container_port"`
	HostIP        string `json:"host_ip"`
	HostPort      uint16 `json:"host_port"`
	Protocol      string `json:"protocol"` // several with commas between them
	Range         uint16 `json:"range"`
}

type networkOptions struct {
	Interface string            `json:"interface_name"`
	StaticIPs []netip.Addr      `json:"static_ips"`
	StaticMAC string            `json:"static_mac"`
	Aliases   []string          `json:"aliases"`
	Options   map[string]string `json:"options"`
}

// statusBlock is the answer to setup.
type statusBlock struct {
	Interfaces map[string]statusInterface `json:"interfaces"`
	DNSServers []netip.Addr               `json:"dns_server_ips,omitempty"`
	DNSDomains []string                   `json:"dns_search_domains,omitempty"`
}

type statusInterface struct {
	MAC     string         `json:"mac_address"`
	Subnets []statusSubnet `json:"subnets,omitempty"`
}

type statusSubnet struct {
	Address netip.Prefix `json:"ipnet"`
	Gateway *netip.Addr  `json:"gateway,omitempty"`
}

// info is the answer to info.
type info struct {
	Version    string `json:"version"`
	APIVersion string `json:"api_version"`
}

// failure is how a plugin says what went wrong: exactly this key, since Podman up
// to 5.8 allows no other.
type failure struct {
	Error string `json:"error"`
}
