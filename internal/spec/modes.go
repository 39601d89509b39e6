package spec

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// MacvlanMode is how the containers of one parent see each other (ip-link(8), macvlan).
type MacvlanMode string

// The macvlan modes of Docker's own driver.
const (
	MacvlanBridge   MacvlanMode = "bridge"   // directly
	MacvlanPrivate  MacvlanMode = "private"  // not at all
	MacvlanVEPA     MacvlanMode = "vepa"     // by a switch that reflects (IEEE 802.1Qbg)
	MacvlanPassthru MacvlanMode = "passthru" // one container has the parent for itself
)

// IPvlanMode is what an ipvlan does with packets (Documentation/networking/ipvlan).
type IPvlanMode string

// The ipvlan modes of Docker's own driver.
const (
	IPvlanL2  IPvlanMode = "l2"
	IPvlanL3  IPvlanMode = "l3"  // the host routes what leaves; no neighbor discovery
	IPvlanL3S IPvlanMode = "l3s" // as l3, with connection tracking on the host
)

// IPvlanFlag is how the containers of one parent see each other.
type IPvlanFlag string

// The ipvlan flags of Docker's own driver, which mean what macvlan's modes do.
const (
	IPvlanBridge  IPvlanFlag = "bridge"
	IPvlanPrivate IPvlanFlag = "private"
	IPvlanVEPA    IPvlanFlag = "vepa"
)

// OnParent reports whether containers have links of their own on the parent,
// without a bridge of ours: what they send passes the host's rules by.
func (o Options) OnParent() bool { return o.Mode == ModeMacvlan || o.Mode == ModeIPvlan }

// L3 reports whether containers are behind the host without being on a link
// with it: they discover no neighbours, and nobody discovers them.
func (o Options) L3() bool { return o.Mode == ModeIPvlan && o.IPvlanMode != IPvlanL2 }

// modeOptions are the rows of optionTable about the mode.
var modeOptions = []option{
	{"mode", func(o *Options, k, v string) error {
		return choose(&o.Mode, k, v, []Mode{ModeBridge, ModeMacvlan, ModeIPvlan}, nil)
	}},
	{"macvlan_mode", func(o *Options, k, v string) error {
		return choose(&o.MacvlanMode, k, v, []MacvlanMode{MacvlanBridge, MacvlanPrivate, MacvlanVEPA, MacvlanPassthru}, nil)
	}},
	{"ipvlan_mode", func(o *Options, k, v string) error {
		return choose(&o.IPvlanMode, k, v, []IPvlanMode{IPvlanL2, IPvlanL3, IPvlanL3S}, nil)
	}},
	{"ipvlan_flag", func(o *Options, k, v string) error {
		return choose(&o.IPvlanFlag, k, v, []IPvlanFlag{IPvlanBridge, IPvlanPrivate, IPvlanVEPA}, nil)
	}},
	{"host_access", func(o *Options, k, v string) error { return offOn(&o.HostAccess, k, v) }},
}

