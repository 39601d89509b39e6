package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/v6net/v6net/internal/control"
	"github.com/v6net/v6net/internal/event"
	"github.com/v6net/v6net/internal/spec"
)

// fakeEngine answers with itself.
type fakeEngine spec.Status

func (e fakeEngine) Status(context.Context) spec.Status { return spec.Status(e) }

// Describe knows one address.
func (e fakeEngine) Describe(events []spec.Event) {
	for i := range events {
		if events[i].Address == netip.MustParseAddr("2001:db8::5") {
			events[i].Container = "web"
		}
	}
}

func (e fakeEngine) DeleteNetwork(_ context.Context, id string) error {
	if id == "busy" {
		return errors.New("link v6n: device or resource busy")
	}
	for _, n := range e.Networks {
		if n.ID == id {
			return nil
		}
	}
	return fmt.Errorf("network %s: %w", id, spec.ErrNotFound)
}

func (e fakeEngine) MakeNetwork(_ context.Context, r spec.NetworkRequest) (spec.Network, error) {
	if r.Name == "taken" {
		return spec.Network{}, errors.New("subnet 2001:db8::/64 overlaps network aa")
	}
	return spec.Network{ID: r.ID, Name: r.Name, Options: r.Options, IPv6: []spec.Subnet{{Prefix: r.IPv6[0].Pool.Prefix}}}, nil
}

func (e fakeEngine) Attach(_ context.Context, r spec.AttachRequest) (spec.Attached, error) {
	return spec.Attached{
		Endpoint:   spec.Endpoint{ID: r.ID, Wanted: r.Ports, IPv6: netip.PrefixFrom(r.Addresses[0], 64)},
		Attachment: spec.Attachment{Interface: spec.SandboxName(r.ID), Gateway6: spec.LinkLocalGateway(r.Network.ID).Addr()},
	}, nil
}

func (e fakeEngine) Detach(_ context.Context, network, id string) error {
	for _, n := range e.Networks {
		for _, ep := range n.Endpoints {
			if n.ID == network && ep.ID == id {
				return nil
			}
		}
	}
	return fmt.Errorf("endpoint %s: %w", id, spec.ErrNotFound)
}

func (e fakeEngine) Explain(_ context.Context, c spec.Call) (spec.Judgement, error) {
	if err := c.Validate(); err != nil {
		return spec.Judgement{}, err
	}
	return spec.Judgement{Verdict: spec.Dropped, Why: "because", Steps: []string{c.From.String()}}, nil
}

func (e fakeEngine) ForgetPool(_ context.Context, id string) error {
	for _, p := range e.Pools {
		if p.ID == id {
			return nil
		}
	}
	return fmt.Errorf("pool %s: %w", id, spec.ErrNotFound)
}

// serve answers on the socket until stop is called, which waits for the end.
func serve(t *testing.T, l net.Listener, status spec.Status) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- control.Serve(ctx, l, fakeEngine(status), &event.Hub{}, slog.New(slog.DiscardHandler)) }()
	return func() {
		t.Helper()
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Serve = %v", err)
			}
		case <-time.After(time.Minute):
			t.Error("Serve goes on after its context ended")
		}
	}
}

func listen(t *testing.T, path string) net.Listener {
	t.Helper()
	l, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestStatusRoundTrip(t *testing.T) {
	want := spec.Status{
		Version: "1.2.3",
		Networks: []spec.NetworkStatus{{
			Network: spec.Network{ID: strings.Repeat("a", 64), Phase: spec.PhaseReady, Options: spec.DefaultOptions(),
				IPv6: []spec.Subnet{{Prefix: netip.MustParsePrefix("2001:db8:1::/80"), Gateway: netip.MustParseAddr("2001:db8:1::1"), OnLink: true, Parent: "eth0"}}},
			Bridge: "v6naaaaaaaaaaaa",
			Error:  "parent eth0: no such link",
			Endpoints: []spec.Endpoint{{ID: strings.Repeat("e", 64), Phase: spec.PhaseReady, MAC: "02:00:5e:10:00:01",
				IPv6: netip.MustParsePrefix("2001:db8:1::2/80"), Ports: []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 8080}}}},
		}},
		Pools:   []spec.PoolStatus{{Pool: spec.Pool{ID: "2001:db8:1::/80", Prefix: netip.MustParsePrefix("2001:db8:1::/80")}, Leases: 2, Used: true}},
		Proxies: []spec.ProxyStatus{{Parent: "eth0", Path: "packet", Addresses: []netip.Addr{netip.MustParseAddr("2001:db8:1::2")}, Counters: map[string]uint64{"answered": 7}}},
		Sysctls: []spec.SysctlStatus{{Key: "net/ipv6/conf/all/forwarding", Original: "0"}},
	}
	path := filepath.Join(t.TempDir(), "run", "v6net.sock")
	stop := serve(t, listen(t, path), want)
	got, err := control.NewClient(path).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	stop()
	if _, err := control.NewClient(path).Status(t.Context()); err == nil {
		t.Error("somebody answers after the daemon has stopped")
	}
}

