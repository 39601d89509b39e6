// Package sysctl reads and writes kernel parameters by their path below
// /proc/sys. Slashes separate the parts of a key, so that the name of an
// interface may contain dots, as VLANs' names do.
//
// What lies below net/ is that of the calling thread's network namespace.
package sysctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// DefaultRoot is where the kernel shows its parameters.
const DefaultRoot = "/proc/sys"

var (
	// ErrNotFound says that the kernel has no such parameter (here): the
	// interface is absent or the feature is not built in. It matches [fs.ErrNotExist].
	ErrNotFound = fmt.Errorf("the kernel has no such parameter: %w", fs.ErrNotExist)
	// ErrReadOnly says that the parameter cannot be changed from here. It
	// matches [fs.ErrPermission].
	ErrReadOnly = fmt.Errorf("cannot be changed from here: %w", fs.ErrPermission)
)

// Parameters are the kernel parameters below one root directory.
type Parameters struct{ root string }

// New returns the parameters below root, and those below [DefaultRoot] for an
// empty one. In a container whose /proc/sys is read-only, root is the
// directory that holds a writable bind mount of the host's /proc/sys/net as
// its subdirectory net.
func New(root string) *Parameters {
	if root == "" {
		root = DefaultRoot
	}
	return &Parameters{root}
}

// Get reads a parameter such as "net/ipv6/conf/eth0/accept_ra". Several values
// come separated by single spaces. The error matches [ErrNotFound] where the
// kernel has no such parameter.
func (p *Parameters) Get(ctx context.Context, key string) (string, error) {
	path, err := p.path(ctx, key)
	if err != nil {
		return "", err
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", p.explain("read", key, err)
	}
	return normal(string(raw)), nil
}

// List names what is directly below a folder of parameters such as
// "net/ipv6/conf". The error matches [ErrNotFound] where there is none.
func (p *Parameters) List(ctx context.Context, folder string) ([]string, error) {
	path, err := p.path(ctx, folder)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, p.explain("list", folder, err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// Set gives a parameter a value, and writes nothing when it has that value
// already. The error matches [ErrNotFound] where the kernel has no such
// parameter and [ErrReadOnly] where it may not be written.
func (p *Parameters) Set(ctx context.Context, key, value string) error {
	current, err := p.Get(ctx, key)
	if err != nil {
		return err
	}
	if current == normal(value) {
		return nil
	}
	path, err := p.path(ctx, key)
	if err != nil {
		return err
	}
	// Neither created nor truncated: a missing parameter is ENOENT, and the
	// kernel takes the value from one write.
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return p.explain("set", key, err)
	}
	_, err = f.WriteString(value)
	if err := errors.Join(err, f.Close()); err != nil {
		return p.explain("set", key, fmt.Errorf("to %q: %w", value, err))
	}
	return nil
}

// path turns a key into a file. [fs.ValidPath] refuses "..", ".", empty parts
// and a leading slash, so a key never leads out of the root.
func (p *Parameters) path(ctx context.Context, key string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("sysctl %s: %w", key, err)
	}
	if !fs.ValidPath(key) || key == "." || strings.ContainsRune(key, 0) {
		return "", fmt.Errorf("sysctl %q: not a key such as net/ipv6/conf/all/forwarding", key)
	}
	return filepath.Join(p.root, key), nil
}

// explain says what an error of the file system means for a parameter.
func (p *Parameters) explain(verb, key string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s sysctl %s: %w", verb, key, ErrNotFound)
	case verb == "set" && (errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission)):
		return fmt.Errorf("%s sysctl %s: %w (%w): set it on the host, or give v6net a writable mount of the host's /proc/sys/net at %s",
			verb, key, ErrReadOnly, err, filepath.Join(p.root, "net"))
	}
	return fmt.Errorf("%s sysctl %s: %w", verb, key, err)
}

// normal is the value as sysctl(8) shows it: the kernel ends it with a newline
// and separates several by tabs.
func normal(value string) string { return strings.Join(strings.Fields(value), " ") }
