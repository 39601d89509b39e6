//go:build netns

package crash_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// world is all that there is of v6net on a machine.
type world struct {
	journal string   // what networks and endpoints there are to be
	pools   string   // with the number of their leases
	kernel  []string // what is in the kernel, and what the daemon says of it
	loading bool     // an NDP proxy's program, so that status says something else in a moment
}

// equal leaves the pools aside: nothing in the kernel follows from them.
func (w world) equal(to world) bool {
	return w.journal == to.journal && slices.Equal(w.kernel, to.kernel)
}

// look reads the world.
func (m *machine) look() (world, error) {
	status, err := m.status()
	if err != nil {
		return world{}, err
	}
	var w world
	networks := status.Networks
	for i := range networks {
		networks[i].Firewall = nil
	}
	w.journal = m.text(journalOf(status))
	for _, p := range status.Pools {
		w.pools += fmt.Sprintf("%s: %d leases, used %t\n", p.ID, p.Leases, p.Used)
	}
	for _, n := range networks {
		w.kernel = append(w.kernel, "status "+m.text(map[string]any{"id": n.ID, "bridge": n.Bridge, "parent": n.Parent, "error": n.Error, "notes": n.Notes, "ra": n.RA != nil}))
	}
	for _, p := range status.Proxies {
		w.loading = w.loading || p.Error == "" && p.Path == "packet" && p.PathError == ""
		w.kernel = append(w.kernel, "status "+m.text(map[string]any{"parent": p.Parent, "path": p.Path, "error": p.Error, "addresses": p.Addresses, "prefixes": p.Prefixes}))
	}
	w.kernel = append(w.kernel, "status "+m.text(map[string]any{"error": status.Error, "obstacles": status.Obstacles}))
	for _, s := range status.Sysctls {
		w.kernel = append(w.kernel, "status sysctl "+s.Key+" was "+s.Original)
	}
	for _, h := range []*testnet.Host{m.host, m.container} {
		var lines []string
		var err error
		h.Do(m.t, func() { lines, err = namespace() })
		if h == m.host && err == nil {
			var rules []string
			rules, err = m.rules()
			lines = append(lines, rules...)
		}
		if err != nil {
			return world{}, fmt.Errorf("look at %s: %w", h.Name(), err)
		}
		for _, l := range lines {
			w.kernel = append(w.kernel, h.Name()+" "+m.own.Replace(l))
		}
	}
	slices.Sort(w.kernel)
	return w, nil
}

// journalOf is what of a status is the journal's.
func journalOf(status spec.Status) any {
	var all []any
	for _, n := range status.Networks {
		all = append(all, n.Network, n.Endpoints)
	}
	return all
}

var moments = regexp.MustCompile(`"\d{4}-\d\d-\d\dT[^"]*"`)

func (m *machine) text(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		m.t.Fatal(err)
	}
	return m.own.Replace(moments.ReplaceAllString(string(text), `"TIME"`))
}

// rules are the host's, in their order within a chain, and all else of nftables.
func (m *machine) rules() ([]string, error) {
	text, err := m.host.Command(m.t.Context(), "nft", "-j", "-s", "list", "ruleset").Output()
	if err != nil {
		return nil, fmt.Errorf("nft: %w", err)
	}
	return rulesOf(text)
}

