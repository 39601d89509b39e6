//go:build netns

package sysctl_test

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/kernel/netns"
	"github.com/v6net/v6net/internal/kernel/sysctl"
	"github.com/v6net/v6net/internal/testnet"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { testnet.Main(m) }

func TestKernelParameterOfDottedInterface(t *testing.T) {
	self := testnet.Self(t)
	self.Run(t, "ip", "link", "add", "br.7", "type", "bridge")
	defer self.Run(t, "ip", "link", "del", "br.7")
	params := sysctl.New("")
	key := "net/ipv6/conf/br.7/accept_ra"
	for _, want := range []string{"2", "0"} {
		if err := params.Set(t.Context(), key, want); err != nil {
			t.Fatal(err)
		}
		if got, err := params.Get(t.Context(), key); err != nil || got != want {
			t.Errorf("%s is %q, %v; want %s", key, got, err, want)
		}
	}
	if err := params.Set(t.Context(), key, "no number"); err == nil || !strings.Contains(err.Error(), key) {
		t.Errorf("bad value: %v, want an error that names %s", err, key)
	}
	if err := params.Set(t.Context(), "net/ipv6/conf/br.8/accept_ra", "1"); !errors.Is(err, sysctl.ErrNotFound) {
		t.Errorf("absent interface: %v, want ErrNotFound", err)
	}
}

// The parameters below net/ are those of the thread's own namespace.
func TestParametersFollowTheNamespace(t *testing.T) {
	other := testnet.New(t, "other")
	params, key := sysctl.New(""), "net/ipv6/conf/all/forwarding"
	err := netns.Do(other.Path(), func() error { return params.Set(t.Context(), key, "1") })
	if err != nil {
		t.Fatal(err)
	}
	if v, err := params.Get(t.Context(), key); err != nil || v != "0" {
		t.Errorf("own %s is %q, %v; want 0", key, v, err)
	}
	if v := other.Run(t, "sysctl", "-n", "net.ipv6.conf.all.forwarding"); v != "1" {
		t.Errorf("the other's forwarding is %s, want 1", v)
	}
}

func TestListOfInterfaces(t *testing.T) {
	self := testnet.Self(t)
	self.Run(t, "ip", "link", "add", "br.7", "type", "bridge")
	defer self.Run(t, "ip", "link", "del", "br.7")
	params := sysctl.New("")
	for _, folder := range []string{"net/ipv4/conf", "net/ipv6/conf"} {
		names, err := params.List(t.Context(), folder)
		if want := []string{"all", "br.7", "default", "lo"}; err != nil || !slices.Equal(names, want) {
			t.Errorf("%s: %q, %v; want %q", folder, names, err, want)
		}
		for _, name := range names {
			if _, err := params.Get(t.Context(), folder+"/"+name+"/forwarding"); err != nil {
				t.Errorf("what was listed cannot be read: %v", err)
			}
		}
	}
	if _, err := params.List(t.Context(), "net/ipv6/none"); !errors.Is(err, sysctl.ErrNotFound) || !strings.Contains(err.Error(), "net/ipv6/none") {
		t.Errorf("absent folder: %v, want ErrNotFound that names it", err)
	}
	if _, err := params.List(t.Context(), "net/../../etc"); err == nil {
		t.Error("a folder outside of the tree was listed")
	}
}

// A managed plugin has a read-only /proc/sys and a writable bind of its net.
func TestReadOnlyTreeAndWritableBind(t *testing.T) {
	root, key := t.TempDir(), "net/ipv6/conf/all/hop_limit"
	testnet.Self(t).Run(t, "mkdir", filepath.Join(root, "net"))
	bind := filepath.Join(root, "net")
	if err := unix.Mount("/proc/sys/net", bind, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(bind, unix.MNT_DETACH) }()
	params := sysctl.New(root)
	if err := params.Set(t.Context(), key, "63"); err != nil {
		t.Fatalf("through a bind mount: %v", err)
	}
	if v, err := sysctl.New("").Get(t.Context(), key); err != nil || v != "63" {
		t.Errorf("kernel has %q, %v; want 63", v, err)
	}

	if err := unix.Mount("", bind, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if err := params.Set(t.Context(), key, "63"); err != nil {
		t.Errorf("the value it has, read-only: %v, want success without a write", err)
	}
	err := params.Set(t.Context(), key, "64")
	if !errors.Is(err, sysctl.ErrReadOnly) || !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), bind) {
		t.Errorf("read-only: %v, want ErrReadOnly that names %s", err, bind)
	}
}
