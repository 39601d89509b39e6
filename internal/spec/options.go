package spec

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Mode is how containers are attached to a network.
type Mode string

// The modes of a network.
const (
	ModeBridge  Mode = "bridge"
	ModeMacvlan Mode = "macvlan"
	ModeIPvlan  Mode = "ipvlan"
)

// Switch is an option that v6net may decide itself.
type Switch string

// The values of a Switch; SwitchNPTv6 is for masquerade alone, SwitchPrefix for ndproxy.
const (
	SwitchAuto  Switch = "auto"
	SwitchOn    Switch = "on"
	SwitchOff   Switch = "off"
	SwitchNPTv6 Switch = "nptv6"

	SwitchPrefix Switch = "prefix"
)

// Inbound says who may open a connection to a container from outside its network.
type Inbound string

// The values of Inbound.
const (
	InboundPublished Inbound = "published" // published ports only
	InboundOpen      Inbound = "open"      // anyone, any port
	InboundNone      Inbound = "none"      // nobody
)

// GatewayMode is Docker's name for how a bridge network is joined to the outside.
type GatewayMode string

// The gateway modes of Docker's bridge driver.
const (
	GatewayNAT         GatewayMode = "nat"
	GatewayUnprotected GatewayMode = "nat-unprotected" // and every port is open at the container's own address
	GatewayRouted      GatewayMode = "routed"
	GatewayIsolated    GatewayMode = "isolated" // not even the host is reached; of internal networks
)

var gatewayModes = []GatewayMode{GatewayNAT, GatewayRouted, GatewayIsolated, GatewayUnprotected}

// Translates reports whether containers' addresses are hidden behind the host's.
func (m GatewayMode) Translates() bool { return m == GatewayNAT || m == GatewayUnprotected }

// Options are a network's validated options, the same for every front end.
type Options struct {
	Mode       Mode      `json:"mode"`               // bridge, macvlan or ipvlan
	Parent     string    `json:"parent,omitempty"`   // empty: interface of the IPv6 default route
	NDProxy    Switch    `json:"ndproxy"`            // auto, on, off or prefix
	RA         Switch    `json:"ra"`                 // auto, on or off
	Advertise  RAOptions `json:"advertise,omitzero"` // refines RA
	Masquerade Switch    `json:"masquerade"`         // IPv6

	NPTv6 netip.Prefix `json:"nptv6,omitzero"` // what the pool is outside, with Masquerade nptv6
	Host4 netip.Addr   `json:"host4,omitzero"` // the host's address under which containers leave; zero: by its routes
	Host6 netip.Addr   `json:"host6,omitzero"` // the host's address for masquerading IPv6

	Inbound   Inbound `json:"inbound"`              // published, open or none
	Isolate   bool    `json:"isolate"`              // whether other networks are kept out
	AnySource bool    `json:"any_source,omitempty"` // containers send from addresses that are not theirs, too
	LogDenied bool    `json:"log_denied,omitempty"` // what the firewall drops

	MacvlanMode MacvlanMode `json:"macvlan_mode,omitempty"` // of mode macvlan
	IPvlanMode  IPvlanMode  `json:"ipvlan_mode,omitempty"`  // of mode ipvlan
	IPvlanFlag  IPvlanFlag  `json:"ipvlan_flag,omitempty"`  // of mode ipvlan
	HostAccess  bool        `json:"host_access,omitempty"`  // host and containers reach each other (not for a bridge)

	BridgeName      string      `json:"bridge_name,omitempty"`   // empty: made from the network's ID
	ICC             bool        `json:"icc"`                     // containers of one bridge reach each other
	Masquerade4     bool        `json:"masquerade4"`             // whether IPv4 is masqueraded
	GatewayMode4    GatewayMode `json:"gateway_mode4"`           // Docker's gateway mode of IPv4
	GatewayMode6    GatewayMode `json:"gateway_mode6,omitempty"` // isolated or nat-unprotected; else empty, and Masquerade says it
	HostBinding4    netip.Addr  `json:"host_binding4"`           // host address of ports published without one
	Inhibit4        bool        `json:"inhibit4"`                // no IPv4 address on the bridge
	MTU             int         `json:"mtu,omitempty"`           // 0: the parent's
	InterfacePrefix string      `json:"interface_prefix"`        // how interfaces are named in containers
}

// DefaultOptions are the options of a network created with none.
func DefaultOptions() Options {
	return Options{
		Mode: ModeBridge, NDProxy: SwitchAuto, RA: SwitchAuto, Masquerade: SwitchAuto,
		Inbound: InboundPublished, Isolate: true,
		ICC: true, Masquerade4: true, GatewayMode4: GatewayNAT, InterfacePrefix: "eth",
	}
}

