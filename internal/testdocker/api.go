// Package testdocker stands in for a Docker engine in tests: in its API, as far as it is
// asked, and in what it asks of plugins.
package testdocker

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
)

// Serve answers what the API is asked for by its path, at a socket and until the end of the test.
func Serve(t testing.TB, answers map[string]string) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for path, text := range answers {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }) //nolint:errcheck // the client sees it
	}
	server := httptest.NewUnstartedServer(mux)
	_ = server.Listener.Close() // it is of loopback
	server.Listener = l
	server.Start()
	t.Cleanup(server.Close)
	return socket
}
