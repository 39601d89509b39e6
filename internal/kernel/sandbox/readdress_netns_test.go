//go:build netns

package sandbox_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/kernel/sandbox"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// address is one as `ip -j address` shows it.
type address struct {
	Local      string `json:"local"`
	Length     int    `json:"prefixlen"`
	Deprecated bool   `json:"deprecated"`
	Valid      uint32 `json:"valid_life_time"`
	Preferred  uint32 `json:"preferred_life_time"`
}

const forever = 1<<32 - 1

func addresses(t *testing.T, h *testnet.Host) map[string]address {
	t.Helper()
	var links []struct {
		Addresses []address `json:"addr_info"`
	}
	if err := json.Unmarshal([]byte(h.Run(t, "ip", "-j", "-6", "address", "show", "dev", "eth7", "scope", "global")), &links); err != nil {
		t.Fatal(err)
	}
	all := map[string]address{}
	for _, l := range links {
		for _, a := range l.Addresses {
			if a.Local != "" {
				all[a.Local] = a
			}
		}
	}
	return all
}

func TestReaddress(t *testing.T) {
	container := testnet.New(t, "container")
	want := attached(t)
	if _, err := sandbox.Furnish(t.Context(), container.Path(), want); err != nil {
		t.Fatal(err)
	}
	old, current := netip.MustParsePrefix("2001:db8::2/64"), netip.MustParsePrefix("2001:db8:f::2/64")
	readdress := func(gone []netip.Prefix, want ...spec.SandboxAddress) {
		t.Helper()
		for range 2 { // it is idempotent
			if err := (sandbox.Entrance{}).Readdress(t.Context(), container.Path(), spec.EndpointAlias(id), want, gone); err != nil {
				t.Fatal(err)
			}
		}
	}
	readdress(nil, spec.SandboxAddress{Prefix: current}, spec.SandboxAddress{Prefix: old, Former: true, Valid: time.Now().Add(time.Hour)})
	got := addresses(t, container)
	if a := got["2001:db8:f::2"]; a.Deprecated || a.Valid != forever || a.Preferred != forever || a.Length != 64 {
		t.Errorf("the address in use is %+v", a)
	}
	if a := got["2001:db8::2"]; !a.Deprecated || a.Preferred != 0 || a.Valid < 3500 || a.Valid > 3600 {
		t.Errorf("the former address is %+v, want it deprecated and valid for an hour", a)
	}
	if route := container.Run(t, "ip", "-6", "route", "get", "2001:db8:99::1"); !slices.Contains(strings.Fields(route), "2001:db8:f::2") {
		t.Errorf("a new connection comes from another address: %s", route)
	}

	readdress(nil, spec.SandboxAddress{Prefix: old}, spec.SandboxAddress{Prefix: current, Former: true})
	got = addresses(t, container)
	if a, b := got["2001:db8::2"], got["2001:db8:f::2"]; a.Deprecated || a.Valid != forever || !b.Deprecated || b.Valid != forever {
		t.Errorf("back again: %+v in use, %+v former", a, b)
	}

	readdress([]netip.Prefix{current, netip.MustParsePrefix("2001:db8:a::2/64")}, spec.SandboxAddress{Prefix: old})
	if got = addresses(t, container); len(got) != 1 || got["2001:db8::2"].Deprecated {
		t.Errorf("in the end the container has %+v", got)
	}

	// What has ended goes by itself.
	readdress(nil, spec.SandboxAddress{Prefix: current}, spec.SandboxAddress{Prefix: old, Former: true, Valid: time.Now().Add(-time.Hour)})
	deadline := time.Now().Add(20 * time.Second)
	for len(addresses(t, container)) > 1 {
		if time.Now().After(deadline) {
			t.Fatalf("an address with a lifetime that has ended stays: %+v", addresses(t, container))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestReaddressRefuses(t *testing.T) {
	container := testnet.New(t, "container")
	want := []spec.SandboxAddress{{Prefix: netip.MustParsePrefix("2001:db8::2/64")}}
	readdress := func(e sandbox.Entrance, path string) error {
		return e.Readdress(t.Context(), path, spec.EndpointAlias(id), want, nil)
	}
	if err := readdress(sandbox.Entrance{}, "/run/netns/away"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such namespace: %v, want fs.ErrNotExist", err)
	}
	if err := readdress(sandbox.Entrance{}, container.Path()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a namespace without the link: %v, want fs.ErrNotExist", err)
	}

	// The plugin sees the engine's folder elsewhere.
	link := attached(t)
	if _, err := sandbox.Furnish(t.Context(), container.Path(), link); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Dir(container.Path())
	if err := readdress(sandbox.Entrance{Folder: folder}, "/var/run/docker/netns/"+filepath.Base(container.Path())); err != nil {
		t.Errorf("by another path: %v", err)
	}

	// Without the capability.
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with what it lacks
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		data := [2]unix.CapUserData{}
		if err := unix.Capget(&header, &data[0]); err != nil {
			done <- err
			return
		}
		data[0].Effective &^= 1 << unix.CAP_SYS_ADMIN
		data[0].Permitted &^= 1 << unix.CAP_SYS_ADMIN
		if err := unix.Capset(&header, &data[0]); err != nil {
			done <- err
			return
		}
		target, err := os.Open(container.Path())
		if err != nil {
			done <- err
			return
		}
		defer func() { _ = target.Close() }()
		done <- unix.Setns(int(target.Fd()), unix.CLONE_NEWNET)
	}()
	if err := <-done; !errors.Is(err, fs.ErrPermission) {
		t.Errorf("without CAP_SYS_ADMIN: %v, want fs.ErrPermission", err)
	}
}
