package capture

import (
	"context"
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"

	"github.com/v6net/v6net/internal/kernel/dump"
)

// byAlias finds the link that has an alias in this thread's namespace.
func byAlias(ctx context.Context, alias string) (*net.Interface, error) {
	links, err := dump.Retry(ctx, netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	for _, l := range links {
		if a := l.Attrs(); a.Alias == alias {
			return &net.Interface{Index: a.Index, Name: a.Name}, nil
		}
	}
	return nil, fmt.Errorf("no link with alias %q is here: %w", alias, os.ErrNotExist)
}
