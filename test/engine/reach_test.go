//go:build engine

package engine_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/testnet"
)

const (
	// fetchTimeout is long for a packet that was lost.
	fetchTimeout = 3 * time.Second
	// longest is for what must come about, on a machine that runs several engines.
	longest = time.Minute
	// silence is how long a test waits for an answer that is not to come.
	silence = time.Second
)

// fetch gets http://ADDRESS/ as seen from a host, in one new connection.
func fetch(ctx context.Context, from *testnet.Host, address string) (string, error) {
	client := &http.Client{Transport: &http.Transport{DialContext: from.DialContext, DisableKeepAlives: true}}
	body, err := get(ctx, client, "http://"+address+"/")
	if err != nil {
		return "", fmt.Errorf("fetch from %s: %w", from.Name(), err)
	}
	return body, nil
}

func get(ctx context.Context, client *http.Client, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	answer, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	return string(body), err
}

// mustFetch fetches, and tries again while the server in the container starts.
func mustFetch(t *testing.T, from *testnet.Host, address string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	defer cancel()
	for {
		once, done := context.WithTimeout(ctx, fetchTimeout)
		body, err := fetch(once, from, address)
		done()
		if err == nil {
			return body
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// mustNotFetch checks that nobody answers at any of the addresses.
func mustNotFetch(t *testing.T, from *testnet.Host, addresses ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), silence)
	defer cancel()
	mustAllFail(t, from.Name(), addresses, func(address string) error {
		_, err := fetch(ctx, from, address)
		return err
	})
}

// fetchIn fetches from inside a container, again if the server is not up yet.
func (l *lab) fetchIn(t *testing.T, container, address string) (string, error) {
	t.Helper()
	seconds := fmt.Sprint(fetchTimeout.Seconds())
	return l.try(t, container, "curl", "-sS", "--globoff", "--max-time", seconds, "--retry", "3", "--retry-connrefused", "http://"+address+"/")
}

// mustNotFetchIn checks from inside a container that nobody answers.
func (l *lab) mustNotFetchIn(t *testing.T, container string, addresses ...string) {
	t.Helper()
	enter := l.enter(t, container)
	mustAllFail(t, container, addresses, func(address string) error {
		curl := []string{"curl", "-s", "--globoff", "--max-time", fmt.Sprint(silence.Seconds()), "http://" + address + "/"}
		return l.host.Command(t.Context(), append(slices.Clone(enter), curl...)...).Run()
	})
}

// mustAllFail tries all addresses at the same time.
func mustAllFail(t *testing.T, from string, addresses []string, try func(address string) error) {
	t.Helper()
	errs := make([]error, len(addresses))
	var waiting sync.WaitGroup
	for i, address := range addresses {
		waiting.Go(func() { errs[i] = try(address) })
	}
	waiting.Wait()
	for i, err := range errs {
		if err == nil {
			t.Errorf("%s is answered at %s, want silence", from, addresses[i])
		}
	}
}

// bracket is an IPv6 address as it stands in a URL.
func bracket(address string) string { return "[" + address + "]" }

// resolve asks on the shared link, as the router does, who has an address. It is
// the MAC that answers, or empty.
func (l *lab) resolve(t *testing.T, address string) string {
	t.Helper()
	l.up.Run(t, "ip", "-6", "neigh", "flush", "to", address, "dev", "lan0")
	ctx, cancel := context.WithTimeout(t.Context(), silence)
	defer cancel()
	_ = l.up.Command(ctx, "ping", "-q", "-c", "1", address).Run() // whoever answers need not answer this
	for fields := strings.Fields(l.up.Run(t, "ip", "-6", "neigh", "show", "to", address, "dev", "lan0")); len(fields) > 1; fields = fields[1:] {
		if fields[0] == "lladdr" {
			return fields[1]
		}
	}
	return ""
}

// serveClientAddress serves HTTP on port 80 of a host until the end of the
// test. The answer is the address from which the client was seen to come.
func serveClientAddress(t *testing.T, h *testnet.Host) {
	t.Helper()
	var listener net.Listener
	var err error
	h.Do(t, func() { listener, err = net.Listen("tcp", ":80") })
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{
		ReadHeaderTimeout: fetchTimeout,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			address, _, _ := net.SplitHostPort(r.RemoteAddr)
			_, _ = io.WriteString(w, address) // the client sees what is missing
		}),
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener) // ends when it is closed
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-ended
	})
}
