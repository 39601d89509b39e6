package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// shown is a page as it is on a screen.
func shown(t *testing.T, s screen) string {
	t.Helper()
	var g page
	g.printf("v6net 1.2.3")
	g.printf("\nNETWORK aaaa front\tbridge v6naaaa, inbound published")
	g.printf("  prefix 2001:db8:1::/64\tparent\ta free part of 2001:db8::/56 on eth0")
	g.printf("  endpoint eeee web\t2001:db8:1::5, 192.0.2.5\t80/tcp")
	g.printf("  endpoint ffff db\t2001:db8:1::6\t")
	g.printf("    what stands alone is set in as it was")
	g.printf("\nNETWORK bbbb\tx")
	g.printf("  DEGRADED\tparent eth9: \x1b[31mno such link")
	var b strings.Builder
	if err := g.print(&b, s); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPage(t *testing.T) {
	for _, tc := range []struct {
		on   screen
		want string
	}{
		{screen{}, `v6net 1.2.3

NETWORK aaaa front        bridge v6naaaa, inbound published
  prefix 2001:db8:1::/64  parent                    a free part of 2001:db8::/56 on eth0
  endpoint eeee web       2001:db8:1::5, 192.0.2.5  80/tcp
  endpoint ffff db        2001:db8:1::6
    what stands alone is set in as it was

NETWORK bbbb  x
  DEGRADED    parent eth9:  [31mno such link
`},
		// The last column is wrapped under itself,
		{screen{width: 78}, `v6net 1.2.3

NETWORK aaaa front        bridge v6naaaa, inbound published
  prefix 2001:db8:1::/64  parent                    a free part of
                                                    2001:db8::/56 on eth0
  endpoint eeee web       2001:db8:1::5, 192.0.2.5  80/tcp
  endpoint ffff db        2001:db8:1::6
    what stands alone is set in as it was

NETWORK bbbb  x
  DEGRADED    parent eth9:  [31mno such link
`},
		// and where there is too little room for that everything is under each other.
		{screen{width: 40}, `v6net 1.2.3

NETWORK aaaa front
    bridge v6naaaa, inbound published
  prefix 2001:db8:1::/64
      parent
      a free part of 2001:db8::/56 on
      eth0
  endpoint eeee web
      2001:db8:1::5, 192.0.2.5
      80/tcp
  endpoint ffff db
      2001:db8:1::6
    what stands alone is set in as it
    was

NETWORK bbbb  x
  DEGRADED    parent eth9: [31mno such
              link
`},
	} {
		if diff := cmp.Diff(tc.want, shown(t, tc.on)); diff != "" {
			t.Errorf("%d columns (-want +got):\n%s", tc.on.width, diff)
		}
		// Colours change nothing else.
		tc.on.colour = true
		coloured := shown(t, tc.on)
		if diff := cmp.Diff(tc.want, regexp.MustCompile("\x1b\\[[0-9]+m").ReplaceAllString(coloured, "")); diff != "" {
			t.Errorf("%d columns, coloured (-want +got):\n%s", tc.on.width, diff)
		}
		if !strings.Contains(coloured, "\x1b[31m  DEGRADED\x1b[0m") || !strings.Contains(coloured, "\x1b[1mNETWORK aaaa front\x1b[0m") {
			t.Errorf("%d columns: %q has not its colours", tc.on.width, coloured)
		}
	}
}

// Nothing is lost, however narrow the screen is.
func TestNarrowPageHasAll(t *testing.T) {
	words := strings.Join(strings.Fields(shown(t, screen{})), " ")
	for width := 1; width < 100; width++ {
		if got := strings.Join(strings.Fields(shown(t, screen{width: width})), " "); got != words {
			t.Fatalf("%d columns: %q, want %q", width, got, words)
		}
	}
}

// Neither a file nor a pipe nor /dev/null is a terminal.
func TestScreenOfNoTerminal(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close() //nolint:errcheck // nothing is written
	file, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // nothing is written
	for _, f := range []*os.File{null, file} {
		if s := screenOf(f); s != (screen{}) {
			t.Errorf("%s: %+v", f.Name(), s)
		}
	}
}
