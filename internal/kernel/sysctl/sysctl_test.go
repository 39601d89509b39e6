package sysctl_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/kernel/sysctl"
)

// tree is a root with one parameter, of a VLAN whose name holds a dot.
func tree(t *testing.T) (params *sysctl.Parameters, file string) {
	t.Helper()
	root := t.TempDir()
	file = filepath.Join(root, "net/ipv6/conf/eth0.7/accept_ra")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return sysctl.New(root), file
}

const acceptRA = "net/ipv6/conf/eth0.7/accept_ra"

func TestSetThenGet(t *testing.T) {
	params, _ := tree(t)
	if err := params.Set(t.Context(), acceptRA, "2"); err != nil {
		t.Fatal(err)
	}
	if v, err := params.Get(t.Context(), acceptRA); err != nil || v != "2" {
		t.Errorf("value %q, %v; want 2", v, err)
	}
}

func TestSetOfSameValueDoesNotWrite(t *testing.T) {
	params, file := tree(t)
	then := time.Unix(1, 0)
	if err := os.Chtimes(file, then, then); err != nil {
		t.Fatal(err)
	}
	if err := params.Set(t.Context(), acceptRA, "1"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || !info.ModTime().Equal(then) {
		t.Errorf("the file was written at %v, %v", info.ModTime(), err)
	}
}

func TestSeveralValues(t *testing.T) {
	params, file := tree(t)
	if err := os.WriteFile(file, []byte("32768\t60999\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if v, err := params.Get(t.Context(), acceptRA); err != nil || v != "32768 60999" {
		t.Errorf("value %q, %v; want single spaces", v, err)
	}
}

func TestBadKeys(t *testing.T) {
	params, _ := tree(t)
	for _, key := range []string{
		"", ".", "/", "/net/ipv6", "net/", "net//ipv6", "..", "../etc/passwd",
		"net/ipv6/conf/../../../../etc/passwd", "net/./ipv6", "net/\x00",
	} {
		if _, err := params.Get(t.Context(), key); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Get(%q): %v, want a refusal of the key", key, err)
		}
		if err := params.Set(t.Context(), key, "1"); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Set(%q): %v, want a refusal of the key", key, err)
		}
	}
}

func TestMissingParameter(t *testing.T) {
	params, file := tree(t)
	key := "net/ipv6/conf/gone/accept_ra"
	if _, err := params.Get(t.Context(), key); !errors.Is(err, sysctl.ErrNotFound) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Get: %v, want ErrNotFound", err)
	}
	if err := params.Set(t.Context(), key, "1"); !errors.Is(err, sysctl.ErrNotFound) {
		t.Errorf("Set: %v, want ErrNotFound", err)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(file), "../gone")); err == nil {
		t.Error("Set of a missing parameter made a file")
	}
}

func TestEndedContext(t *testing.T) {
	params, _ := tree(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := params.Set(ctx, acceptRA, "2"); !errors.Is(err, context.Canceled) {
		t.Errorf("Set: %v, want context.Canceled", err)
	}
}

func FuzzKeyStaysInsideRoot(f *testing.F) {
	for _, seed := range []string{acceptRA, "../x", "net/../../x", "a/b\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "outside"), []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(dir, "root"), 0o755); err != nil {
			t.Fatal(err)
		}
		if v, err := sysctl.New(filepath.Join(dir, "root")).Get(t.Context(), key); err == nil {
			t.Errorf("key %q reads %q from outside an empty root", key, v)
		}
	})
}
