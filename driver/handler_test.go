package driver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// request is a valid body for any method of either protocol.
const request = `{
	"NetworkID": "` + networkID + `", "EndpointID": "` + endpointID + `",
	"IPv6Data": [{"AddressSpace": "v6net-local", "Pool": "2001:db8:1::/64", "Gateway": "2001:db8:1::1/64"}],
	"PoolID": "v6", "Address": "2001:db8:1::2", "V6": true
}`

// failure reads the message out of an answer, from the field that the protocol has for it.
func failure(t *testing.T, method, answer string) string {
	t.Helper()
	var a struct{ Err, Error string }
	if err := json.Unmarshal([]byte(answer), &a); err != nil {
		t.Fatalf("%s answered %q, which is not JSON: %v", method, answer, err)
	}
	if strings.HasPrefix(method, "IpamDriver.") {
		a.Err, a.Error = a.Error, a.Err
	}
	if a.Error != "" {
		t.Errorf("%s answered %s: the other protocol's field for an error", method, answer)
	}
	return a.Err
}

// TestEngineErrors: what our engine says reaches the engine, with status 200.
func TestEngineErrors(t *testing.T) {
	const text = `option mode: "x" is not allowed (allowed: bridge)`
	methods := map[string]string{ // wire method: the engine's
		"NetworkDriver.CreateNetwork":               "CreateNetwork",
		"NetworkDriver.DeleteNetwork":               "DeleteNetwork",
		"NetworkDriver.CreateEndpoint":              "CreateEndpoint",
		"NetworkDriver.DeleteEndpoint":              "DeleteEndpoint",
		"NetworkDriver.EndpointOperInfo":            "Endpoint",
		"NetworkDriver.Join":                        "Join",
		"NetworkDriver.Leave":                       "Leave",
		"NetworkDriver.ProgramExternalConnectivity": "Publish",
		"NetworkDriver.RevokeExternalConnectivity":  "Unpublish",
		"IpamDriver.RequestPool":                    "RequestPool",
		"IpamDriver.ReleasePool":                    "ReleasePool",
		"IpamDriver.RequestAddress":                 "RequestAddress",
		"IpamDriver.ReleaseAddress":                 "ReleaseAddress",
	}
	for wire, method := range methods {
		t.Run(wire, func(t *testing.T) {
			engine := newFakeEngine()
			engine.fail = map[string]error{method: errors.New(text)}
			status, answer := post(t, New(engine, quiet()), wire, request)
			if got := failure(t, wire, answer); status != 200 || got != text {
				t.Errorf("status %d, error %q; want 200 and the engine's %q", status, got, text)
			}
		})
	}
}

// TestUnknownIsGone: what is not there has been removed; what is to be used must be there.
func TestUnknownIsGone(t *testing.T) {
	tests := []struct {
		wire, method string
		success      bool
	}{
		{"NetworkDriver.DeleteNetwork", "DeleteNetwork", true},
		{"NetworkDriver.DeleteEndpoint", "DeleteEndpoint", true},
		{"NetworkDriver.Leave", "Leave", true},
		{"NetworkDriver.RevokeExternalConnectivity", "Unpublish", true},
		{"IpamDriver.ReleasePool", "ReleasePool", true},
		{"IpamDriver.ReleaseAddress", "ReleaseAddress", true},
		{"NetworkDriver.CreateEndpoint", "CreateEndpoint", false},
		{"NetworkDriver.EndpointOperInfo", "Endpoint", false},
		{"NetworkDriver.Join", "Join", false},
		{"NetworkDriver.ProgramExternalConnectivity", "Publish", false},
		{"IpamDriver.RequestAddress", "RequestAddress", false},
	}
	for _, tt := range tests {
		t.Run(tt.wire, func(t *testing.T) {
			engine := newFakeEngine()
			engine.fail = map[string]error{tt.method: fmt.Errorf("network 7f9b1f2c3d4e: %w", spec.ErrNotFound)}
			_, answer := post(t, New(engine, quiet()), tt.wire, request)
			if got := failure(t, tt.wire, answer); (got == "") != tt.success {
				t.Errorf("answered %s, want success: %v", answer, tt.success)
			}
		})
	}
}

