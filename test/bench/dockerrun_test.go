//go:build bench

package bench_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-connections/nat"

	"github.com/v6net/v6net/internal/testengine"
	"github.com/v6net/v6net/internal/testnet"
)

const (
	pluginName = "v6net:latest"

	containers = 20 // counted, on each network
	warmUp     = 3  // not counted before them

	replyTimeout = 10 * time.Second
	// dialTimeout is long for an answer here and short for a lost packet, which
	// TCP itself would send again after a second only.
	dialTimeout = 20 * time.Millisecond
)

// contestant is a network whose containers are timed.
type contestant struct {
	name  string
	reply sample // from the call that creates the container to an answer outside
	start sample // to the return of the call that starts it
}

// street is the engine's host and a machine outside, on one link.
type street struct {
	outside *testnet.Host
	engine  *testengine.Engine
	image   string
}

// measureDockerRun times `docker run` until a machine outside has an answer of
// the container at its global address: on Docker's own bridge and on v6net's,
// each with a /64 that is routed to the host, and on v6net's with a part of the
// link's own prefix and the NDP proxy. They take turns.
func measureDockerRun(t *testing.T, r *report) {
	s := newStreet(t)
	version, err := s.engine.Client().ServerVersion(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.Engine = version.Version
	bridge, routed, onLink := &contestant{name: "bridge6"}, &contestant{name: "routed"}, &contestant{name: "onlink"}
	v6net := []string{"-d", pluginName, "--ipam-driver", pluginName}
	s.makeNetwork(t, bridge, "2001:db8:b::/64")
	s.makeNetwork(t, routed, "2001:db8:a::/64", v6net...)
	s.makeNetwork(t, onLink, "", v6net...)

	for turn := range warmUp + containers {
		for _, c := range []*contestant{bridge, routed, onLink} {
			start, reply := s.run(t, c.name)
			if turn >= warmUp {
				c.start, c.reply = append(c.start, start), append(c.reply, reply)
			}
		}
	}
	for _, c := range []struct {
		*contestant
		what string
	}{{routed, "routed /64"}, {onLink, "on-link, NDP proxy"}} {
		for _, m := range []struct {
			what            string
			value, besideIt float64
			wanted          *goal
		}{
			{"docker run to first reply, median", c.reply.median(), bridge.reply.median(), ratioBelow(1)},
			{"docker run to first reply, p90", c.reply.quantile(0.9), bridge.reply.quantile(0.9), nil},
			{"docker run, median", c.start.median(), bridge.start.median(), nil},
		} {
			r.add(row{
				What: m.what + ", " + c.what, Value: m.value, Unit: "ms",
				Peer: "Docker's bridge driver, routed /64", Beside: m.besideIt, Wanted: m.wanted,
			})
		}
	}
}

// newStreet starts an engine with the plugin. Its data, and so the journals of
// both drivers, are on the disk.
func newStreet(t *testing.T) *street {
	t.Helper()
	host, outside := testnet.Self(t), testnet.New(t, "outside")
	testnet.Connect(t, host, "eth0", outside, "lan0")
	host.AddAddress(t, "2001:db8:1::2/64", "eth0")
	host.AddAddress(t, "198.51.100.2/24", "eth0")
	outside.AddAddress(t, "2001:db8:1::1/64", "lan0")
	outside.AddAddress(t, "198.51.100.1/24", "lan0")
	host.Run(t, "ip", "route", "add", "default", "via", "2001:db8:1::1")
	host.Run(t, "ip", "route", "add", "default", "via", "198.51.100.1")

	data := filepath.Join(diskDir(t), "docker")
	// Docker's driver keeps IPv6 closed but for published ports, as v6net does,
	// only with ip6tables, which 20.10 calls experimental.
	engine := testengine.Start(t, testengine.Options{Args: []string{"--data-root=" + data, "--experimental", "--ip6tables"}})
	s := &street{outside: outside, engine: engine, image: engine.Image(t)}
	engine.InstallPlugin(t, built(t, "build/plugin"), pluginName)
	return s
}

// makeNetwork makes a contestant's network until the end of the test. The
// machine outside routes its subnet, if it has one of its own, to the host.
func (s *street) makeNetwork(t *testing.T, c *contestant, subnet string, args ...string) {
	t.Helper()
	create := append([]string{"network", "create", "--ipv6"}, args...)
	if subnet != "" {
		create = append(create, "--subnet", subnet)
		s.outside.Run(t, "ip", "route", "add", subnet, "via", "2001:db8:1::2")
	}
	s.engine.CLI(t, append(create, c.name)...)
	t.Cleanup(func() {
		if _, err := s.engine.Try(context.Background(), "network", "rm", c.name); err != nil { // t.Context has ended
			t.Error(err)
		}
	})
}

// run times one container and removes it.
func (s *street) run(t *testing.T, network string) (start, reply time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	began := time.Now()
	made, err := s.engine.Client().ContainerCreate(ctx,
		&container.Config{Image: s.image, ExposedPorts: nat.PortSet{"80/tcp": {}}},
		&container.HostConfig{
			NetworkMode:  container.NetworkMode(network),
			PortBindings: nat.PortMap{"80/tcp": {{HostPort: "8080"}}},
		}, nil, nil, "")
	if err != nil {
		t.Fatalf("create container on %s: %v", network, err)
	}
	defer func() {
		if err := s.engine.Client().ContainerRemove(ctx, made.ID, container.RemoveOptions{Force: true}); err != nil {
			t.Fatalf("remove container of %s: %v", network, err)
		}
	}()
	if err := s.engine.Client().ContainerStart(ctx, made.ID, container.StartOptions{}); err != nil {
		t.Fatalf("start container on %s: %v", network, err)
	}
	start = time.Since(began)
	info, err := s.engine.Client().ContainerInspect(ctx, made.ID)
	if err != nil {
		t.Fatalf("inspect container on %s: %v", network, err)
	}
	if err := s.awaitReply(ctx, info.NetworkSettings.Networks[network].GlobalIPv6Address); err != nil {
		t.Fatalf("container on %s: %v", network, err)
	}
	return start, time.Since(began)
}

// awaitReply fetches a page of the address from outside until it comes.
func (s *street) awaitReply(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, replyTimeout)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			return s.outside.DialContext(ctx, network, address)
		},
	}}
	for {
		err := fetch(ctx, client, "http://"+net.JoinHostPort(address, "80")+"/")
		if err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

func fetch(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, answer.Status)
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}
