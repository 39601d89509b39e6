// Package aardvark runs Podman's own name server, aardvark-dns, for networks of
// v6net: netavark does that for its own driver only.
//
// The server is one of its own beside netavark's, with its own folder. It has a file
// for each network, which begins with the addresses that it answers on, and a line
// for each container; at SIGHUP it reads them again, and ends when there are none.
// Callers hold netavark's lock, so that nobody else writes here meanwhile.
package aardvark

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/v6net/v6net/internal/netavark"
)

// DefaultFolder is gone after a boot, as is all that it speaks of.
const DefaultFolder = "/run/v6net/aardvark-dns"

const (
	program = "aardvark-dns"
	pidFile = "aardvark.pid" // which the server writes
	// internalSuffix marks the file of a network whose containers look no name of the
	// outside up.
	internalSuffix = "%int"
	// startTime bounds the start of the server, which goes to the background when it serves.
	startTime = time.Second
)

// Server is the name server of a folder.
type Server struct {
	Folder   string
	Programs []string // folders in which the program may be
}

// New is the server of v6net's containers.
func New() Server {
	return Server{
		Folder:   DefaultFolder,
		Programs: []string{"/usr/local/libexec/podman", "/usr/libexec/podman", "/usr/local/lib/podman", "/usr/lib/podman", "/usr/bin"},
	}
}

// unwritable are what the parts of a file are told apart by. The server takes a whole
// network's file for broken where a name has one of them.
const unwritable = ", \t\r\n"

// Check implements netavark.Names: it says why the server cannot be run.
func (s Server) Check() error {
	_, err := s.find()
	return err
}

// Add implements netavark.Names. A container that is there already is replaced.
func (s Server) Add(ctx context.Context, n netavark.NamedNetwork, c netavark.NamedContainer) error {
	if len(n.Servers) == 0 {
		return fmt.Errorf("network %s: option dns=on: the network has no gateway on which names could be asked for", n.Name)
	}
	for _, name := range c.Names {
		if name == "" || strings.ContainsAny(name, unwritable) {
			return fmt.Errorf("network %s: option dns=on: %q is no name that can be looked up: it is empty, or has a comma or a space in it (choose another --network-alias)", n.Name, name)
		}
	}
	file := s.file(n.Name, n.Internal)
	lines, err := s.read(file)
	if err != nil {
		return err
	}
	text := []string{header(n)}
	if len(lines) > 0 {
		text = append(text, others(lines[1:], c.ID)...)
	}
	if err := s.write(file, append(text, entry(c))); err != nil {
		return err
	}
	return s.reload(ctx)
}

// Remove implements netavark.Names. The file goes with the last container.
func (s Server) Remove(ctx context.Context, network, container string) error {
	changed := false
	for _, internal := range []bool{false, true} {
		file := s.file(network, internal)
		lines, err := s.read(file)
		if err != nil {
			return err
		}
		if len(lines) == 0 {
			continue
		}
		rest := others(lines[1:], container)
		if len(rest) == len(lines)-1 {
			continue
		}
		changed = true
		if len(rest) == 0 {
			err = os.Remove(file)
		} else {
			err = s.write(file, append(lines[:1], rest...))
		}
		if err != nil {
			return fmt.Errorf("names of network %s: %w", network, err)
		}
	}
	if !changed {
		return nil
	}
	return s.reload(ctx)
}

func (s Server) file(network string, internal bool) string {
	if internal {
		network += internalSuffix
	}
	return filepath.Join(s.Folder, network)
}

// header names the addresses that the server answers on, and whom it asks itself.
func header(n netavark.NamedNetwork) string {
	line := list(n.Servers)
	if len(n.Forward) > 0 {
		line += " " + list(n.Forward)
	}
	return line
}

// entry is a container's line: its ID, its IPv4 addresses, its IPv6 addresses, its names.
func entry(c netavark.NamedContainer) string {
	var v4, v6 []netip.Addr
	for _, a := range c.Addresses {
		if a.Is4() {
			v4 = append(v4, a)
		} else {
			v6 = append(v6, a)
		}
	}
	return strings.Join([]string{c.ID, list(v4), list(v6), strings.Join(c.Names, ",")}, " ")
}

func list(addrs []netip.Addr) string {
	var s []string
	for _, a := range addrs {
		s = append(s, a.String())
	}
	return strings.Join(s, ",")
}

// others are the lines of all other containers.
func others(lines []string, container string) []string {
	var rest []string
	for _, l := range lines {
		if !strings.HasPrefix(l, container+" ") {
			rest = append(rest, l)
		}
	}
	return rest
}

// read is a file's lines, none if there is no file.
func (s Server) read(file string) ([]string, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("names of containers: %w", err)
	}
	return strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' }), nil
}

// write replaces a file. The new one is made beside the folder: all that is in the
// folder is a network to the server.
func (s Server) write(file string, lines []string) error {
	if err := os.MkdirAll(s.Folder, 0o755); err != nil {
		return fmt.Errorf("folder of names: %w", err)
	}
	next := s.Folder + ".new"
	if err := os.WriteFile(next, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		return fmt.Errorf("names of containers: %w", err)
	}
	if err := os.Rename(next, file); err != nil {
		return fmt.Errorf("names of containers: %w", err)
	}
	return nil
}

// reload has the server read its files again, and starts one if there is none.
func (s Server) reload(ctx context.Context) error {
	if pid, ok := s.running(); ok {
		p, err := os.FindProcess(pid)
		if err == nil {
			err = p.Signal(syscall.SIGHUP)
		}
		if !errors.Is(err, os.ErrProcessDone) {
			return err
		}
	}
	networks, err := os.ReadDir(s.Folder)
	if err != nil || len(networks) == 0 || len(networks) == 1 && networks[0].Name() == pidFile {
		return err
	}
	return s.start(ctx)
}

// running is the server's process, if it lives.
func (s Server) running() (pid int, ok bool) {
	text, err := os.ReadFile(filepath.Join(s.Folder, pidFile))
	if err != nil {
		return 0, false
	}
	if pid, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
		return 0, false
	}
	// The number may be another process's by now.
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return pid, err == nil && strings.TrimSpace(string(name)) == program
}

// start starts the server in the background. Where systemd runs it gets a scope of
// its own, as netavark's has: it must not end with the unit of the first container.
func (s Server) start(ctx context.Context) error {
	path, err := s.find()
	if err != nil {
		return err
	}
	args := []string{path, "--config", s.Folder, "--port", "53", "run"}
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		if run, err := exec.LookPath("systemd-run"); err == nil {
			args = append([]string{run, "-q", "--scope"}, args...)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	// A file and no pipe, which the server would keep open and Wait wait for.
	output, err := os.CreateTemp("", "v6net-aardvark-*")
	if err != nil {
		return fmt.Errorf("start %s: %w", program, err)
	}
	defer func() { _ = os.Remove(output.Name()); _ = output.Close() }()
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(output.Name())
		return fmt.Errorf("start %s: %w: %s", path, err, bytes.TrimSpace(said))
	}
	return nil
}

func (s Server) find() (string, error) {
	for _, folder := range s.Programs {
		path := filepath.Join(folder, program)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("option dns=on needs %s, which is in none of %s (install Podman's package %s, or make the network without dns=on)", program, strings.Join(s.Programs, ", "), program)
}