// TestBadRequests: each is refused in words that say what is wrong, before the engine hears of it.
func TestBadRequests(t *testing.T) {
	with := func(more string) string {
		return strings.TrimSuffix(strings.TrimSpace(request), "}") + "," + more + "}"
	}
	generic := func(options string) string { return with(`"Options": {"com.docker.network.generic": ` + options + `}`) }
	portmap := func(ports string) string { return with(`"Options": {"com.docker.network.portmap": ` + ports + `}`) }
	tests := []struct {
		name, method, body, want string
	}{
		{"a call sent again without its body", "NetworkDriver.CreateNetwork", "", "has no body"},
		{"not JSON", "NetworkDriver.Join", "{", "malformed request"},
		{"two values", "NetworkDriver.Leave", request + "{}", "more than one JSON value"},
		{"a field of the wrong type", "IpamDriver.RequestPool", `{"Pool": 7}`, "malformed request"},
		{"no network ID", "NetworkDriver.DeleteNetwork", `{}`, "network ID"},
		{"null", "NetworkDriver.Leave", `null`, "network ID"},
		{"an ID too short for an interface's name", "NetworkDriver.CreateNetwork", `{"NetworkID": "abc"}`, "has 3 characters"},
		{"an ID that is a path", "NetworkDriver.Join", `{"NetworkID": "` + networkID + `", "EndpointID": "../../../etc/passwd"}`, "endpoint ID"},
		{"no IPv6", "NetworkDriver.CreateNetwork", `{"NetworkID": "` + networkID + `"}`, "--ipv6"},
		{"an unknown option", "NetworkDriver.CreateNetwork", generic(`{"colour": "red"}`), `unknown option "colour"`},
		{"an unknown option, before a pool is taken", "NetworkDriver.GwAllocCheck", generic(`{"colour": "red"}`), `unknown option "colour"`},
		{"a bad value", "NetworkDriver.CreateNetwork", generic(`{"com.docker.network.driver.mtu": 576}`), `"576" is not allowed`},
		{"an option that is a list", "NetworkDriver.CreateNetwork", generic(`{"mode": ["bridge"]}`), "option mode"},
		{"options that are no object", "NetworkDriver.CreateNetwork", generic(`"x"`), "not an object"},
		{"internal that is no boolean", "NetworkDriver.CreateNetwork", with(`"Options": {"com.docker.network.internal": "perhaps"}`), "not a boolean"},
		{"IPv4 among the IPv6 pools", "NetworkDriver.CreateNetwork", `{"NetworkID": "` + networkID + `", "IPv6Data": [{"Pool": "10.0.0.0/8"}]}`, "IPv6 pool: 10.0.0.0/8 is of the other"},
		{"a gateway elsewhere", "NetworkDriver.CreateNetwork", `{"NetworkID": "` + networkID + `", "IPv6Data": [{"Pool": "2001:db8:1::/64", "Gateway": "2001:db8:2::1/64"}]}`, "outside"},
		{"a gateway that is none", "NetworkDriver.CreateNetwork", `{"NetworkID": "` + networkID + `", "IPv6Data": [{"Pool": "2001:db8:1::/64", "Gateway": "router"}]}`, `gateway of pool 2001:db8:1::/64: "router"`},
		{"--ipam-driver null", "NetworkDriver.CreateNetwork", `{"NetworkID": "` + networkID + `", "IPv4Data": [{"Pool": "0.0.0.0/0"}]}`, "--ipam-driver"},
		{"an endpoint's option of the user's", "NetworkDriver.CreateEndpoint", with(`"Options": {"colour": "red"}`), `unknown endpoint option "colour"`},
		{"an address of the other family", "NetworkDriver.CreateEndpoint", with(`"Interface": {"Address": "2001:db8::1/64"}`), "other address family"},
		{"an address without a length", "NetworkDriver.CreateEndpoint", with(`"Interface": {"AddressIPv6": "2001:db8::1"}`), "prefix length"},
		{"a MAC that is too long", "NetworkDriver.CreateEndpoint", with(`"Interface": {"MacAddress": "00:00:5e:00:53:00:00:01"}`), "not an Ethernet address"},
		{"a MAC option that is not base64", "NetworkDriver.CreateEndpoint", with(`"Options": {"com.docker.network.endpoint.macaddress": "02:42"}`), "macaddress"},
		{"a sandbox key without end", "NetworkDriver.Join", with(`"SandboxKey": "` + strings.Repeat("x", 5000) + `"`), "5000 characters"},
		{"a protocol without ports", "NetworkDriver.ProgramExternalConnectivity", portmap(`[{"Proto": 58, "Port": 1}]`), "protocol 58"},
		{"port 0", "NetworkDriver.ProgramExternalConnectivity", portmap(`[{"Proto": 6}]`), "no such port"},
		{"a port too high", "NetworkDriver.ProgramExternalConnectivity", portmap(`[{"Proto": 6, "Port": 65536}]`), "portmap"},
		{"a range backwards", "NetworkDriver.ProgramExternalConnectivity", portmap(`[{"Proto": 6, "Port": 80, "HostPort": 90, "HostPortEnd": 80}]`), "90-80"},
		{"a host address that is none", "NetworkDriver.ProgramExternalConnectivity", portmap(`[{"Proto": 6, "Port": 80, "HostIP": "host"}]`), "portmap"},
		{"a host address with a zone", "NetworkDriver.ProgramExternalConnectivity", portmap(`[{"Proto": 6, "Port": 80, "HostIP": "fe80::1%eth0"}]`), "zone"},
		{"ports that are no list", "NetworkDriver.ProgramExternalConnectivity", portmap(`{}`), "portmap"},
		{"a swarm's network", "NetworkDriver.AllocateNetwork", request, "swarm"},
		{"a swarm's network", "NetworkDriver.FreeNetwork", request, "swarm"},
		{"an unknown IPAM option", "IpamDriver.RequestPool", `{"V6": true, "Options": {"colour": "red"}}`, `unknown option "colour"`},
		{"a subnet that is none", "IpamDriver.RequestPool", `{"V6": true, "Pool": "here"}`, "not a prefix"},
		{"any IPv4 subnet for IPv6", "IpamDriver.RequestPool", `{"V6": true, "Pool": "0.0.0.0/0"}`, "other address family"},
		{"a size for IPv4", "IpamDriver.RequestPool", `{"Pool": "0.0.0.0/24"}`, "size of an IPv4 pool"},
		{"a size that cannot work", "IpamDriver.RequestPool", `{"V6": true, "Pool": "::/48"}`, "prefix_length"},
		{"two sizes", "IpamDriver.RequestPool", `{"V6": true, "Pool": "::/80", "Options": {"prefix_length": "96"}}`, "prefix_length=96"},
		{"a subnet and where to find one", "IpamDriver.RequestPool", `{"V6": true, "Pool": "2001:db8:1::/64", "Options": {"source": "ula"}}`, "--subnet 2001:db8:1::/64"},
		{"an address that is none", "IpamDriver.RequestAddress", `{"PoolID": "v6", "Address": "here"}`, "not an IP address"},
		{"an address with a zone", "IpamDriver.ReleaseAddress", `{"PoolID": "v6", "Address": "fe80::1%eth0"}`, "not an IP address"},
		{"a body without end", "NetworkDriver.Leave", `"` + strings.Repeat("x", maxBody) + `"`, "too large"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			engine := newFakeEngine()
			status, answer := post(t, New(engine, quiet()), tt.method, tt.body)
			got := failure(t, tt.method, answer)
			if status != 200 || !strings.Contains(got, tt.want) {
				t.Errorf("status %d, error %q; want 200 and an error about %q", status, got, tt.want)
			}
			if calls := engine.taken(); len(calls) != 0 {
				t.Errorf("the engine was called: %v", calls)
			}
		})
	}
}

