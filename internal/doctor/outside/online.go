package outside

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/v6net/v6net/internal/doctor"
)

// Online asks DNS, a registry, and what time it is there.
type Online struct {
	Registry string        // host, or host:port
	Resolver *net.Resolver // nil: the host's
}

// defaultPort is that of registries.
const defaultPort = "443"

// Gather adds what was said to f. A host without an IPv6 default route asks nobody,
// and f.Online says so.
func (o Online) Gather(ctx context.Context, f *doctor.Facts) {
	f.Online = &doctor.Online{Registry: o.Registry}
	host, port, err := net.SplitHostPort(o.Registry)
	if err != nil {
		host, port = o.Registry, defaultPort
	}
	// What is on the host itself, or on one of its links, needs no route out.
	if len(f.Defaults) == 0 && !isAddress(host) {
		f.Online.NoUplink = true
		return
	}
	f.Online.AAAA, f.Online.DNS = o.lookUp(ctx, host)
	if len(f.Online.AAAA) == 0 {
		return
	}
	address := net.JoinHostPort(f.Online.AAAA[0].String(), port)
	if f.Online.Connect = connect(ctx, address); f.Online.Connect == nil {
		f.Online.Date, f.Online.At = date(ctx, host, address)
	}
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// lookUp is a name's IPv6 addresses. That it has none is no error.
func (o Online) lookUp(ctx context.Context, host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	resolver := o.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	addrs, err := resolver.LookupNetIP(ctx, "ip6", host)
	if notFound := (*net.DNSError)(nil); errors.As(err, &notFound) && notFound.IsNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up the IPv6 address of %s: %w", host, err)
	}
	return addrs, nil
}

// connect tries a connection over IPv6, and nothing else.
func connect(ctx context.Context, address string) error {
	c, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp6", address)
	if err != nil {
		return fmt.Errorf("connect over IPv6: %w", err)
	}
	return c.Close()
}

// date is what a server says of the time, and this host's clock then; zero where it
// says nothing. Its certificate is not judged: it is the clock that is in question,
// by which that would be done, and nothing else of the answer is used.
func date(ctx context.Context, host, address string) (said, at time.Time) {
	client := &http.Client{
		Timeout: patience,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, ServerName: host}, //nolint:gosec // see above
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp6", address)
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, "https://"+net.JoinHostPort(host, defaultPort)+"/v2/", nil)
	if err != nil {
		return said, at
	}
	response, err := client.Do(request)
	if err != nil {
		return said, at
	}
	at = time.Now()
	_ = response.Body.Close() // of a HEAD, which is empty
	said, err = http.ParseTime(response.Header.Get("Date"))
	if err != nil {
		return time.Time{}, at
	}
	return said, at
}
