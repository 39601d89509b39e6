package ip6tables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/kernel/netns"
)

// ErrUnavailable says that the rules cannot be put in place by iptables here.
var ErrUnavailable = errors.New("no ip6tables here")

// programs are those of one variant. iptables-nft keeps its rules in nftables' tables,
// iptables-legacy in the kernel's older ones, and neither sees the other's.
type programs struct {
	variant string // nft, legacy, or empty: whatever the plain names are
	restore map[family]string
	save    map[family]string
	list    map[family]string // iptables itself; of iptables-legacy it is not needed
}

var families = []family{ip6, ip4}

// names are what the programs' names begin with.
var names = map[family]string{ip4: "iptables", ip6: "ip6tables"}

// folders are searched after PATH, which a service may have without them.
var folders = []string{"/usr/sbin", "/sbin", "/usr/local/sbin"}

func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	for _, folder := range folders {
		if err == nil {
			break
		}
		path, err = exec.LookPath(filepath.Join(folder, name))
	}
	return path, err
}

// find are the programs of a variant, if all are there.
func find(variant string) (p programs, err error) {
	p = programs{variant, map[family]string{}, map[family]string{}, map[family]string{}}
	for _, f := range families {
		name := names[f]
		if variant != "" {
			name += "-" + variant
		}
		if p.restore[f], err = lookPath(name + "-restore"); err != nil {
			return p, err
		}
		if p.save[f], err = lookPath(name + "-save"); err != nil {
			return p, err
		}
		if p.list[f], err = lookPath(name); err != nil && variant != "legacy" {
			return p, err
		}
	}
	return p, nil
}

// space runs programs in the network namespace of the thread that made it.
type space struct {
	file *os.File
	id   uint64
}

// thread is the network namespace of the calling thread.
const thread = "/proc/thread-self/ns/net"

func newSpace() (space, error) {
	file, err := os.Open(thread)
	if err != nil {
		return space{}, fmt.Errorf("open network namespace: %w", err)
	}
	id, err := namespaceID(thread)
	if err != nil {
		return space{}, errors.Join(err, file.Close())
	}
	return space{file, id}, nil
}

func namespaceID(path string) (uint64, error) {
	var is unix.Stat_t
	if err := unix.Stat(path, &is); err != nil {
		return 0, &os.PathError{Op: "stat network namespace", Path: path, Err: err}
	}
	return is.Ino, nil
}

// do enters the namespace only from another one: that needs CAP_SYS_ADMIN.
func (s space) do(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if here, err := namespaceID(thread); err == nil && here == s.id {
		return f()
	}
	return netns.Do(fmt.Sprintf("/proc/self/fd/%d", s.file.Fd()), f)
}

func (s space) close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// run returns what a program writes. Its complaint is in the error.
func (s space) run(ctx context.Context, input, path string, args ...string) (string, error) {
	var out, complaint bytes.Buffer
	err := s.do(func() error {
		cmd := exec.CommandContext(ctx, path, args...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &complaint
		return cmd.Run()
	})
	if err != nil {
		said, _, _ := strings.Cut(strings.TrimSpace(complaint.String()), "\nTry `")
		return out.String(), fmt.Errorf("%s: %w: %s", filepath.Base(path), err, said)
	}
	return out.String(), nil
}

// waits has iptables-legacy wait for another run of it; iptables-nft needs no lock.
var waits = []string{"-w", "10"}

// read is what one table has, or one chain of it with its rules; "-v" counts. Of
// iptables-nft iptables-save is not asked, which takes all tables in: the time for
// thousands of others' rules, and one that it does not know is an error. And
// iptables-legacy is asked for nothing else, since that takes its lock, by which
// changes are known.
func (s space) read(ctx context.Context, p programs, f family, table string, args ...string) (*savedTable, error) {
	if p.variant != "legacy" {
		text, err := s.run(ctx, "", p.list[f], slices.Concat(waits, []string{"-t", table, "-S"}, args)...)
		if err != nil {
			return nil, err
		}
		return readListed(text)
	}
	args = slices.Clone(args)
	for i, a := range args {
		if a == "-v" {
			args[i] = "-c"
		}
	}
	text, err := s.run(ctx, "", p.save[f], slices.Concat([]string{"-t", table}, args)...)
	if err != nil {
		return nil, err
	}
	all, err := readSaved(text)
	if err != nil {
		return nil, err
	}
	if all[table] == nil {
		return newSavedTable(), nil
	}
	return all[table], nil
}

// write changes tables, each in one atomic step.
func (s space) write(ctx context.Context, p programs, f family, text string) error {
	_, err := s.run(ctx, text, p.restore[f], append([]string{"--noflush"}, waits...)...)
	return err
}

// works finds out whether the kernel has what a variant needs.
func (s space) works(ctx context.Context, p programs) error {
	for _, f := range families {
		for _, name := range tableNames {
			if _, err := s.run(ctx, "*"+name+"\nCOMMIT\n", p.restore[f], append([]string{"--noflush", "--test"}, waits...)...); err != nil {
				return fmt.Errorf("table %s: %w", name, err)
			}
		}
	}
	return nil
}

// choose takes the variant in whose tables others have rules, Docker most of all, and
// else the one that the host's plain names lead to.
func (s space) choose(ctx context.Context) (programs, error) {
	used, docker := map[string]bool{}, map[string]bool{}
	for _, variant := range []string{"nft", "legacy"} {
		p, err := find(variant)
		if err != nil {
			continue
		}
		for _, f := range families {
			// What comes before a rule that it does not know will do.
			text, _ := s.run(ctx, "", p.save[f])
			if there, err := readSaved(text); err == nil {
				used[variant] = used[variant] || there.others()
				docker[variant] = docker[variant] || there.docker()
			}
		}
	}
	order := []string{"", "nft", "legacy"}
	switch {
	case docker["nft"] || used["nft"] && !docker["legacy"]:
		order = []string{"nft", "", "legacy"}
	case docker["legacy"] || used["legacy"]:
		order = []string{"legacy", "", "nft"}
	}
	errs := []error{ErrUnavailable}
	for _, variant := range order {
		p, err := find(variant)
		if err == nil {
			err = s.works(ctx, p)
		}
		if err == nil && variant == "" {
			p.variant, err = s.variant(ctx, p)
		}
		if err == nil {
			return p, nil
		}
		if !slices.ContainsFunc(errs, func(e error) bool { return e.Error() == err.Error() }) {
			errs = append(errs, err)
		}
	}
	return programs{}, errors.Join(errs...)
}

// programsOf are those of a variant by name, or the plain ones if they are of it.
func (s space) programsOf(ctx context.Context, variant string) (programs, error) {
	p, err := find(variant)
	if err == nil {
		return p, nil
	}
	plain, plainErr := find("")
	if plainErr != nil {
		return p, err
	}
	if plain.variant, plainErr = s.variant(ctx, plain); plainErr != nil || plain.variant != variant {
		return p, errors.Join(err, plainErr)
	}
	return plain, nil
}

// variant asks a program of a plain name what it is. Before 1.8 there was one.
func (s space) variant(ctx context.Context, p programs) (string, error) {
	said, err := s.run(ctx, "", p.restore[ip6], "--version")
	if strings.Contains(said, "nf_tables") {
		return "nft", err
	}
	return "legacy", err
}
