package driver

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/v6net/v6net/internal/spec"
)

// networkOptions reads what came with a network. Other options than the ones
// read here are the engine's own and none of our business; labels given to
// `docker network create` never reach a plugin.
func networkOptions(raw map[string]any) (o spec.Options, internal bool, err error) {
	if internal, err = boolOption(raw, labelInternal); err != nil {
		return spec.Options{}, false, err
	}
	generic, err := genericOptions(raw[labelGeneric])
	if err != nil {
		return spec.Options{}, false, err
	}
	o, err = spec.ParseOptions(generic)
	return o, internal, err
}

// genericOptions reads the user's options. The CLI and compose send text; who
// calls the engine's API may send booleans and numbers.
func genericOptions(raw any) (map[string]string, error) {
	if raw == nil {
		return nil, nil
	}
	values, ok := raw.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("option %s is not an object", labelGeneric)
	}
	options := make(map[string]string, len(values))
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if key == labelEnableIPv4 || key == labelEnableIPv6 {
			// The engine has heeded them and leaves them in place (daemon/network.go createNetwork).
			continue
		}
		text, ok := optionText(values[key])
		if !ok {
			return nil, fmt.Errorf("option %s: the value is neither text nor a number nor a boolean", key)
		}
		options[key] = text
	}
	return options, nil
}

// optionText is an option's value as the user would have typed it.
func optionText(value any) (text string, ok bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	default:
		return "", false
	}
}

// boolOption reads an option that is false when it is not there.
func boolOption(raw map[string]any, key string) (bool, error) {
	value, ok := raw[key]
	if !ok {
		return false, nil
	}
	text, _ := optionText(value)
	b, err := strconv.ParseBool(text)
	if err != nil {
		return false, fmt.Errorf("option %s: %v is not a boolean", key, value)
	}
	return b, nil
}

// checkEndpointOptions refuses `--driver-opt` keys: v6net has none for an
// endpoint, and one that it ignored would be a promise not kept. What is in the
// engine's name space is the engine's.
func checkEndpointOptions(raw map[string]any) error {
	for _, key := range slices.Sorted(maps.Keys(raw)) {
		if !strings.HasPrefix(key, labelPrefix) {
			return fmt.Errorf("unknown endpoint option %q (known: none)", key)
		}
	}
	return nil
}

// publishedPorts reads the port map of an endpoint's options. From 28 on a
// container may have its default route of each family by another endpoint, and
// the engine sends the same port map to both. It marks the one that is not
// IPv6's, by a label whose name is about the proxy of Docker's bridge (moby
// daemon/libnetwork/drivers/remote, ProgramExternalConnectivity).
func publishedPorts(raw map[string]any) ([]spec.Port, error) {
	var bindings []portBinding
	if err := convert(raw[labelPortMap], &bindings); err != nil {
		return nil, fmt.Errorf("option %s: %w", labelPortMap, err)
	}
	noIPv6, err := boolOption(raw, labelNoIPv6)
	if err != nil {
		return nil, err
	}
	var family spec.Family
	if noIPv6 {
		family = spec.IPv4
	}
	var ports []spec.Port
	for _, b := range bindings {
		p, err := b.port()
		if err != nil {
			return nil, err
		}
		p.Family = family
		ports = append(ports, p)
	}
	return ports, nil
}

// subnets reads the pools of one address family.
func subnets(v6 bool, data []*network.IPAMData) ([]spec.Subnet, error) {
	var out []spec.Subnet
	for _, d := range data {
		if d == nil {
			continue
		}
		prefix, err := parsePrefix(v6, d.Pool)
		if err != nil {
			return nil, fmt.Errorf("pool: %w", err)
		}
		if prefix.Bits() == 0 {
			return nil, fmt.Errorf("pool %s: --ipam-driver null gives the network no addresses; use --ipam-driver v6net", prefix)
		}
		s := spec.Subnet{Prefix: prefix.Masked()}
		if d.Gateway != "" { // none where GwAllocCheck said so
			gateway, err := parsePrefix(v6, d.Gateway)
			if err != nil {
				return nil, fmt.Errorf("gateway of pool %s: %w", prefix, err)
			}
			s.Gateway = gateway.Addr()
		}
		if s.Aux, err = auxAddresses(v6, d.AuxAddresses); err != nil {
			return nil, fmt.Errorf("auxiliary address of pool %s: %w", prefix, err)
		}
		out = append(out, s)
	}
	return out, nil
}

// auxAddresses are those that the user keeps for other things, in the order of their names.
func auxAddresses(v6 bool, named map[string]any) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, name := range slices.Sorted(maps.Keys(named)) {
		text, _ := named[name].(string)
		a, err := parsePrefix(v6, text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, a.Addr())
	}
	return out, nil
}

// parsePrefix reads an address with a prefix length, of the given family.
func parsePrefix(v6 bool, text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q is not an address with a prefix length", text)
	}
	if p.Addr().Is6() != v6 {
		return netip.Prefix{}, fmt.Errorf("%s is of the other address family", p)
	}
	return p, nil
}

// parseOptionalPrefix is parsePrefix for text that may be empty: the zero Prefix then.
func parseOptionalPrefix(v6 bool, text string) (netip.Prefix, error) {
	if text == "" {
		return netip.Prefix{}, nil
	}
	return parsePrefix(v6, text)
}

// parseAddr reads an address of either family.
func parseAddr(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%q is not an IP address", text)
	}
	return a.Unmap(), nil
}

// parseMAC reads an Ethernet address and writes it the one way v6net does; empty stays empty.
func parseMAC(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	mac, err := net.ParseMAC(text)
	if err != nil || len(mac) != 6 {
		return "", fmt.Errorf("%q is not an Ethernet address", text)
	}
	return mac.String(), nil
}
