package netavark

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/v6net/v6net/internal/spec"
)

// Folder is where rootful Podman keeps its networks, a file for each.
const Folder = "/etc/containers/networks"

// Networks is such a folder.
type Networks string

// Knows reports whether Podman has a network still. It has one if the folder has a
// file with its ID, or one of its name that is just being written. An error says
// that this cannot be known: without the folder Podman may keep them elsewhere.
func (folder Networks) Knows(n spec.Network) (bool, error) {
	if n.FrontEnd != FrontEnd {
		return true, nil // not for us to say
	}
	if _, err := os.Stat(string(folder)); err != nil {
		return false, fmt.Errorf("folder of Podman's networks: %w", err)
	}
	file := filepath.Join(string(folder), n.Name+".json") // Podman allows no name with a slash
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("network of Podman: %w", err)
	}
	var kept struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(text, &kept); err != nil {
		return true, nil //nolint:nilerr // half of a file is a file that is being written
	}
	return kept.ID == n.ID, nil
}
