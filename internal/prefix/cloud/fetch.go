package cloud

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

const (
	// mostTime bounds all that is asked for one answer.
	mostTime = time.Second
	// mostBody bounds what is read of it: metadata hold the user's data, too.
	mostBody  = 1 << 20
	mostToken = 4 << 10
	mostHead  = 64 << 10
)

// recognize finds out which cloud's machine this is, by what its firmware says: no
// packet is sent on a machine that is none's.
func recognize(dmi fs.FS) (vendor, bool) {
	for _, v := range vendors {
		for _, m := range v.marks {
			if text, err := fs.ReadFile(dmi, m.field); err == nil && strings.HasPrefix(strings.TrimSpace(string(text)), m.value) {
				return v, true
			}
		}
	}
	return vendor{}, false
}

// newClient asks metadata servers: directly, whatever proxy the environment names,
// and following no redirection.
func newClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: mostHead},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// fetch reads the prefixes that a cloud has assigned to an interface. errNone is an
// answer; any other error is none.
func (v vendor) fetch(ctx context.Context, client *http.Client, base, mac string) ([]netip.Prefix, error) {
	ctx, cancel := context.WithTimeout(ctx, mostTime)
	defer cancel()
	headers := map[string]string{}
	for name, value := range v.headers {
		headers[name] = value
	}
	if v.token != nil {
		body, err := v.ask(ctx, client, http.MethodPut, base, v.token.path, v.token.headers, mostToken)
		if err != nil {
			return nil, fmt.Errorf("token: %w", err)
		}
		headers[v.token.header] = firstLine(body)
	}
	body, err := v.ask(ctx, client, http.MethodGet, base, strings.ReplaceAll(v.path, "{mac}", mac), headers, mostBody)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNone
	}
	if err != nil {
		return nil, err
	}
	return v.read.prefixes(body, mac)
}

// firstLine is what of a token may be in a header.
func firstLine(token []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(token)), "\n")
	return strings.TrimSpace(line)
}

// ask is one request. The error of what is not there is fs.ErrNotExist, where the cloud
// says so that there is none (absent).
func (v vendor) ask(ctx context.Context, client *http.Client, method, base, path string, headers map[string]string, most int64) ([]byte, error) {
	r, err := v.request(method, base, path, headers)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(r.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	switch {
	case answer.StatusCode == http.StatusNotFound && v.absent:
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	case answer.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s %s: the metadata server answers %d", method, path, answer.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, most+1))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if int64(len(body)) > most {
		return nil, fmt.Errorf("%s %s: the answer is longer than %d bytes", method, path, most)
	}
	return body, nil
}