// settle gives a mode its own defaults, and refuses what was asked for and
// cannot be honoured in it. given are the options as they came, by their keys.
func (o *Options) settle(given map[string]string) error {
	for key, mode := range map[string]Mode{"macvlan_mode": ModeMacvlan, "ipvlan_mode": ModeIPvlan, "ipvlan_flag": ModeIPvlan} {
		if value, ok := given[key]; ok && o.Mode != mode {
			return &OptionError{Key: key, Value: value, Allowed: fmt.Sprintf("only with mode=%s", mode)}
		}
	}
	if !o.OnParent() {
		if o.HostAccess {
			return &OptionError{Key: "host_access", Value: "on", Allowed: "off; the host reaches the containers of a bridge without"}
		}
		if o.Masquerade == SwitchNPTv6 && !o.NPTv6.IsValid() {
			return &OptionError{Key: "masquerade", Value: string(SwitchNPTv6), Allowed: "nptv6 beside nptv6=PREFIX, which is what the network's pool is outside"}
		}
		if prefix, ok := given["nptv6"]; ok && o.Masquerade != SwitchNPTv6 {
			return &OptionError{Key: "nptv6", Value: prefix, Allowed: "a prefix beside masquerade=nptv6 alone"}
		}
		if inbound, ok := given["inbound"]; ok && o.Inbound != InboundOpen && (o.GatewayMode4 == GatewayUnprotected || o.GatewayMode6 == GatewayUnprotected) {
			return &OptionError{Key: "inbound", Value: inbound, Allowed: "open beside gateway mode nat-unprotected, which opens every port"}
		}
		return nil
	}
	if o.Mode == ModeMacvlan && o.MacvlanMode == "" {
		o.MacvlanMode = MacvlanBridge
	}
	if o.Mode == ModeIPvlan {
		if o.IPvlanMode == "" {
			o.IPvlanMode = IPvlanL2
		}
		if o.IPvlanFlag == "" {
			o.IPvlanFlag = IPvlanBridge
		}
	}
	for _, key := range sortedKeys(given) {
		if err := o.refuseOnParent(key, given[key]); err != nil {
			return err
		}
	}
	o.Inbound, o.Isolate, o.Masquerade, o.Masquerade4, o.GatewayMode4 = InboundOpen, false, SwitchOff, false, GatewayRouted
	return nil
}

// refuseOnParent says which options of a bridge network mean nothing without
// the bridge. They are refused and not ignored: who closes a network must not
// find it open.
func (o *Options) refuseOnParent(key, value string) error {
	refuse := func(allowed string, args ...any) error {
		return &OptionError{Key: key, Value: value, Allowed: fmt.Sprintf(allowed, args...)}
	}
	switch {
	case value == "" && strings.HasPrefix(key, "com.docker."):
		return nil
	case strings.HasPrefix(key, "com.docker.network.bridge."), strings.HasPrefix(key, "com.docker.network.host_"), key == "nptv6":
		return refuse("only with mode=bridge")
	case key == "inbound" && value != string(InboundOpen):
		return refuse("open; with mode=%s packets pass this host's firewall by", o.Mode)
	case key == "isolate" && value != string(SwitchOff):
		return refuse("off; with mode=%s packets pass this host's firewall by", o.Mode)
	case key == "antispoof" && value != string(SwitchOff):
		return refuse("off; with mode=%s packets pass this host's firewall by", o.Mode)
	case key == "log_denied" && value != string(SwitchOff):
		return refuse("off; with mode=%s packets pass this host's firewall by", o.Mode)
	case key == "masquerade" && value != string(SwitchOff) && value != string(SwitchAuto):
		return refuse("auto, off; with mode=%s containers leave under their own addresses", o.Mode)
	case strings.HasPrefix(key, "ra."):
		return refuse("only with mode=bridge; with mode=%s the upstream routers advertise", o.Mode)
	case key == "ra" && value == string(SwitchOn) && o.L3():
		return refuse("auto, off; no advertisement gets into ipvlan_mode=%s", o.IPvlanMode)
	case key == "ndproxy" && (value == string(SwitchOn) || value == string(SwitchPrefix)) && !o.L3():
		return refuse("auto, off; on the parent's link containers answer for themselves")
	case key == "ndproxy" && value == string(SwitchPrefix):
		return refuse("auto, on, off; with ipvlan_mode=%s live containers alone are answered for", o.IPvlanMode)
	case key == "host_access" && o.HostAccess && o.Mode == ModeMacvlan && o.MacvlanMode != MacvlanBridge:
		return refuse("off with macvlan_mode=%s; on needs macvlan_mode=bridge", o.MacvlanMode)
	case key == "host_access" && o.HostAccess && o.Mode == ModeIPvlan && o.IPvlanFlag != IPvlanBridge:
		return refuse("off with ipvlan_flag=%s; on needs ipvlan_flag=bridge", o.IPvlanFlag)
	}
	return nil
}

