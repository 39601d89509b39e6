package firewalld

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
)

// passing are the zones, policies, sets and direct rules that are another thing at run
// time than in what firewalld keeps, and so would be after a reload. Which links are in
// zones is none of it: [daemon.reload] sees to them.
func (d daemon) passing() (names []string, err error) {
	for _, kind := range []struct{ what, list, running, find, kept string }{
		{"zone", ".zone.getZones", ".zone.getZoneSettings2", ".config.getZoneByName", ".config.zone.getSettings2"},
		{"policy", ".policy.getPolicies", ".policy.getPolicySettings", ".config.getPolicyByName", ".config.policy.getSettings"},
	} {
		var all []string
		if err := d.call(path, kind.list, &all); err != nil {
			return nil, err
		}
		for _, name := range all {
			var at dbus.ObjectPath
			var running, kept map[string]dbus.Variant
			if err := d.call(path, kind.running, &running, name); err != nil {
				return nil, err
			}
			// One that is not kept at all has nothing that could be.
			if d.call(configPath, kind.find, &at, name) == nil {
				if err := d.call(at, kind.kept, &kept); err != nil {
					return nil, err
				}
			}
			if keys := differing(running, kept); len(keys) > 0 {
				names = append(names, fmt.Sprintf("%s %s (%s)", kind.what, name, strings.Join(keys, ", ")))
			}
		}
	}
	var sets []string
	if err := d.call(path, ".ipset.getIPSets", &sets); err != nil {
		return nil, err
	}
	for _, name := range sets {
		var at dbus.ObjectPath
		var running, kept []string
		if d.call(path, ".ipset.getEntries", &running, name) != nil {
			continue // one with a timeout: its entries are not firewalld's to know
		}
		if d.call(configPath, ".config.getIPSetByName", &at, name) == nil {
			if err := d.call(at, ".config.ipset.getEntries", &kept); err != nil {
				return nil, err
			}
		}
		if text(running) != text(kept) {
			names = append(names, "ipset "+name)
		}
	}
	for _, list := range []string{"Chains", "Rules", "Passthroughs"} {
		var running, kept [][]any
		if d.call(path, ".direct.getAll"+list, &running) != nil {
			continue // they are to go from firewalld
		}
		if err := d.call(configPath, ".config.direct.getAll"+list, &kept); err != nil {
			return nil, err
		}
		if text(running) != text(kept) {
			names = append(names, "direct "+strings.ToLower(list))
		}
	}
	return names, nil
}

// differing are the settings that are not the same. What is missing is empty.
func differing(running, kept map[string]dbus.Variant) (keys []string) {
	all := maps.Clone(running)
	maps.Copy(all, kept)
	delete(all, "interfaces")
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if text(running[key].Value()) != text(kept[key].Value()) {
			keys = append(keys, key)
		}
	}
	return keys
}

// text is a value to compare by: lists have no order, and nothing is what is empty.
func text(v any) string {
	r := reflect.ValueOf(v)
	if !r.IsValid() || r.IsZero() {
		return ""
	}
	if r.Kind() != reflect.Slice {
		return fmt.Sprint(v)
	}
	var parts []string
	for i := range r.Len() {
		parts = append(parts, fmt.Sprintf("%q", fmt.Sprint(r.Index(i).Interface())))
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

// reload has firewalld read anew what it keeps. The links that were in zones at run time
// are put back: Docker, libvirt and NetworkManager do that as well with theirs, others do not.
func (d daemon) reload() error {
	zones, err := d.zones()
	if err != nil {
		return err
	}
	links := map[string][]string{}
	for _, zone := range zones {
		var in []string
		if err := d.call(path, ".zone.getInterfaces", &in, zone); err != nil {
			return err
		}
		links[zone] = in
	}
	if err := d.call(path, ".reload", nil); err != nil {
		return err
	}
	var errs []error
	for zone, in := range links {
		for _, link := range in {
			var now string
			err := d.call(path, ".zone.getZoneOfInterface", &now, link)
			if err == nil && now == "" {
				err = d.call(path, ".zone.addInterface", nil, zone, link)
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