// rulesOf are the rules, in their order within a chain, and all else of nftables.
func rulesOf(text []byte) ([]string, error) {
	var list struct {
		Objects []map[string]map[string]any `json:"nftables"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("nft: %w\n%s", err, text)
	}
	var lines []string
	position := map[string]int{}
	for _, object := range list.Objects {
		for kind, o := range object {
			if family := o["family"]; kind == "metainfo" || (family == "ip" || family == "ip6") && (kind == "table" || kind == "chain" && o["hook"] != nil) {
				continue // tables of iptables, which its programs make when they look into them
			}
			delete(o, "handle")
			if elements, ok := o["elem"].([]any); ok {
				slices.SortFunc(elements, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
			}
			line, err := json.Marshal(o)
			if err != nil {
				return nil, err
			}
			at := ""
			if kind == "rule" {
				chain := fmt.Sprint(o["family"], o["table"], o["chain"])
				position[chain]++
				at = fmt.Sprintf(" %03d", position[chain])
			}
			lines = append(lines, "nft "+kind+at+" "+string(line))
		}
	}
	return lines, nil
}

// await waits until the world is one of those, and answers which. What it is instead is
// the error.
func (m *machine) await(what string, among ...world) (int, error) {
	var last world
	var err error
	for deadline, pause := time.Now().Add(patience), 10*time.Millisecond; ; pause += pause / 2 {
		if pause > 10*time.Millisecond {
			time.Sleep(pause)
		}
		if last, err = m.look(); err == nil {
			for i, w := range among {
				if last.equal(w) {
					return i, nil
				}
			}
		}
		if time.Now().After(deadline) {
			break
		}
	}
	if err != nil {
		return 0, err
	}
	best := ""
	for _, w := range among {
		if d := difference(w, last); best == "" || len(d) < len(best) {
			best = d
		}
	}
	return 0, fmt.Errorf("%s: the world is none of %d; to the nearest one it differs by (- wanted, + is):\n%s", what, len(among), best)
}

// isHere reports whether an endpoint's link is on the host, for its container to take.
func (m *machine) isHere(endpoint string) bool {
	return m.host.Command(m.t.Context(), "ip", "link", "show", spec.SandboxName(endpoint)).Run() == nil
}

// agrees compares the host with what the journal says, where no reference does: links, the
// addresses in the rules, forwarding.
func (m *machine) agrees() error {
	status, err := m.status()
	if err != nil {
		return err
	}
	var links, live []string
	for _, n := range status.Networks {
		if n.Phase != spec.PhaseReady || n.Error != "" {
			return fmt.Errorf("network %s: phase %s, error %q", n.ID, n.Phase, n.Error)
		}
		if n.Bridge != "" {
			links = append(links, n.Bridge)
		} else if len(n.Endpoints) > 0 && n.Options.HostAccess {
			links = append(links, spec.ShimName(n.ID))
		}
		if n.Bridge == "" && n.Internal {
			links = append(links, spec.PairName(n.ID), spec.PairPeerName(n.ID))
		}
		for _, ep := range n.Endpoints {
			if ep.Phase != spec.PhaseReady {
				return fmt.Errorf("endpoint %s: phase %s", ep.ID, ep.Phase)
			}
			if n.Bridge != "" {
				links = append(links, spec.VethName(ep.ID))
				for _, a := range n.AddressesOf(ep) {
					live = append(live, a.String())
				}
			}
			if m.isHere(ep.ID) {
				links = append(links, spec.SandboxName(ep.ID))
			} else if !ep.Joined && m.container.Command(m.t.Context(), "ip", "link", "show", "eth0").Run() != nil {
				return fmt.Errorf("endpoint %s has no link", ep.ID)
			}
		}
	}
	slices.Sort(links)
	var are []string
	for _, l := range strings.Fields(m.host.Run(m.t, "ls", "/proc/sys/net/ipv6/conf")) {
		if strings.HasPrefix(l, spec.LinkPrefix) {
			are = append(are, l)
		}
	}
	if !slices.Equal(links, are) {
		return fmt.Errorf("links of ours: %q, want %q", are, links)
	}
	rules, err := m.rules()
	if err != nil {
		return err
	}
	text := strings.Join(rules, "\n")
	for _, a := range live {
		if !strings.Contains(text, `"`+a+`"`) {
			return fmt.Errorf("%s is not in the rules", a)
		}
	}
	return nil
}

// difference is by lines.
func difference(want, got world) string {
	var b strings.Builder
	if want.journal != got.journal {
		fmt.Fprintf(&b, "- journal %s\n+ journal %s\n", want.journal, got.journal)
	}
	for _, l := range want.kernel {
		if !slices.Contains(got.kernel, l) {
			fmt.Fprintf(&b, "- %s\n", l)
		}
	}
	for _, l := range got.kernel {
		if !slices.Contains(want.kernel, l) {
			fmt.Fprintf(&b, "+ %s\n", l)
		}
	}
	return b.String()
}
