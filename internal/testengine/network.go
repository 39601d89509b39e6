package testengine

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/v6net/v6net/internal/testnet"
)

// engineLinks are the names that Docker's bridge driver gives its interfaces.
var engineLinks = regexp.MustCompile(`^(docker0|br-[0-9a-f]{12}|veth[0-9a-f]{7})$`)

// engineSysctls are the settings that an engine changes for the whole host.
var engineSysctls = []string{
	"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv6.conf.default.forwarding",
}

// network remembers what an engine finds on its host, to put it back: the
// engine itself leaves its bridge and its rules.
type network struct {
	host    *testnet.Host
	sysctls []string // NAME=VALUE
}

func observeNetwork(ctx context.Context, host *testnet.Host) (*network, error) {
	n := &network{host: host}
	for _, name := range engineSysctls {
		value, err := n.run(ctx, "sysctl", "-n", name)
		if err != nil {
			return nil, err
		}
		n.sysctls = append(n.sysctls, name+"="+value)
	}
	return n, nil
}

// restore removes the interfaces of the engine and all packet filter rules of
// the host, and resets its sysctls.
func (n *network) restore(ctx context.Context) error {
	out, err := n.run(ctx, "ip", "-json", "link", "show")
	if err != nil {
		return err
	}
	var links []struct {
		Name string `json:"ifname"`
	}
	if err := json.Unmarshal([]byte(out), &links); err != nil {
		return fmt.Errorf("read interfaces of %s: %w", n.host.Name(), err)
	}
	for _, link := range links {
		if engineLinks.MatchString(link.Name) {
			// The other end of a veth pair may have taken it along.
			_, _ = n.run(ctx, "ip", "link", "delete", link.Name)
		}
	}
	if _, err := n.run(ctx, "nft", "flush", "ruleset"); err != nil {
		return err
	}
	_, err = n.run(ctx, append([]string{"sysctl", "-q", "-w"}, n.sysctls...)...)
	return err
}

func (n *network) run(ctx context.Context, args ...string) (string, error) {
	out, err := n.host.Command(ctx, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %s: %w: %s", n.host.Name(), strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}
