package doctor

import (
	"fmt"
	"strings"

	"github.com/v6net/v6net/internal/spec"
)

// filtering are machines by whose network a frame from a MAC address that the
// provider has not given out is dropped: how sure that is depends on who runs it.
var filtering = []struct {
	field, begins string // of /sys/class/dmi/id
	name          string
	sure          bool
}{
	{"sys_vendor", "Amazon EC2", "AWS", true},
	{"board_vendor", "Amazon EC2", "AWS", true},
	{"product_name", "Google Compute Engine", "Google Cloud", true},
	{"chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77", "Azure", true}, // as cloud-init knows it
	{"sys_vendor", "DigitalOcean", "DigitalOcean", true},
	{"sys_vendor", "Hetzner", "Hetzner", true},
	{"sys_vendor", "Vultr", "Vultr", true},
	{"sys_vendor", "Linode", "Linode", true},
	{"sys_vendor", "Akamai", "Linode", true},
	{"sys_vendor", "Scaleway", "Scaleway", true},
	{"sys_vendor", "OpenStack", "OpenStack", false}, // port security, which its owner can turn off
	{"sys_vendor", "VMware", "VMware", false},       // forged transmits, which the port group allows or not
	{"sys_vendor", "Microsoft Corporation", "Hyper-V", false},
	{"sys_vendor", "QEMU", "a virtual machine", false},
	{"product_name", "KVM", "a virtual machine", false},
}

type macFilter struct{}

func (macFilter) About() About {
	return About{
		Name:    "mac_filter",
		Symptom: "macvlan containers get an address and reach nobody, not even the router",
		Why:     "many providers and hypervisors drop frames from MAC addresses that they have not given out, and each macvlan container has one of its own. How sure that is, is said: of large clouds it is known, of a virtual machine's host it is up to its settings",
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
			found := Finding{Level: Warning, On: network(n), Found: fmt.Sprintf("macvlan on %s, and this is %s, which may drop what is not from the MAC address of %s (not sure: it depends on its settings)", n.Parent, p.name, n.Parent),
				Expected: "a network that takes other MAC addresses", Fix: "mode=ipvlan or mode=bridge"}
			if p.sure {
				found.Level = Problem
				found.Found = fmt.Sprintf("macvlan on %s, and this is %s, which drops what is not from the MAC address of %s (sure)", n.Parent, p.name, n.Parent)
			}
			findings = append(findings, found)
			break
		}
	}
	return findings
}
