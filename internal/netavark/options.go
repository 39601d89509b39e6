package netavark

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/v6net/v6net/internal/spec"
)

// Options of this front end alone.
const (
	optionDNS  = "dns"
	optionIPv4 = "ipv4"
)

// optionInterface is an option for Docker that cannot be kept here.
const optionInterface = "com.docker.network.container_iface_prefix"

// aliases are names of Podman's for options of ours: its Docker-compatible API
// passes the MTU on under its own.
var aliases = map[string]string{"mtu": "com.docker.network.driver.mtu"}

// options are what a network was made with. Podman has one place for all of them.
type options struct {
	network spec.Options
	pool    map[string]string // of `--ipam-opt` with Docker
	dns     bool              // names of containers are resolved
	ipv4    string            // on, off, or empty: nothing said
}

// parseOptions reads a network's options.
func parseOptions(raw map[string]string) (options, error) {
	o := options{pool: map[string]string{}}
	network := map[string]string{}
	for _, k := range slices.Sorted(maps.Keys(raw)) {
		key, value := strings.TrimPrefix(k, spec.LabelPrefix), raw[k]
		if known, ok := aliases[key]; ok {
			key = known
		}
		switch {
		case key == optionDNS || key == optionIPv4:
			if value != "on" && value != "off" {
				return options{}, &spec.OptionError{Key: key, Value: value, Allowed: "on, off"}
			}
			if key == optionIPv4 {
				o.ipv4 = value
			}
			o.dns = o.dns || key == optionDNS && value == "on"
		case key == optionInterface:
			return options{}, fmt.Errorf("option %s: Podman names a container's interfaces itself (podman run --network NAME:interface_name=…)", key)
		case key == "parent": // of the network, and of the pool that is a part of its prefix
			network[key], o.pool[key] = value, value
		case slices.Contains(spec.PoolOptions, key):
			o.pool[key] = value
		default:
			network[key] = value
		}
	}
	var err error
	o.network, err = spec.ParseOptions(network)
	if unknown := (*spec.UnknownOptionError)(nil); errors.As(err, &unknown) {
		unknown.Known = slices.Concat(unknown.Known, slices.DeleteFunc(slices.Clone(spec.PoolOptions), func(k string) bool { return k == "parent" }),
			slices.Sorted(maps.Keys(aliases)), []string{optionDNS, optionIPv4})
	}
	return o, err
}

// named are the pool's options where a subnet is named. Its parent is the network's
// alone then, unless a source is named, too: it may be a VLAN that is yet to be made.
func (o options) named() map[string]string {
	if o.pool["source"] != "" {
		return o.pool
	}
	pool := maps.Clone(o.pool)
	delete(pool, "parent")
	return pool
}

// withLabels are the options, and the labels that are options. netavark 1.x keeps
// labels from all calls but `create`, and Podman's Docker-compatible API passes on
// nothing else: so the labels become options there.
func withLabels(raw, labels map[string]string) (map[string]string, error) {
	all := maps.Clone(raw)
	if all == nil {
		all = map[string]string{}
	}
	for _, label := range slices.Sorted(maps.Keys(labels)) {
		key, ours := strings.CutPrefix(label, spec.LabelPrefix)
		if !ours {
			continue
		}
		if given, twice := all[key]; twice && given != labels[label] {
			return nil, fmt.Errorf("option %s=%s and label %s=%s: only one can be meant", key, given, label, labels[label])
		}
		all[key] = labels[label]
	}
	return all, nil
}
