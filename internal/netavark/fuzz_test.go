package netavark_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/v6net/v6net/internal/netavark"
)

// FuzzRun: whatever Podman says to whatever sub-command, the answer is one JSON value or
// none, an error is one of {"error": …}, and never a panic.
func FuzzRun(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txt*")
	if err != nil || len(files) == 0 {
		f.Fatalf("no golden calls: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, part := range txtar.Parse(text).Files {
			if part.Name == "stdin" {
				f.Add(part.Data)
			}
		}
	}
	f.Add([]byte(strings.Repeat("[", 20000)))
	f.Add([]byte(`{"network": {"subnets": [{"subnet": "::/0", "lease_range": null}], "options": {"mode": null}}, "port_mappings": [{"range": 65535}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, args := range [][]string{{"create"}, {"setup", "/run/netns/x"}, {"teardown", "/run/netns/x"}} {
			p := &peers{}
			plugin := netavark.Plugin{Version: "1", Sandbox: p, Names: p, Daemon: func() (netavark.Daemon, error) { return p, nil }}
			var out bytes.Buffer
			err := plugin.Run(t.Context(), args, bytes.NewReader(body), &out)
			if failed := strings.HasPrefix(out.String(), `{"error":`); failed != (err != nil) {
				t.Errorf("%s fails: %v, and answers %s to %q", args[0], err, out.String(), body)
			}
			if text := bytes.TrimSpace(out.Bytes()); len(text) > 0 && !json.Valid(text) {
				t.Errorf("%s answers %q to %q", args[0], text, body)
			}
		}
	})
}