func TestForgetPool(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v6net.sock")
	stop := serve(t, listen(t, path), spec.Status{Pools: []spec.PoolStatus{{Pool: spec.Pool{ID: "2001:db8::/64"}}}})
	defer stop()
	client := control.NewClient(path)
	if err := client.ForgetPool(t.Context(), "2001:db8::/64"); err != nil {
		t.Error(err)
	}
	if err := client.ForgetPool(t.Context(), "2001:db8:1::/64"); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("an unknown pool: %v", err)
	}
}

// A program that reads the status finds lists, also where there is nothing.
func TestStatusHasNoNull(t *testing.T) {
	const empty = `{"version":"1.2.3","networks":[],"pools":[],"proxies":[],"sysctls":[]}`
	for name, c := range map[string]struct {
		status spec.Status
		want   []string
	}{
		"nothing": {spec.Status{Version: "1.2.3"}, []string{empty}},
		"no endpoints, nothing proxied or counted": {spec.Status{
			Networks: []spec.NetworkStatus{{Network: spec.Network{ID: "here"}, RA: &spec.AdvertiserStatus{}}},
			Proxies:  []spec.ProxyStatus{{Parent: "eth0"}},
			Parents:  []spec.AdvertiserStatus{{}},
		}, []string{`"endpoints":[]`, `"addresses":[]`, `"counters":{}`, `"id":"here"`, `"parent":"eth0"`}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "v6net.sock")
			stop := serve(t, listen(t, path), c.status)
			defer stop()
			said := ask(t, path, "GET /v1/status HTTP/1.0\r\n\r\n")
			// What the client has got of it is printed by `v6net status --json`.
			got, err := control.NewClient(path).Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			printed, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			for _, text := range []string{said, string(printed)} {
				if strings.Contains(text, "null") {
					t.Errorf("null in %s", text)
				}
				for _, want := range c.want {
					if !strings.Contains(text, want) {
						t.Errorf("no %s in %s", want, text)
					}
				}
			}
		})
	}
}

// ask sends a request as it is and returns all that is answered.
func ask(t *testing.T, path, request string) string {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // the test is about what it reads
	if _, err := c.Write([]byte(request)); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

func TestDeleteNetwork(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v6net.sock")
	stop := serve(t, listen(t, path), spec.Status{Networks: []spec.NetworkStatus{{Network: spec.Network{ID: "here"}}}})
	defer stop()
	for id, want := range map[string]string{"here": "", "away": "network away: not found", "busy": "resource busy", "../status": "not found"} {
		err := control.NewClient(path).DeleteNetwork(t.Context(), id)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("network %s: %v, want %q", id, err, want)
		}
	}
}

func TestSocketIsRootsAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v6net.sock")
	stop := serve(t, listen(t, path), spec.Status{})
	defer stop()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("mode %v, want a socket that only its owner may use", info.Mode())
	}
}

// A daemon that was killed leaves its socket; the next one takes its place.
func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v6net.sock")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	if err := stale.Close(); err != nil {
		t.Fatal(err)
	}
	stop := serve(t, listen(t, path), spec.Status{Version: "next"})
	defer stop()
	if got, err := control.NewClient(path).Status(t.Context()); err != nil || got.Version != "next" {
		t.Errorf("status %+v, %v, want the next daemon's", got, err)
	}
}

func TestSecondDaemonIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v6net.sock")
	stop := serve(t, listen(t, path), spec.Status{Version: "first"})
	defer stop()
	if l, err := control.Listen(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Fatalf("Listen beside another daemon = %v, %v, want an error that names the socket", l, err)
	}
	if got, err := control.NewClient(path).Status(t.Context()); err != nil || got.Version != "first" {
		t.Errorf("status %+v, %v, want the first daemon's still", got, err)
	}
}

// The end does not wait for a client that sends nothing.
func TestEndsBesideIdleClient(t *testing.T) {
	t.Parallel() // it takes the server's whole patience
	path := filepath.Join(t.TempDir(), "v6net.sock")
	stop := serve(t, listen(t, path), spec.Status{})
	idle, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close() //nolint:errcheck // nothing is written to it
	// Connections are accepted in order: with this answer the idle one is in.
	if _, err := control.NewClient(path).Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop()
}

func TestUnknownPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v6net.sock")
	stop := serve(t, listen(t, path), spec.Status{})
	defer stop()
	if answer := ask(t, path, "POST /v1/status HTTP/1.0\r\n\r\n"); !strings.Contains(answer, "405") {
		t.Errorf("POST: %q, want 405", answer)
	}
}

