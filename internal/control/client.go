package control

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// What a client reads at the most.
const (
	maxAnswer = 256 << 20
	maxError  = 64 << 10
)

// pluginSockets is where the engine shows the sockets of its managed plugins:
// inside the plugin the folder is /run/docker/plugins.
const pluginSockets = pluginFolder + "/*/v6net-control.sock"

// PluginSocket is the API's socket inside a managed plugin. It lies in the one
// folder that the engine shares between the plugin and the host.
const PluginSocket = pluginFolder + "/v6net-control.sock"

const pluginFolder = "/run/docker/plugins"

// ErrNoDaemon says that nobody listens where daemons do.
var ErrNoDaemon = errors.New("no v6net daemon answers")

// FindSocket is the socket of the daemon that runs on this host: that of a managed
// plugin, or a plain service's, which comes last: systemd may hold it for one that
// it would start beside the plugin's. The error says how to start one.
func FindSocket() (string, error) {
	candidates, err := filepath.Glob(pluginSockets)
	if err != nil {
		return "", fmt.Errorf("find the daemon's socket: %w", err)
	}
	for _, path := range append(candidates, SocketPath) {
		if c, err := net.Dial("unix", path); err == nil {
			return path, c.Close()
		} else if errors.Is(err, fs.ErrPermission) {
			return "", fmt.Errorf("%s: %w: run this as root", path, fs.ErrPermission)
		}
	}
	// Glob finds nothing where it may not look.
	if _, err := os.ReadDir(pluginFolder); errors.Is(err, fs.ErrPermission) {
		return "", fmt.Errorf("%w: run this as root", err)
	}
	return "", NotFound()
}

// NotFound is FindSocket's error where there is no daemon: it says how to start one.
func NotFound() error {
	return fmt.Errorf("%w on %s or %s (start one with `docker plugin disable -f v6net; docker plugin enable v6net`, `systemctl start v6net` or `v6net daemon`)", ErrNoDaemon, SocketPath, pluginSockets)
}

// Client speaks to a daemon.
type Client struct {
	// Waiting is called when an answer takes longer than two seconds; nil: nobody is told.
	Waiting func()

	http http.Client
}

// clientPatience is for how long a client waits without a word.
const clientPatience = 2 * time.Second

// NewClient makes a client for the socket at path; it connects when it is used.
func NewClient(path string) *Client {
	return &Client{http: http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, "unix", path)
			if err != nil && ctx.Err() == nil && !errors.Is(err, fs.ErrPermission) {
				err = fmt.Errorf("%w: %w", ErrNoDaemon, err)
			}
			return c, err
		},
	}}}
}

// Status asks for everything that the daemon does.
func (c *Client) Status(ctx context.Context) (spec.Status, error) {
	var status spec.Status
	if err := c.call(ctx, http.MethodGet, statusPath, &status); err != nil {
		return spec.Status{}, fmt.Errorf("ask the daemon for its status: %w", err)
	}
	return status, nil
}

// Explain asks what the firewall does with a connection.
func (c *Client) Explain(ctx context.Context, call spec.Call) (spec.Judgement, error) {
	var j spec.Judgement
	err := c.send(ctx, explainPath, call, &j)
	return j, err
}

// DeleteNetwork has the daemon remove a network with all its endpoints.
func (c *Client) DeleteNetwork(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, networksPath+url.PathEscape(id), nil)
}

// ForgetPool has the daemon release a pool that no network of its own uses.
func (c *Client) ForgetPool(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, poolsPath+url.PathEscape(id), nil)
}

// MakeNetwork has the daemon make a network with its pools. The same request again
// answers the same network.
func (c *Client) MakeNetwork(ctx context.Context, r spec.NetworkRequest) (spec.Network, error) {
	var n spec.Network
	err := c.send(ctx, makePath, r, &n)
	return n, err
}

// Attach has the daemon make a container's attachment. The same request again
// answers the same attachment.
func (c *Client) Attach(ctx context.Context, r spec.AttachRequest) (spec.Attached, error) {
	var a spec.Attached
	err := c.send(ctx, attachPath, r, &a)
	return a, err
}

// Detach has the daemon remove an attachment. The error matches spec.ErrNotFound
// for an unknown one.
func (c *Client) Detach(ctx context.Context, networkID, endpointID string) error {
	return c.call(ctx, http.MethodDelete, networksPath+url.PathEscape(networkID)+endpointsInfix+url.PathEscape(endpointID), nil)
}

func (c *Client) send(ctx context.Context, path string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	return c.do(ctx, http.MethodPost, path, bytes.NewReader(body), answer)
}

// call makes a request without a body.
func (c *Client) call(ctx context.Context, method, path string, answer any) error {
	return c.do(ctx, method, path, nil, answer)
}

// do makes a request and decodes its answer, if one is wanted.
func (c *Client) do(ctx context.Context, method, path string, body io.Reader, answer any) error {
	resp, err := c.open(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end, or the answer is an error anyway
	if answer == nil {
		return nil
	}
	return json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(answer)
}

// open makes a request and waits for its answer to begin, which is no failure and is the
// caller's to read and to close.
func (c *Client) open(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://v6net"+path, body)
	if err != nil {
		return nil, err
	}
	if c.Waiting != nil {
		defer time.AfterFunc(clientPatience, c.Waiting).Stop()
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		defer resp.Body.Close()                                    //nolint:errcheck // an error anyway
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxError)) // what there is of it
		return nil, failure(resp.StatusCode, strings.TrimSpace(string(text)))
	}
	return resp, nil
}

// failure is an error that the daemon answered.
func failure(status int, text string) error {
	switch status {
	case http.StatusUnprocessableEntity: // the engine's own words
		return errors.New(text)
	case http.StatusNotFound:
		return &notFound{text}
	default:
		return fmt.Errorf("the daemon answered: %s", cmp.Or(text, http.StatusText(status)))
	}
}

// notFound carries the daemon's words.
type notFound struct{ text string }

func (e *notFound) Error() string { return "the daemon answered: " + e.text }
func (e *notFound) Unwrap() error { return spec.ErrNotFound }