// LabelPrefix comes before an option's key where options travel as labels.
const LabelPrefix = "v6net."

// MinMTU is the smallest link MTU that carries IPv6 (RFC 8200 §5).
const MinMTU = 1280

// option is one row of the option table: how a value is checked and stored.
type option struct {
	key string
	set func(o *Options, key, value string) error
}

// optionTable is the design's option table. An option that a later version
// implements is here already, so that it is refused by name and never ignored.
var optionTable = slices.Concat(modeOptions, raOptions, []option{
	{"parent", func(o *Options, k, v string) error { return interfaceName(&o.Parent, k, v) }},
	{"ndproxy", func(o *Options, k, v string) error {
		return choose(&o.NDProxy, k, v, []Switch{SwitchAuto, SwitchOn, SwitchOff, SwitchPrefix}, nil)
	}},
	{"masquerade", func(o *Options, k, v string) error {
		var s Switch
		if err := choose(&s, k, v, []Switch{SwitchAuto, SwitchOn, SwitchOff, SwitchNPTv6}, nil); err != nil {
			return err
		}
		return masquerade(o, k, v, s)
	}},
	{"nptv6", func(o *Options, k, v string) error {
		p, err := netip.ParsePrefix(v)
		if err != nil || !p.Addr().Is6() || p.Addr().Is4In6() || p != p.Masked() {
			return &OptionError{Key: k, Value: v, Allowed: "an IPv6 prefix, with zeros behind its length, such as 2001:db8:1::/64"}
		}
		o.NPTv6 = p
		return nil
	}},
	{"com.docker.network.host_ipv4", func(o *Options, k, v string) error {
		a, err := netip.ParseAddr(v)
		if err != nil || !a.Is4() {
			return &OptionError{Key: k, Value: v, Allowed: "an IPv4 address of the host"}
		}
		o.Host4 = a
		return nil
	}},
	{"com.docker.network.host_ipv6", func(o *Options, k, v string) error {
		a, err := netip.ParseAddr(v)
		if err != nil || !a.Is6() || a.Is4In6() || a.Zone() != "" {
			return &OptionError{Key: k, Value: v, Allowed: "an IPv6 address of the host"}
		}
		o.Host6 = a
		return nil
	}},
	{"inbound", func(o *Options, k, v string) error {
		return choose(&o.Inbound, k, v, []Inbound{InboundPublished, InboundOpen, InboundNone}, nil)
	}},
	{"isolate", func(o *Options, k, v string) error { return onOff(&o.Isolate, k, v) }},
	{"antispoof", func(o *Options, k, v string) error {
		guarded := true
		err := onOff(&guarded, k, v)
		o.AnySource = !guarded
		return err
	}},
	{"log_denied", func(o *Options, k, v string) error { return offOn(&o.LogDenied, k, v) }},
	{"com.docker.network.bridge.name", func(o *Options, k, v string) error { return interfaceName(&o.BridgeName, k, v) }},
	{"com.docker.network.bridge.enable_icc", func(o *Options, k, v string) error { return boolean(&o.ICC, k, v) }},
	{"com.docker.network.bridge.enable_ip_masquerade", func(o *Options, k, v string) error { return boolean(&o.Masquerade4, k, v) }},
	{"com.docker.network.bridge.gateway_mode_ipv4", func(o *Options, k, v string) error {
		return choose(&o.GatewayMode4, k, v, gatewayModes, nil)
	}},
	{"com.docker.network.bridge.gateway_mode_ipv6", func(o *Options, k, v string) error {
		var m GatewayMode
		if err := choose(&m, k, v, gatewayModes, nil); err != nil {
			return err
		}
		switch m {
		case GatewayNAT:
			return masquerade(o, k, v, SwitchOn)
		case GatewayRouted:
			return masquerade(o, k, v, SwitchOff)
		case GatewayUnprotected:
			o.GatewayMode6 = m
			return masquerade(o, k, v, SwitchOn)
		default:
			o.GatewayMode6 = m // nothing leaves anyway
			return nil
		}
	}},
	{"com.docker.network.bridge.host_binding_ipv4", func(o *Options, k, v string) error {
		a, err := netip.ParseAddr(v)
		if err != nil || !a.Is4() {
			return &OptionError{Key: k, Value: v, Allowed: "an IPv4 address of the host"}
		}
		o.HostBinding4 = a
		return nil
	}},
	{"com.docker.network.bridge.inhibit_ipv4", func(o *Options, k, v string) error { return boolean(&o.Inhibit4, k, v) }},
	{"com.docker.network.driver.mtu", func(o *Options, k, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < MinMTU || n > 65535 {
			return &OptionError{Key: k, Value: v, Allowed: fmt.Sprintf("%d to 65535 bytes; IPv6 needs %d, RFC 8200 §5", MinMTU, MinMTU)}
		}
		o.MTU = n
		return nil
	}},
	{"com.docker.network.container_iface_prefix", func(o *Options, k, v string) error {
		// The engine appends an index, so two digits must still fit IFNAMSIZ.
		if len(v) > maxInterfaceName-2 {
			return &OptionError{Key: k, Value: v, Allowed: fmt.Sprintf("at most %d characters", maxInterfaceName-2)}
		}
		return interfaceName(&o.InterfacePrefix, k, v)
	}},
})

