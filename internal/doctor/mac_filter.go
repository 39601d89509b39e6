package doctor

import (
	"fmt"
	"strings"

	"github.com/v6net/v6net/internal/spec"
)

// How sure it is that a network drops frames from MAC addresses that its owner has
// not given out.
const (
	known   = "sure: it has no network of the Ethernet kind behind the machine"
	likely  = "likely, and not tried"
	depends = "not sure: it depends on its settings"
)

// filtering are machines by whose network such frames are, or may be, dropped.
var filtering = []struct {
	field, begins string // of /sys/class/dmi/id
	name          string
	sure          string
}{
	{"sys_vendor", "Amazon EC2", "AWS", known},
	{"board_vendor", "Amazon EC2", "AWS", known},
	{"product_name", "Google Compute Engine", "Google Cloud", known},
	{"chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77", "Azure", known}, // as cloud-init knows it
	{"sys_vendor", "DigitalOcean", "DigitalOcean", likely},
	{"sys_vendor", "Hetzner", "Hetzner", likely},
	{"sys_vendor", "Vultr", "Vultr", likely},
	{"sys_vendor", "Linode", "Linode", likely},
	{"sys_vendor", "Akamai", "Linode", likely},
	{"sys_vendor", "Scaleway", "Scaleway", likely},
	{"sys_vendor", "OpenStack", "OpenStack", depends}, // port security, which its owner can turn off
	{"sys_vendor", "VMware", "VMware", depends},       // forged transmits, which the port group allows or not
	{"sys_vendor", "Microsoft Corporation", "Hyper-V", depends},
	{"sys_vendor", "QEMU", "a virtual machine", depends},
	{"product_name", "KVM", "a virtual machine", depends},
}

type macFilter struct{}

func (macFilter) About() About {
	return About{
		Name:    "mac_filter",
		Symptom: "macvlan containers get an address and reach nobody, not even the router",
		Why:     "many providers and hypervisors drop frames from MAC addresses that they have not given out, and each macvlan container has one of its own. How sure that is, is said: of the largest clouds it is known, of others likely, of a virtual machine's host it is up to its settings",
		Fix:     "use `mode=bridge`, or `mode=ipvlan`, whose containers share the parent's MAC address; or allow it on the hypervisor (VMware: forged transmits and promiscuous mode; Hyper-V: MAC address spoofing; OpenStack: port security)",
	}
}

func (macFilter) Judge(f Facts) []Finding {
	var findings []Finding
	for _, n := range f.Networks() {
		if n.Options.Mode != spec.ModeMacvlan || n.Options.MacvlanMode == spec.MacvlanPassthru {
			continue
		}
		for _, p := range filtering {
			if !strings.HasPrefix(f.Firmware[p.field], p.begins) {
				continue
			}
			found := Finding{Level: Warning, On: network(n), Expected: "a network that takes other MAC addresses", Fix: "mode=ipvlan or mode=bridge",
				Found: fmt.Sprintf("macvlan on %s, and this is %s, which drops what is not from the MAC address of %s (%s)", n.Parent, p.name, n.Parent, p.sure)}
			if p.sure == known {
				found.Level = Problem
			}
			findings = append(findings, found)
			break
		}
	}
	return findings
}
