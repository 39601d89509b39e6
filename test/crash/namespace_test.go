//go:build netns

package crash_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/spec"
)

// namespace lists what is in the network namespace of this thread. Left out are numbers
// that the kernel gives, what goes by by itself, and what is said of packets.
func namespace() ([]string, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	links, err := h.LinkList()
	if err != nil {
		return nil, fmt.Errorf("links: %w", err)
	}
	names, own := map[int]string{0: "-"}, map[string]bool{telling: true}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
		// A bridge has the kernel's own link-local address from its first port on; that of the host's
		// own link on a parent is probed for a while.
		if mac := l.Attrs().HardwareAddr; strings.HasPrefix(l.Attrs().Name, spec.LinkPrefix) && len(mac) == 6 {
			own[net.IP{0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]}.String()] = true
		}
	}
	var lines []string
	add := func(format string, values ...any) { lines = append(lines, fmt.Sprintf(format, values...)) }
	for _, l := range links {
		a := l.Attrs()
		if strings.HasPrefix(a.Name, "v6np") || strings.HasPrefix(a.Name, "v6nq") { // the cable of an internal network, which has them by chance
			a.HardwareAddr = nil
		}
		// Whether there is a carrier the kernel says later.
		add("link %s %s mac %s mtu %d flags %s master %s alias %q group %d %s", a.Name, l.Type(), a.HardwareAddr, a.MTU, a.Flags&^net.FlagRunning, names[a.MasterIndex], a.Alias, a.Group, special(l))
		if a.Slave != nil {
			add("port %s %+v", a.Name, port(h, l))
		}
		qdiscs, err := h.QdiscList(l)
		if err != nil {
			return nil, fmt.Errorf("qdiscs of %s: %w", a.Name, err)
		}
		for _, q := range qdiscs {
			add("qdisc %s %s", a.Name, q.Type())
		}
		for _, attach := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
			programs, err := link.QueryPrograms(link.QueryOptions{Target: a.Index, Attach: attach})
			if err == nil && len(programs.Programs) > 0 {
				add("tcx %s %v", a.Name, attach) // of RA guards there may be one of each daemon that was (internal/kernel/raguard)
			}
		}
	}
	addrs, err := h.AddrList(nil, unix.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("addresses: %w", err)
	}
	for _, a := range addrs {
		if own[a.IP.String()] {
			continue
		}
		add("address %s on %s scope %d flags %#x limited %t", a.IPNet, names[a.LinkIndex], a.Scope, a.Flags, a.ValidLft > 0 && uint32(a.ValidLft) != 1<<32-1)
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		routes, err := h.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, fmt.Errorf("routes: %w", err)
		}
		for _, r := range routes {
			if r.Flags&unix.RTM_F_CLONED == 0 && (r.Dst == nil || !own[r.Dst.IP.String()]) {
				add("route %v dev %s via %v src %v table %d proto %d scope %d type %d metric %d mtu %d", r.Dst, names[r.LinkIndex], r.Gw, r.Src, r.Table, r.Protocol, r.Scope, r.Type, r.Priority, r.MTU)
			}
		}
		rules, err := h.RuleList(family)
		if err != nil {
			return nil, fmt.Errorf("rules: %w", err)
		}
		for _, r := range rules {
			add("rule %s", r)
		}
		neighbours, err := h.NeighList(0, family)
		if err != nil {
			return nil, fmt.Errorf("neighbours: %w", err)
		}
		for _, n := range neighbours {
			if n.State&netlink.NUD_PERMANENT != 0 {
				add("neighbour %s on %s is %s", n.IP, names[n.LinkIndex], n.HardwareAddr)
			}
		}
		proxies, err := h.NeighProxyList(0, family)
		if err != nil {
			return nil, fmt.Errorf("proxy entries: %w", err)
		}
		for _, n := range proxies {
			add("proxy %s on %s", n.IP, names[n.LinkIndex])
		}
	}
	slices.Sort(lines)
	settings, err := settings()
	return append(lines, settings...), err
}

// special is what is of one kind of link alone.
func special(l netlink.Link) string {
	switch l := l.(type) {
	case *netlink.Bridge:
		return fmt.Sprintf("snooping %t vlans %t", l.MulticastSnooping != nil && *l.MulticastSnooping, l.VlanFiltering != nil && *l.VlanFiltering)
	case *netlink.Macvlan:
		return fmt.Sprintf("mode %d", l.Mode)
	}
	return ""
}

// port is how a bridge treats one of its ports.
func port(h *netlink.Handle, l netlink.Link) any {
	p, err := h.LinkGetProtinfo(l)
	if err != nil {
		return err.Error()
	}
	return p
}

// settings are those of links and of forwarding.
func settings() ([]string, error) {
	lines := []string{}
	for _, folder := range []string{"net/ipv4/conf", "net/ipv6/conf"} {
		links, err := os.ReadDir(filepath.Join("/proc/sys", folder))
		if err != nil {
			return nil, err
		}
		for _, l := range links {
			if l.Name() == "lo" {
				continue
			}
			keys, err := os.ReadDir(filepath.Join("/proc/sys", folder, l.Name()))
			if err != nil && !errors.Is(err, os.ErrNotExist) { // with its link
				return nil, err
			}
			for _, k := range keys {
				key := filepath.Join(folder, l.Name(), k.Name())
				// The one cannot be read while there is none, the other says whether a link has
				// left since Join (hereMark in internal/engine).
				if k.Name() == "stable_secret" || k.Name() == "addr_gen_mode" && strings.HasPrefix(l.Name(), "v6nx") {
					continue
				}
				if value, err := os.ReadFile(filepath.Join("/proc/sys", key)); err == nil {
					lines = append(lines, key+"="+strings.TrimSpace(string(value)))
				} else if !errors.Is(err, os.ErrNotExist) {
					return nil, err
				}
			}
		}
	}
	value, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	return append(lines, "net/ipv4/ip_forward="+strings.TrimSpace(string(value))), err
}
