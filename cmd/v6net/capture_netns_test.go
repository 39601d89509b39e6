//go:build netns

package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket/pcapgo"

	"github.com/v6net/v6net/internal/testnet"
)

// capturing is a `v6net capture` that has begun.
func (s *site) capturing(t *testing.T, args string) *program {
	t.Helper()
	p := s.operating(t, "capture", args)
	within(t, "it captures", func() bool { return p.said("v6net capture: on ") > 0 })
	return p
}

// packets are how many a file has, which another program finds sound, too.
func packets(t *testing.T, path string) int {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // it is read
	r, err := pcapgo.NewNgReader(file, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for {
		if _, _, err := r.ReadPacketData(); errors.Is(err, io.EOF) {
			return n
		} else if err != nil {
			t.Fatal(err)
		}
		n++
	}
}

// What a container and its network say is captured where it is said: in the container's
// namespace, on the bridge; to files, and printed.
func TestCapture(t *testing.T) {
	s := newSite(t)
	s.lend(t, lentUntil("2001:db8:a000::/56", time.Hour, 2*time.Hour))
	container, addr := s.run(t, 1)
	_, other := s.run(t, 2)
	s.answers(t, addr.String())
	s.answers(t, other.String())
	dir := t.TempDir()
	inside, bridge := filepath.Join(dir, "inside.pcapng"), filepath.Join(dir, "bridge.pcapng")

	toFile := s.capturing(t, number("e", 1)+" -w "+inside+" tcp port 80")
	onBridge := s.capturing(t, "network:"+number("a", 1)+" -w "+bridge+" icmp6 or host "+other.String())
	printed := s.capturing(t, number("e", 1)+" -c 2 tcp dst port 80")
	if toFile.said("on eth0, container ", "on network") != 1 || onBridge.said("bridge of network") != 1 {
		t.Errorf("they say %q and %q", toFile.log, onBridge.log)
	}
	for range 3 {
		s.answers(t, addr.String())
		s.answers(t, other.String()) // another container: none of these is ours
		_ = s.up.Command(t.Context(), "ping", "-c", "1", "-W", "1", "-s", "1000", addr.String()).Run()
	}
	if err := printed.wait(); err != nil || printed.said("2 packets captured, 0 dropped") != 1 || printed.said(":80  TCP [S]") == 0 || printed.said(number("e", 1)[:12]+":80") != 2 {
		t.Errorf("printed: %v\n%s", err, strings.Join(printed.log, "\n"))
	}
	for _, p := range []*program{toFile, onBridge} {
		p.signal(syscall.SIGINT)
		if err := p.wait(); err != nil || p.said(" packets captured, 0 dropped by the kernel") != 1 {
			t.Errorf("at its end: %v, says %q", err, p.log)
		}
	}
	if n := packets(t, inside); n < 9 {
		t.Errorf("%d packets of three connections", n)
	}
	if n := packets(t, bridge); n < 6 {
		t.Errorf("%d packets on the bridge, want three pings and their answers at least", n)
	}
	// Wireshark's own reader finds names, links and comments, and nothing malformed.
	tshark := func(path string, args ...string) string {
		out, err := exec.Command("tshark", append([]string{"-r", path}, args...)...).Output()
		if err != nil {
			t.Fatalf("tshark %v: %v", args, err)
		}
		return string(out)
	}
	fields := tshark(inside, "-T", "fields", "-e", "frame.interface_name", "-e", "frame.interface_description", "-e", "tcp.port", "-e", "frame.comment")
	for line := range strings.Lines(fields) {
		if !strings.HasPrefix(line, "eth0\tcontainer "+number("e", 1)[:12]+" on network "+number("a", 1)[:12]+"\t") || !strings.Contains(line, "80") || !strings.Contains(line, number("e", 1)[:12]) {
			t.Errorf("tshark reads %q", line)
		}
	}
	if bad := tshark(inside, "-Y", "_ws.malformed"); bad != "" {
		t.Errorf("malformed: %s", bad)
	}
	if names := tshark(inside, "-N", "n", "-T", "fields", "-e", "ipv6.dst_host"); !strings.Contains(names, number("e", 1)[:12]) {
		t.Errorf("tshark resolves no container's name: %s", names)
	}
	if out := tshark(bridge, "-Y", "ipv6.addr == "+addr.String()+" && icmpv6.type == 128 && frame.len > 1000"); strings.Count(out, "\n") < 3 {
		t.Errorf("on the bridge tshark finds %q", out)
	}
	// To a pipe, for a program that shows it live; a snapped packet knows how long it was.
	self := testnet.Self(t)
	pipe := self.Command(t.Context(), "sh", "-c", `"$0" | tshark -r - -c 1 -T fields -e frame.len -e frame.cap_len`, os.Args[0])
	pipe.Env = append(os.Environ(), argsEnv+"=capture --socket "+s.socket+" "+number("e", 1)+" -s 64 -c 1 -w - icmp6 and dst host "+addr.String())
	var got, said strings.Builder
	pipe.Stdout, pipe.Stderr = &got, &said
	if err := pipe.Start(); err != nil {
		t.Fatal(err)
	}
	piped := make(chan error, 1)
	go func() { piped <- pipe.Wait() }()
	testnet.Eventually(t, time.Minute, "the pipe has a packet", func() bool {
		_ = s.up.Command(t.Context(), "ping", "-c", "1", "-W", "1", "-s", "1000", addr.String()).Run()
		select {
		case err := <-piped:
			if err != nil {
				t.Errorf("the pipe: %v", err)
			}
			return true
		default:
			return false
		}
	})
	if strings.TrimSpace(got.String()) != "1062\t64" {
		t.Errorf("by the pipe %q, want a packet of 1062 bytes of which 64 are there\n%s", got.String(), said.String())
	}
	if leak := container.Run(t, "ss", "-0", "-a", "-H"); leak != "" {
		t.Errorf("packet sockets are left in the container: %s", leak)
	}
	// What cannot be captured is said, with a status of its own.
	for args, want := range map[string]struct {
		status int
		says   string
	}{
		"nobody":                        {exitNotFound, `no network and no container of v6net's is called "nobody"`},
		number("e", 1) + " port http":   {exitUsage, `filter: port "http"`},
		number("e", 1) + " host nobody": {exitUsage, "neither an address nor the name of a container"},
	} {
		p := startProgram(t, self, "capture --socket "+s.socket+" "+args)
		var status *exec.ExitError
		if err := p.wait(); !errors.As(err, &status) || status.ExitCode() != want.status || p.said(want.says) != 1 {
			t.Errorf("%s: %v, says %q, want status %d and %q", args, err, p.log, want.status, want.says)
		}
	}
}
