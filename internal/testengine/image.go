package testengine

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/image"
)

const (
	imageName = "v6net-box:latest"
	// imageBody is what its HTTP server answers to every GET of /.
	imageBody = "hello from a container\n"
	// imageCommand ends at once on SIGTERM, which httpd as process 1 ignores.
	imageCommand = `httpd -h /www; trap exit TERM; tail -f /dev/null & wait`
	busybox      = "/bin/busybox"
)

// Image imports a small image with busybox and returns its name. Its default
// command serves [imageBody] by HTTP on port 80 of every address.
func (e *Engine) Image(t testing.TB) string {
	t.Helper()
	layer, err := imageLayer()
	if err != nil {
		t.Fatalf("make image: %v", err)
	}
	answer, err := e.client.ImageImport(t.Context(), image.ImportSource{Source: layer, SourceName: "-"}, imageName,
		image.ImportOptions{Changes: []string{"CMD " + imageCommand}})
	if err != nil {
		t.Fatalf("import image: %v", err)
	}
	defer func() { _ = answer.Close() }()
	// The import is done when its progress has been read.
	if _, err := io.Copy(io.Discard, answer); err != nil {
		t.Fatalf("import image: %v", err)
	}
	return imageName
}

// imageLayer is the tar of the image: the machine's static busybox under the
// names of all its commands.
func imageLayer() (io.Reader, error) {
	binary, err := os.ReadFile(busybox)
	if err != nil {
		return nil, fmt.Errorf("read busybox: %w", err)
	}
	commands, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("list commands of busybox: %w", err)
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	add := func(h tar.Header, body []byte) error {
		h.Size = int64(len(body))
		if err := w.WriteHeader(&h); err != nil {
			return fmt.Errorf("add %s: %w", h.Name, err)
		}
		if _, err := w.Write(body); err != nil {
			return fmt.Errorf("add %s: %w", h.Name, err)
		}
		return nil
	}
	for _, dir := range []string{"bin/", "etc/", "root/", "tmp/", "www/"} {
		if err := add(tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755}, nil); err != nil {
			return nil, err
		}
	}
	files := []struct {
		name string
		mode int64
		body []byte
	}{
		{"bin/busybox", 0o755, binary},
		{"etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\n")},
		{"www/index.html", 0o644, []byte(imageBody)},
	}
	for _, f := range files {
		if err := add(tar.Header{Name: f.name, Typeflag: tar.TypeReg, Mode: f.mode}, f.body); err != nil {
			return nil, err
		}
	}
	for _, name := range strings.Fields(string(commands)) {
		if name == "busybox" {
			continue
		}
		if err := add(tar.Header{Name: "bin/" + name, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}, nil); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("finish layer: %w", err)
	}
	return &layer, nil
}
