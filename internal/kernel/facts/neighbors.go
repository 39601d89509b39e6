package facts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/v6net/v6net/internal/doctor"
)

// neighbors reads how full the neighbour tables are. The kernel shows it in the first network
// namespace alone, as it does their limits.
func (h Host) neighbors(_ context.Context, f *doctor.Facts) error {
	f.Neighbors = map[string]doctor.NeighborTable{}
	for family, file := range map[string]string{"ipv6": "ndisc_cache", "ipv4": "arp_cache"} {
		path := filepath.Join(h.Proc, "thread-self/net/stat", file)
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("neighbour table: %w", err)
		}
		if f.Neighbors[family], err = neighborTable(string(text)); err != nil {
			return fmt.Errorf("neighbour table: %s: %w", path, err)
		}
	}
	return nil
}

// neighborTable reads a table's statistics: names, and a line in hexadecimal for each
// processor, which has counted for itself. Each knows the number of all entries.
func neighborTable(text string) (t doctor.NeighborTable, err error) {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	names := strings.Fields(lines[0])
	for _, line := range lines[1:] {
		for i, field := range strings.Fields(line) {
			if i >= len(names) {
				return t, fmt.Errorf("%d columns have a name, of more", len(names))
			}
			if names[i] != "entries" && names[i] != "table_fulls" {
				continue
			}
			n, err := strconv.ParseUint(field, 16, 32)
			switch {
			case err != nil:
				return t, fmt.Errorf("%s: %w", names[i], err)
			case names[i] == "entries":
				t.Entries = int(n)
			default:
				t.Full += int(n)
			}
		}
	}
	return t, nil
}
