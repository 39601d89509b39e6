package netavark_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/v6net/v6net/internal/netavark"
	"github.com/v6net/v6net/internal/spec"
)

var update = flag.Bool("update", false, "write what the plugin answers into testdata")

// peers are all that a plugin speaks to. They write down what they are asked.
type peers struct {
	asked bytes.Buffer
	fails string // the one that fails: daemon, attach, sandbox, names, detach, away
}

func (p *peers) note(what string, values ...any) error {
	fmt.Fprintf(&p.asked, "%s\n", what)
	for _, v := range values {
		text, err := json.MarshalIndent(withoutDefaults(v), "", "  ")
		if err != nil {
			panic(err) // they are plain values
		}
		fmt.Fprintf(&p.asked, "%s\n", text)
	}
	if verb, _, _ := strings.Cut(what, " "); verb == p.fails {
		return fmt.Errorf("%s fails", verb)
	}
	return nil
}

// withoutDefaults leaves out of a request what options are by default: new ones are
// none of these calls' business.
func withoutDefaults(request any) any {
	if attach, ok := request.(spec.AttachRequest); ok {
		return struct {
			spec.AttachRequest
			Network any `json:"network"`
		}{attach, withoutDefaults(attach.Network)}
	}
	network, ok := request.(spec.NetworkRequest)
	if !ok {
		return request
	}
	given, defaults := map[string]any{}, map[string]any{}
	for options, into := range map[*spec.Options]*map[string]any{&network.Options: &given, new(spec.DefaultOptions()): &defaults} {
		text, err := json.Marshal(options)
		if err == nil {
			err = json.Unmarshal(text, into)
		}
		if err != nil {
			panic(err)
		}
	}
	for key, value := range defaults {
		if reflect.DeepEqual(given[key], value) {
			delete(given, key)
		}
	}
	return struct {
		spec.NetworkRequest
		Options any `json:"options"`
	}{network, given}
}

// MakeNetwork chooses what a daemon on a host with 2001:db8:1::/64 might.
func (p *peers) MakeNetwork(_ context.Context, r spec.NetworkRequest) (spec.Network, error) {
	err := p.note("create", r)
	n := spec.Network{ID: r.ID, Name: r.Name, FrontEnd: r.FrontEnd, Options: r.Options, Internal: r.Internal}
	choose := func(asked []spec.SubnetRequest, found string) (subnets []spec.Subnet) {
		for _, a := range asked {
			s := spec.Subnet{Prefix: a.Pool.Prefix, Gateway: a.Gateway}
			if !s.Prefix.IsValid() {
				s.Prefix = netip.MustParsePrefix(found)
			}
			if !s.Gateway.IsValid() && !a.NoGateway {
				s.Gateway = s.Prefix.Addr().Next()
			}
			subnets = append(subnets, s)
		}
		return subnets
	}
	n.IPv6, n.IPv4 = choose(r.IPv6, "2001:db8:1:0:789a::/80"), choose(r.IPv4, "172.16.0.0/24")
	return n, err
}

func (p *peers) Attach(_ context.Context, r spec.AttachRequest) (spec.Attached, error) {
	err := p.note("attach", r)
	a := spec.Attached{
		Endpoint: spec.Endpoint{ID: r.ID, IPv6: netip.MustParsePrefix("2001:db8:1:0:789a::2/80"), IPv4: netip.MustParsePrefix("172.16.0.2/24"), Rank: 1},
		Attachment: spec.Attachment{
			Interface: spec.SandboxName(r.ID), Gateway6: spec.LinkLocalGateway(r.Network.ID).Addr(), Gateway4: netip.MustParseAddr("172.16.0.1"),
		},
		Servers: []netip.Addr{netip.MustParseAddr("2001:db8:1:0:789a::1"), netip.MustParseAddr("172.16.0.1")},
	}
	if r.Network.Options.L3() {
		a.Attachment = spec.Attachment{Interface: spec.SandboxName(r.ID), Routes: []netip.Prefix{netip.MustParsePrefix("::/0"), netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("192.0.2.1/32")}}
		a.Servers = nil
	}
	return a, err
}