// What a thin front end asks for arrives whole, and so does the answer.
func TestTasks(t *testing.T) {
	id, container := strings.Repeat("a", 64), strings.Repeat("e", 64)
	path := filepath.Join(t.TempDir(), "v6net.sock")
	stop := serve(t, listen(t, path), spec.Status{Networks: []spec.NetworkStatus{{Network: spec.Network{ID: id}, Endpoints: []spec.Endpoint{{ID: container}}}}})
	defer stop()
	client := control.NewClient(path)
	request := spec.NetworkRequest{ID: id, Name: "web", FrontEnd: "netavark", Options: spec.DefaultOptions(),
		IPv6: []spec.SubnetRequest{{Pool: spec.PoolRequest{V6: true, Prefix: netip.MustParsePrefix("2001:db8::/64"), Source: spec.SourceStatic}}}}
	n, err := client.MakeNetwork(t.Context(), request)
	want := spec.Network{ID: id, Name: "web", Options: spec.DefaultOptions(), IPv6: []spec.Subnet{{Prefix: netip.MustParsePrefix("2001:db8::/64")}}}
	if diff := cmp.Diff(want, n, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" || err != nil {
		t.Errorf("MakeNetwork: %v (-want +got):\n%s", err, diff)
	}
	a, err := client.Attach(t.Context(), spec.AttachRequest{Network: request, ID: container, Addresses: []netip.Addr{netip.MustParseAddr("2001:db8::7")},
		Ports: []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 8080}}})
	wantAttached := spec.Attached{
		Endpoint:   spec.Endpoint{ID: container, Wanted: []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 8080}}, IPv6: netip.MustParsePrefix("2001:db8::7/64")},
		Attachment: spec.Attachment{Interface: spec.SandboxName(container), Gateway6: netip.MustParseAddr("fe80::1:aaaa:aaaa:aaaa")},
	}
	if diff := cmp.Diff(wantAttached, a, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" || err != nil {
		t.Errorf("Attach: %v (-want +got):\n%s", err, diff)
	}
	if err := client.Detach(t.Context(), id, container); err != nil {
		t.Errorf("Detach: %v", err)
	}
	if err := client.Detach(t.Context(), container, id); !errors.Is(err, spec.ErrNotFound) {
		t.Errorf("Detach of an unknown endpoint: %v, want spec.ErrNotFound", err)
	}
	request.Name = "taken"
	if _, err := client.MakeNetwork(t.Context(), request); err == nil || err.Error() != "subnet 2001:db8::/64 overlaps network aa" {
		t.Errorf("a refusal: %v, want the engine's own words", err)
	}
}

// A daemon refuses what it does not understand of a request, and one without end.
func TestTasksAreBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v6net.sock")
	stop := serve(t, listen(t, path), spec.Status{})
	defer stop()
	client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", path) }}}
	for _, body := range []string{`{"id":"x","colour":"red"}`, `{"name":"` + strings.Repeat("x", 9<<20) + `"}`, `[]`, ``} {
		resp, err := client.Post("http://v6net/v1/networks", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%.40q is answered %s, want 400", body, resp.Status)
		}
	}
}

func TestExplain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v6net.sock")
	l, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer serve(t, l, spec.Status{})()
	c := control.NewClient(path)
	call, err := spec.ParseCall("2001:db8::1", "2001:db8::2", "80")
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Explain(t.Context(), call)
	if want := (spec.Judgement{Verdict: spec.Dropped, Why: "because", Steps: []string{"2001:db8::1"}}); err != nil || !cmp.Equal(got, want) {
		t.Errorf("Explain = %+v, %v, want %+v", got, err, want)
	}
	call.To = netip.MustParseAddr("192.0.2.1")
	if _, err := c.Explain(t.Context(), call); err == nil || !strings.Contains(err.Error(), "different families") {
		t.Errorf("error %v, want one about families", err)
	}
}

// Clients that dawdle keep nobody from being served, and are cut off: in the middle of a
// header after seconds.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	const many = 200
	path := filepath.Join(t.TempDir(), "v6net.sock")
	defer serve(t, listen(t, path), spec.Status{Version: "1"})()
	var slow []net.Conn
	for i := range many {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		half := "GET /v1/status HTTP/1.1\r\nHost: v6net\r\nX-"
		if i%2 == 0 {
			half = half[:i%len(half)]
		}
		if _, err := io.WriteString(c, half); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, c)
	}
	if status, err := control.NewClient(path).Status(t.Context()); err != nil || status.Version != "1" {
		t.Errorf("beside %d clients that dawdle: %+v, %v", many, status, err)
	}
	for i, c := range slow {
		if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("client %d is never cut off", i)
		}
	}
}
