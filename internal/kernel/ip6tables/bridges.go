package ip6tables

import (
	"context"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/kernel/dump"
	"github.com/v6net/v6net/internal/spec"
)

// otherBridges are those of the host that are not our networks', and that iptables can name.
func otherBridges(ctx context.Context, links *netlink.Handle, r firewall.Ruleset) ([]string, error) {
	all, err := dump.Retry(ctx, links.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list bridges: %w", err)
	}
	ours := map[string]bool{}
	for _, e := range r.Set("networks").Elements {
		ours[unquote(e.Key)] = true
	}
	var names []string
	for _, l := range all {
		if name := l.Attrs().Name; l.Type() == "bridge" && !ours[name] && spec.PlainName(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}