func (p *peers) Detach(_ context.Context, networkID, endpointID string) error {
	if err := p.note("detach " + networkID + " " + endpointID); err != nil {
		return err
	}
	return fmt.Errorf("endpoint: %w", spec.ErrNotFound) // idempotent
}

func (p *peers) Furnish(_ context.Context, path string, l netavark.Link) (string, error) {
	return "02:00:5e:10:00:01", p.note("sandbox "+path, l)
}

func (p *peers) Check() error { return p.note("check") }

func (p *peers) Add(_ context.Context, n netavark.NamedNetwork, c netavark.NamedContainer) error {
	return p.note("names", n, c)
}

func (p *peers) Remove(_ context.Context, network, container string) error {
	return p.note("unname " + network + " " + container)
}

// Each file of testdata is one call: its arguments and what else is so in the
// comment, its standard input, and then what the peers are asked and what is answered.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 15 {
		t.Fatalf("%d files in testdata: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { testGolden(t, file) })
	}
}

func testGolden(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	script := txtar.Parse(text)
	parts := map[string]string{}
	for _, f := range script.Files {
		parts[f.Name] = string(f.Data)
	}
	p := &peers{}
	plugin := netavark.Plugin{Version: "1.2.3", Sandbox: p, Names: p, Daemon: func() (netavark.Daemon, error) {
		if p.fails == "away" {
			return nil, errors.New("no v6net daemon answers: start it")
		}
		return p, nil
	}}
	var args []string
	for line := range strings.Lines(string(script.Comment)) {
		switch words := strings.Fields(line); {
		case len(words) == 0 || words[0] == "#":
		case words[0] == "fails":
			p.fails = words[1]
		case words[0] == "rootless":
			plugin.Rootless = true
		default:
			args = words
		}
	}
	var out bytes.Buffer
	runErr := plugin.Run(t.Context(), args, strings.NewReader(parts["stdin"]), &out)
	if got, want := runErr != nil, strings.HasPrefix(out.String(), `{"error":`); got != want {
		t.Errorf("Run fails: %v (%v), and answers %s", got, runErr, out.String())
	}
	answer := indented(t, out.Bytes())
	if *update {
		script.Files = []txtar.File{{Name: "stdin", Data: []byte(parts["stdin"])}, {Name: "asked", Data: p.asked.Bytes()}, {Name: "stdout", Data: []byte(answer)}}
		if err := os.WriteFile(file, txtar.Format(script), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(parts["asked"], p.asked.String()); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(parts["stdout"], answer); diff != "" {
		t.Errorf("stdout (-want +got):\n%s", diff)
	}
}

func indented(t *testing.T, text []byte) string {
	t.Helper()
	if len(text) == 0 {
		return ""
	}
	var out bytes.Buffer
	if err := json.Indent(&out, text, "", "  "); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return out.String()
}

// Whatever options there are to come, all of them are named.
func TestUnknownOption(t *testing.T) {
	p := &peers{}
	plugin := netavark.Plugin{Daemon: func() (netavark.Daemon, error) { return p, nil }, Sandbox: p, Names: p}
	err := plugin.Run(t.Context(), []string{"create"}, strings.NewReader(`{"name":"web","id":"`+strings.Repeat("a", 64)+`","options":{"isolation":"yes"}}`), io.Discard)
	if err == nil || !strings.HasPrefix(err.Error(), `unknown option "isolation" (known: `) {
		t.Fatalf("create = %v", err)
	}
	for _, known := range []string{"mode", "inbound", "source", "allocation", "dns", "ipv4"} {
		if !strings.Contains(err.Error(), " "+known) {
			t.Errorf("%v does not name %s", err, known)
		}
	}
}

func TestInputIsBounded(t *testing.T) {
	p := &peers{}
	plugin := netavark.Plugin{Daemon: func() (netavark.Daemon, error) { return p, nil }, Sandbox: p, Names: p}
	err := plugin.Run(t.Context(), []string{"create"}, io.LimitReader(endless{}, 1<<30), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("a gigabyte of input: %v", err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}
