package ip6tables

import (
	"fmt"
	"testing"

	"github.com/v6net/v6net/internal/firewall"
)

// BenchmarkCompile is what it takes to know what a container more changes.
func BenchmarkCompile(b *testing.B) {
	for _, n := range []int{100, 1000, 5000} {
		b.Run(fmt.Sprintf("containers=%d", n), func(b *testing.B) {
			r, err := firewall.Build(crowd(n))
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				for _, f := range families {
					ts, err := compile(r, f, nil)
					if err != nil {
						b.Fatal(err)
					}
					for _, t := range ts {
						_ = t.since(t)
					}
				}
			}
		})
	}
}