// TestNoGateway: an internal network gets no default route, neither ours nor that of docker_gwbridge.
func TestNoGateway(t *testing.T) {
	engine := newFakeEngine()
	engine.attachment = spec.Attachment{Interface: "v6nx0a1b2c3d4e5", Prefix: "eth"}
	_, answer := post(t, New(engine, quiet()), "NetworkDriver.Join", request)
	want := `{"InterfaceName":{"SrcName":"v6nx0a1b2c3d4e5","DstPrefix":"eth"},"Gateway":"","GatewayIPv6":"","DisableGatewayService":true}`
	if answer != want {
		t.Errorf("Join answered\n%s, want\n%s", answer, want)
	}
}

// TestInterfaceNameAsked: an engine that hands the asked name to Join finds it in the answer.
func TestInterfaceNameAsked(t *testing.T) {
	body := strings.TrimSuffix(strings.TrimSpace(request), "}") + `, "Options": {"com.docker.network.endpoint.ifname": "lan0"}}`
	_, answer := post(t, New(newFakeEngine(), quiet()), "NetworkDriver.Join", body)
	if !strings.Contains(answer, `"DstName":"lan0"`) {
		t.Errorf("Join answered %s, want DstName lan0", answer)
	}
}

// TestMACOnlyAsOption: a MAC that came only among the options is answered, for its field came empty.
func TestMACOnlyAsOption(t *testing.T) {
	body := strings.TrimSuffix(strings.TrimSpace(request), "}") + `, "Interface": {"AddressIPv6": "2001:db8:1::9/64"},
		"Options": {"com.docker.network.endpoint.macaddress": "AkKsHgCZ"}}`
	_, answer := post(t, New(newFakeEngine(), quiet()), "NetworkDriver.CreateEndpoint", body)
	want := `{"Interface":{"Address":"172.30.0.2/16","AddressIPv6":"","MacAddress":"02:42:ac:1e:00:99"}}`
	if answer != want {
		t.Errorf("CreateEndpoint answered\n%s, want\n%s", answer, want)
	}
}