// masquerade stores what either of two keys says; auto leaves it to the other one.
func masquerade(o *Options, key, value string, s Switch) error {
	switch {
	case s == SwitchAuto:
	case o.Masquerade != SwitchAuto && o.Masquerade != s:
		return &OptionError{Key: key, Value: value,
			Allowed: "masquerade=on with com.docker.network.bridge.gateway_mode_ipv6=nat or nat-unprotected, masquerade=off with routed"}
	default:
		o.Masquerade = s
	}
	return nil
}

// ParseOptions reads a network's options. Keys may carry LabelPrefix. An empty
// value of Docker's own keys means the default, as with Docker's bridge driver.
// The error is an *OptionError or an *UnknownOptionError.
func ParseOptions(raw map[string]string) (Options, error) {
	o := DefaultOptions()
	given := map[string]string{}
	for _, k := range sortedKeys(raw) { // sorted: the first error is the same every time
		key, value := strings.TrimPrefix(k, LabelPrefix), raw[k]
		if plain, twice := raw[key]; twice && k != key && plain != value {
			return Options{}, &OptionError{Key: k, Value: value, Allowed: fmt.Sprintf("%q, as %s says beside it", plain, key)}
		}
		i := slices.IndexFunc(optionTable, func(row option) bool { return row.key == key })
		if i < 0 {
			return Options{}, &UnknownOptionError{Key: k, Known: knownOptions()}
		}
		if value == "" && strings.HasPrefix(key, "com.docker.") {
			continue
		}
		if err := optionTable[i].set(&o, key, value); err != nil {
			return Options{}, err
		}
		given[key] = value
	}
	if err := o.settle(given); err != nil {
		return Options{}, err
	}
	return o, nil
}

func knownOptions() []string {
	known := make([]string, len(optionTable))
	for i, row := range optionTable {
		known[i] = row.key
	}
	return known
}

// choose stores value in dst if it is one of now; one of later is refused as not available yet.
func choose[T ~string](dst *T, key, value string, now, later []T) error {
	switch v := T(value); {
	case slices.Contains(now, v):
		*dst = v
		return nil
	case slices.Contains(later, v):
		return &OptionError{Key: key, Value: value, Allowed: join(now), Err: ErrNotAvailable}
	default:
		return &OptionError{Key: key, Value: value, Allowed: join(append(slices.Clone(now), later...))}
	}
}

func join[T ~string](values []T) string {
	s := make([]string, len(values))
	for i, v := range values {
		s[i] = string(v)
	}
	return strings.Join(s, ", ")
}

func onOff(dst *bool, key, value string) error {
	var s Switch
	if err := choose(&s, key, value, []Switch{SwitchOn, SwitchOff}, nil); err != nil {
		return err
	}
	*dst = s == SwitchOn
	return nil
}

func boolean(dst *bool, key, value string) error {
	b, err := strconv.ParseBool(value)
	if err != nil {
		return &OptionError{Key: key, Value: value, Allowed: "true, false"}
	}
	*dst = b
	return nil
}

// maxInterfaceName is IFNAMSIZ without the final NUL (include/uapi/linux/if.h).
const maxInterfaceName = 15

// interfaceName accepts what the kernel's dev_valid_name does (net/core/dev.c), and
// other programs too.
func interfaceName(dst *string, key, value string) error {
	if value == "" || len(value) > maxInterfaceName || value == "." || value == ".." || strings.ContainsAny(value, "/: \t\n\v\f\r") || !PlainName(value) {
		return &OptionError{Key: key, Value: value, Allowed: fmt.Sprintf("the name of an interface, 1 to %d characters without '/', ':', quotes, backslashes or spaces, that does not begin with '-' or '!' nor end in '+'", maxInterfaceName)}
	}
	*dst = value
	return nil
}

// PlainName reports whether iptables takes an interface's name for what it is. To it a
// final '+' is any ending, and what begins with '-' or '!' an option.
func PlainName(name string) bool {
	return !strings.HasSuffix(name, "+") && !strings.ContainsAny(name, "\"'\\") && !strings.HasPrefix(name, "-") && !strings.HasPrefix(name, "!")
}