// validateMode checks the mode against the network.
func (n Network) validateMode() error {
	o := n.Options
	switch {
	case !n.Internal:
		return nil
	case o.Parent != "":
		return fmt.Errorf("option parent=%s: an internal network has no parent (leave it out, or --internal)", o.Parent)
	case o.RA == SwitchOn:
		return fmt.Errorf("option ra=on: no router advertises itself on an internal network (leave it out, or --internal)")
	case o.NDProxy == SwitchOn || o.NDProxy == SwitchPrefix:
		return fmt.Errorf("option ndproxy=%s: an internal network is not reached from the parent (leave it out, or --internal)", o.NDProxy)
	}
	return nil
}

// ParseVLAN reads the name of a VLAN sub-interface, `eth0.50`.
func ParseVLAN(name string) (parent string, id int, ok bool) {
	i := strings.LastIndexByte(name, '.')
	if i <= 0 {
		return "", 0, false
	}
	id, err := strconv.Atoi(name[i+1:])
	// 0 is for priority tags and 4095 reserved (IEEE 802.1Q §9.6).
	if err != nil || id < 1 || id > 4094 || strconv.Itoa(id) != name[i+1:] {
		return "", 0, false
	}
	return name[:i], id, true
}

// NoParent is the error about a parent that is not there. A number after the dot that is no
// VLAN's is said, too: no link could be made for it.
func NoParent(name string) error {
	i := strings.LastIndexByte(name, '.')
	if _, err := strconv.ParseUint(name[i+1:], 10, 64); i > 0 && err == nil {
		if _, _, isVLAN := ParseVLAN(name); !isVLAN {
			return fmt.Errorf("parent %s does not exist, and cannot be made: VLANs are 1 to 4094, and %s is none of them", name, name[i+1:])
		}
	}
	return fmt.Errorf("parent %s does not exist", name)
}

// ShimName is the host's own link on a parent, for host_access.
func ShimName(networkID string) string { return shimPrefix + networkID[:11] }

// PairName is the cable (a veth pair) that stands in for the parent of an
// internal network, PairPeerName its other end.
func PairName(networkID string) string { return pairPrefix + networkID[:11] }

// PairPeerName is the other end of PairName.
func PairPeerName(networkID string) string { return pairPeerPrefix + networkID[:11] }

// TrialName is a link that is made only to see whether it can be.
func TrialName(networkID string) string { return trialPrefix + networkID[:11] }

// VLANAlias marks a VLAN sub-interface that v6net made for the networks on it.
func VLANAlias(name string) string { return vlanAlias + name }

// Child is the wanted state of a macvlan or ipvlan link. It goes to a container,
// or it is the host's shim, which has addresses and routes.
type Child struct {
	Name        string
	Alias       string
	Parent      string
	Mode        Mode
	MacvlanMode MacvlanMode
	IPvlanMode  IPvlanMode
	IPvlanFlag  IPvlanFlag
	MAC         string // empty: the parent's (ipvlan, passthru), or one made from the alias
	MTU         int    // 0: the parent's
	Up          bool
	Addresses   []netip.Prefix
	Routes      []netip.Addr // reached on the link
}

// Parent is what is to be known of a link before others are put on it.
type Parent struct {
	MTU      int
	MAC      string
	Up       bool // and with carrier
	Ethernet bool
	Wireless bool
	Loopback bool
	Master   string // the bridge or bond that it is a port of; empty: none
	Alias    string
}

// HostRouters are the next hops of a link's default routes, the best first.
type HostRouters []netip.Addr

// Of is the first of an address family; zero: none.
func (r HostRouters) Of(v6 bool) netip.Addr {
	if i := slices.IndexFunc(r, func(a netip.Addr) bool { return a.Is6() == v6 }); i >= 0 {
		return r[i]
	}
	return netip.Addr{}
}

// AllIn are those that are of a prefix, each once.
func (r HostRouters) AllIn(p netip.Prefix) []netip.Addr {
	var in []netip.Addr
	for _, a := range r {
		if p.Contains(a) && !slices.Contains(in, a) {
			in = append(in, a)
		}
	}
	return in
}