// TestPanic: a panic is an error of its call, and the next call works.
func TestPanic(t *testing.T) {
	engine := newFakeEngine()
	engine.hook = func(context.Context, string) error { panic("boom") }
	h := New(engine, quiet())
	for _, method := range []string{"NetworkDriver.Leave", "IpamDriver.ReleasePool"} {
		status, answer := post(t, h, method, request)
		if got := failure(t, method, answer); status != 200 || !strings.Contains(got, "internal error") {
			t.Errorf("%s: status %d, error %q; want 200 and an internal error", method, status, got)
		}
	}
	engine.hook = nil
	if _, answer := post(t, h, "NetworkDriver.Leave", request); answer != "{}" {
		t.Errorf("the call after a panic was answered %s, want {}", answer)
	}
}

// TestDeadline: a call ends before the engine would send it again.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := newFakeEngine()
		engine.hook = func(ctx context.Context, _ string) error {
			<-ctx.Done()
			return fmt.Errorf("probe 2001:db8:1::2: %w", ctx.Err())
		}
		start := time.Now()
		_, answer := post(t, New(engine, quiet()), "NetworkDriver.Join", request)
		if took := time.Since(start); took != callTimeout {
			t.Errorf("the call took %s, want %s", took, callTimeout)
		}
		want := "given up after 20s: probe 2001:db8:1::2: context deadline exceeded"
		if got := failure(t, "NetworkDriver.Join", answer); got != want {
			t.Errorf("error %q, want %q", got, want)
		}
	})
}

// TestNoCalls: what is no call at all is refused with a status, in JSON.
func TestNoCalls(t *testing.T) {
	tests := []struct {
		method, path string
		status       int
	}{
		{"POST", "/", 404},
		{"POST", "/NetworkDriver.Tomorrow", 404},
		{"POST", "//NetworkDriver.Join", 404},
		{"POST", "/NetworkDriver.Join/", 404},
		{"GET", "/NetworkDriver.Join", 405},
		{"GET", "/Plugin.Activate", 405},
	}
	for _, tt := range tests {
		w := httptest.NewRecorder()
		New(newFakeEngine(), quiet()).ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, nil))
		if got := failure(t, tt.path, w.Body.String()); w.Code != tt.status || got == "" {
			t.Errorf("%s %s: status %d, error %q; want %d and an error", tt.method, tt.path, w.Code, got, tt.status)
		}
	}
}
