// Package archtest fails the build when an arrow between packages is reversed:
// front ends → engine → kernel, joined by cmd/v6net alone.
package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/v6net/v6net/"

// tree names a folder and everything below it.
func tree(folder string) func(string) bool {
	return func(pkg string) bool { return pkg == folder || strings.HasPrefix(pkg, folder+"/") }
}

// ours lists, for each folder, the packages of this module that it may import.
// A folder that is not here may import none.
var ours = map[string][]string{
	"driver":                    {"internal/spec"},
	"ipam":                      {"internal/spec"},
	"ndproxy":                   {"internal/spec"},
	"internal/clock":            {"internal/spec"},
	"internal/control":          {"internal/event", "internal/serve", "internal/spec"},
	"internal/doctor":           {"internal/spec", "internal/doctor", "internal/dockerapi"},
	"internal/engine":           {"internal/spec", "internal/firewall", "internal/prefix", "ipam"},
	"internal/event":            {"internal/spec"},
	"internal/firewall":         {"internal/spec"},
	"internal/metrics":          {"internal/serve", "internal/spec"},
	"internal/ndppd":            {"ndproxy"},
	"internal/names":            {"internal/dockerapi", "internal/spec"},
	"internal/netavark":         {"internal/spec"},
	"internal/aardvark":         {"internal/netavark"},
	"internal/prefix":           {"internal/spec", "ipam"},
	"internal/ra":               {"internal/spec"},
	"internal/store":            {"internal/spec"},
	"internal/kernel/nft":       {"internal/firewall", "internal/spec", "internal/kernel/ip6tables"},
	"internal/kernel/ip6tables": {"internal/firewall", "internal/spec", "internal/kernel/dump", "internal/kernel/netns"},
	"internal/kernel/capture":   {"internal/kernel/afpacket", "internal/kernel/dump", "internal/kernel/netns"},
	"internal/kernel/conntrack": {"internal/firewall", "internal/kernel/nlattr"},
	"internal/kernel/nflog":     {"internal/firewall"},
	"internal/kernel/link":      {"internal/spec", "internal/kernel/dump", "internal/kernel/nlattr", "internal/kernel/rtnl"},
	"internal/kernel/route":     {"internal/spec", "internal/kernel/dump", "internal/kernel/nlattr", "internal/kernel/rtnl"},
	"internal/kernel/dhcp6":     {"internal/kernel/afpacket", "internal/kernel/dump", "internal/kernel/rtnl"},
	"internal/kernel/facts":     {"internal/spec", "internal/doctor", "internal/kernel/icmp6", "internal/kernel/link", "internal/kernel/netns", "internal/kernel/nft", "internal/kernel/route", "internal/kernel/rtnl", "internal/kernel/sysctl"},
	"internal/kernel/icmp6":     {"ndproxy", "internal/kernel/afpacket", "internal/kernel/dump", "internal/kernel/rtnl", "internal/ra"},
	"internal/kernel/ndbpf":     {"ndproxy", "internal/kernel/dump", "internal/kernel/icmp6", "internal/kernel/netns", "internal/kernel/rtnl"},
	"internal/kernel/sandbox":   {"internal/spec", "internal/kernel/dump", "internal/kernel/netns", "internal/kernel/rtnl", "internal/kernel/sysctl"},
	"internal/kernel/rtnl":      {"internal/kernel/dump", "internal/kernel/nlattr"},
	"internal/testnet":          {"internal/kernel/netns"},
	"internal/testengine":       {"internal/testnet"},
}

// fenced are modules that only some folders may use.
var fenced = []struct {
	module  string
	allowed []string
}{
	{"github.com/vishvananda/netlink", []string{"internal/kernel", "internal/testnet"}},
	{"github.com/vishvananda/netns", []string{"internal/kernel", "internal/testnet"}},
	{"github.com/google/nftables", []string{"internal/kernel/nft"}},
	{"github.com/mdlayher/netlink", []string{"internal/kernel"}},
	{"github.com/cilium/ebpf", []string{"internal/kernel"}},
	{"golang.org/x/sys", []string{"internal/kernel", "internal/testnet", "internal/testengine", "internal/testcrash"}},
	{"github.com/insomniacslk/dhcp", []string{"internal/prefix/pd"}},
	{"github.com/prometheus", []string{"internal/metrics"}},
	{"go.etcd.io/bbolt", []string{"internal/store"}},
	{"github.com/godbus", []string{"internal/firewalld"}},
	{"github.com/gopacket", nil}, // its tables would be the daemon's: in tests alone
	{"github.com/docker", []string{"driver", "internal/testengine", "test"}},
}

type listed struct {
	ImportPath string
	Imports    []string
}

func TestArrowsPointOneWay(t *testing.T) {
	for _, pkg := range list(t) {
		from := strings.TrimPrefix(pkg.ImportPath, module)
		for _, imported := range pkg.Imports {
			if to, ok := strings.CutPrefix(imported, module); ok && !mayImport(from, to) {
				t.Errorf("%s imports %s: the layout does not allow that arrow (docs/architecture.md)", from, to)
			}
			for _, f := range fenced {
				if tree(f.module)(imported) && !slices.ContainsFunc(f.allowed, func(folder string) bool { return tree(folder)(from) }) {
					t.Errorf("%s imports %s: only %s may", from, imported, strings.Join(f.allowed, ", "))
				}
			}
		}
	}
}

// mayImport is the rule for two packages of this module.
func mayImport(from, to string) bool {
	if tree("cmd")(from) {
		return !tree("cmd")(to) // the composition root joins everything, and nothing imports it
	}
	for folder, allowed := range ours {
		if tree(folder)(from) {
			return slices.ContainsFunc(allowed, func(a string) bool { return tree(a)(to) })
		}
	}
	return false
}

// list asks the go command for every package's imports, tests left aside.
func list(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var pkgs []listed
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
	if len(pkgs) < 10 {
		t.Fatalf("go list found %d packages: the test would prove nothing", len(pkgs))
	}
	return pkgs
}
