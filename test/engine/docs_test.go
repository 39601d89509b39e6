//go:build engine

package engine_test

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/testdoc"
)

// doc is what a page has for one place.
type doc struct {
	page string
	in   place
	// only are the page's blocks that are run there, by a line of each; without it those
	// that are nowhere else.
	only []string
	// given makes what the page takes for granted.
	given func(t *testing.T, s stage)
	// blocks are those that are not just run as they stand, by a line of each.
	blocks map[string]how
	// then is what has to hold in the end.
	then func(t *testing.T, s stage)
}

// how a block is run, if not just as it stands, after those before it.
type how struct {
	fresh  bool                        // what the blocks before it have made is removed
	serves string                      // its commands run on: each until it says this
	lasts  bool                        // its commands run on: each until it is interrupted, a while later
	not    string                      // it is not run, for this reason
	then   func(t *testing.T, s stage) // what has to hold after it
}

// docs are all pages that have commands, in the order in which they are run.
var docs = []doc{
	{page: "README.md", in: dockerAlone, blocks: map[string]how{
		"make demo": {not: "it makes an engine and a lab of its own, and checks what it shows"},
		"make test": {not: "it runs this test"},
	}, then: reached},

	{page: "docs/quickstart.md", in: dockerAlone, blocks: map[string]how{
		"docker run -d --name web --network web -p 8080:80 nginx": {then: reached},
	}},
	{page: "docs/quickstart.md", in: machine, only: []string{"make build"}},
	{page: "docs/quickstart.md", in: podman, only: []string{"podman network create -d v6net web", "podman rm -f -t 0 web"}},
	{page: "docs/install.md", in: dockerAlone, given: func(t *testing.T, s stage) {
		startRegistry(t, s.lab) // on loopback, where an engine asks for no TLS
		s.must(t, "echo 127.0.0.1 registry.example >>/etc/hosts")
	}, blocks: map[string]how{
		"docker plugin push registry.example:5000/v6net": {fresh: true},
	}},
	{page: "docs/install.md", in: machine, only: []string{"make build", "rm -rf /var/lib/v6net /run/v6net"}, then: gone},
	{page: "docs/install.md", in: machine, only: []string{"make packages", "apt purge -y v6net"}, given: func(t *testing.T, s stage) {
		s.must(t, "rm -f /var/lib/man-db/auto-update") // the machine's manual is not ours to index
	}, then: gone},

	{page: "docs/providers.md", in: docker, given: func(t *testing.T, s stage) {
		routedHere(t, s)
		lent(t, s)
	}, blocks: map[string]how{
		"aws ec2 assign-ipv6-addresses --ipv6-prefix-count 1 --network-interface-id eni-0123456789abcdef0": {not: "it needs an account at AWS"},
	}, then: func(t *testing.T, s stage) { mustFetch(t, s.far, bracket(hostIPv6)+":8080") }},
	{page: "docs/migration.md", in: docker, blocks: map[string]how{
		"docker run -d --network front --ip6 2001:db8:1:0:d0c::80 -p 80:80 nginx": {then: reached},
		"docker run -d --network lan nginx":                                       {fresh: true, then: reached},
	}},
	{page: "docs/migration.md", in: machine, only: []string{"systemctl disable --now ndppd"}, given: plainService},
	{page: "docs/migration.md", in: podman, only: []string{"podman network create -d v6net -o dns=on front"}},

	{page: "docs/networks.md", in: docker, given: routedHere, then: reached},
	{page: "docs/modes.md", in: docker, blocks: map[string]how{
		"  --subnet 2001:db8:1::/64 --gateway 2001:db8:1::1 \\": {fresh: true},
		create + "-o mode=ipvlan lan":                           {not: noIPvlan},
		create + "-o mode=ipvlan -o ipvlan_mode=l3 edge":        {not: noIPvlan},
	}},

	{page: "docs/firewall.md", in: docker, given: func(t *testing.T, s stage) {
		routedHere(t, s)
		s.must(t, create+"front") // the tables are there with the first network
	}},
	{page: "docs/firewall.md", in: machine, only: []string{"firewall-cmd --reload"}, given: func(t *testing.T, s stage) {
		s.must(t, "systemctl start dbus.service firewalld.service")
	}},
	{page: "docs/firewall.md", in: machine, only: []string{"ip6tables-save -t mangle"}, given: func(t *testing.T, s stage) {
		s.must(t, "echo V6NET_FIREWALL=ip6tables >/etc/default/v6net")
		plainService(t, s)
		s.must(t, "bin/netavark-v6net create <<<'"+aNetwork+"'")
	}, then: func(t *testing.T, s stage) { s.must(t, "v6net forget "+networkID) }},

	{page: "docs/prefixes.md", in: docker, given: lent, blocks: map[string]how{
		create + "--ipam-opt source=cloud web": {not: "it is for a cloud's machine: internal/prefix/cloud has servers like theirs"},
	}},
	{page: "docs/ra.md", in: docker, given: routedHere},
	{page: "docs/renumbering.md", in: docker},
	{page: "docs/troubleshooting.md", in: docker, given: func(t *testing.T, s stage) {
		s.must(t, create+"web; docker run -d --name web --network web nginx")
	}, blocks: map[string]how{
		"v6net ra watch eth0": {not: "it says nothing until a router advertises itself: testAdvertisements waits for that"},
	}},
	{page: "docs/watch.md", in: docker, given: func(t *testing.T, s stage) {
		s.must(t, create+"front; docker run -d --name web --network front nginx")
	}, blocks: map[string]how{
		"v6net watch --json --count 10": {lasts: true},
	}, then: firstEvents},
	{page: "docs/capture.md", in: docker, given: func(t *testing.T, s stage) {
		s.must(t, create+"front; for name in web db; do docker run -d --name $name --network front nginx; done")
	}, blocks: map[string]how{
		"v6net capture container:web -c 100 -w /tmp/web.pcapng": {lasts: true},
		"v6net capture container:web -w - | tshark -r -":        {lasts: true},
	}, then: func(t *testing.T, s stage) { s.must(t, "rm /tmp/web.pcapng") }},
	{page: "docs/status.md", in: docker},
	{page: "docs/benchmarks/firewall.md", in: docker, blocks: map[string]how{
		"make bench TESTFLAGS='-run TestBench/firewall'": {not: "it is a measurement"},
	}},
	{page: "docs/security.md", in: machine, given: plainService},
	{page: "docs/doctor.md", in: docker, given: registryExample},
	{page: "docs/metrics.md", in: docker},
	{page: "docs/metrics.md", in: machine, only: []string{"systemctl restart v6net"}, given: plainService},
	{page: "examples/home-server/README.md", in: docker, given: lent, then: reached},

	{page: "docs/podman.md", in: machine, only: []string{"make build"}},
	{page: "docs/podman.md", in: podman, given: routedHere, then: func(t *testing.T, s stage) {
		if out := s.must(t, "podman info --format '{{.Plugins.Network}}'"); !strings.Contains(out, "v6net") {
			t.Errorf("podman info names the drivers %s", out)
		}
	}},

	{page: "docs/ndproxy.md", in: machine, given: func(t *testing.T, s stage) {
		s.must(t, `
			install -m 755 bin/v6net /usr/bin/v6net
			mkdir /etc/v6net
			echo 2001:db8:1::5 >/etc/v6net/addresses
			printf 'proxy eth0 {\n rule 2001:db8:1:0:2::/80 {\n static\n }\n}\n' >/etc/ndppd.conf`)
	}, blocks: map[string]how{
		"v6net ndproxy --ndppd-config /etc/ndppd.conf": {serves: "answering for"},
	}},
}

const (
	create = "docker network create -d v6net:latest --ipam-driver v6net:latest --ipv6 "
	// A network without a container engine.
	networkID = "1111111111111111111111111111111111111111111111111111111111111111"
	aNetwork  = `{"name": "web", "id": "` + networkID + `", "driver": "v6net", "internal": false, "ipv6_enabled": true, "dns_enabled": false, "options": {}}`
	noIPvlan  = "the kernel of a development machine has no ipvlan; testIPvlan does the same in the VM"
)

// Every block of commands in the documentation is run as it stands, page by page, or
// says in the table above why it is not.
func TestDocs(t *testing.T) {
	planned := planDocs(t)
	for _, where := range places {
		t.Run(strings.ReplaceAll(string(where), " ", "_"), func(t *testing.T) { runDocs(t, where, planned) })
	}
}

// step is a row of the table with its blocks.
type step struct {
	doc
	blocks []block
}

type block struct {
	testdoc.Block
	how
}

// planDocs joins the pages' blocks with the table, of which neither may have what the
// other does not know.
func planDocs(t *testing.T) (plan []step) {
	t.Helper()
	pages, err := testdoc.Pages(module)
	if err != nil {
		t.Fatal(err)
	}
	left := map[string][]testdoc.Block{} // of each page
	for _, page := range pages {
		all, err := testdoc.Blocks(module, page)
		if err != nil {
			t.Fatal(err)
		}
		left[page] = slices.DeleteFunc(all, func(b testdoc.Block) bool { return b.Language != testdoc.Shell })
	}
	// take is the one block of the page that has a line.
	take := func(page, line string) testdoc.Block {
		t.Helper()
		var found []testdoc.Block
		left[page] = slices.DeleteFunc(left[page], func(b testdoc.Block) bool {
			has := strings.Contains("\n"+b.Text, "\n"+line+"\n")
			if has {
				found = append(found, b)
			}
			return has
		})
		if len(found) != 1 {
			t.Fatalf("%s has %d blocks with the line %q, want one that no other row of the table has", page, len(found), line)
		}
		return found[0]
	}
	rows := map[int]step{}
	for i, d := range docs {
		s := step{doc: d}
		for _, line := range d.only {
			s.blocks = append(s.blocks, block{Block: take(d.page, line)})
		}
		rows[i] = s
	}
	for i, d := range docs {
		s := rows[i]
		for line, special := range d.blocks {
			s.blocks = append(s.blocks, block{take(d.page, line), special})
		}
		if d.only == nil {
			for _, b := range left[d.page] {
				s.blocks = append(s.blocks, block{Block: b})
			}
			delete(left, d.page)
		}
		slices.SortFunc(s.blocks, func(a, b block) int { return a.Line - b.Line })
		s.blocks = slices.DeleteFunc(s.blocks, func(b block) bool { return b.not != "" })
		if len(s.blocks) == 0 && len(d.blocks) == 0 {
			t.Errorf("%s has nothing to run in place %q", d.page, d.in)
		}
		plan = append(plan, s)
	}
	for _, blocks := range left {
		for _, b := range blocks {
			t.Errorf("%s: these commands are in no row of the table of pages: say where they are run", b)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	return plan
}

// firstEvents checks that a container is watched by its name from its first event on,
// though Docker tells its name later: one of each address, and that it has joined.
func firstEvents(t *testing.T, s stage) {
	t.Helper()
	out := s.must(t, `
		seen=$(mktemp)
		timeout 150 v6net watch --type endpoint --container late --count 3 >"$seen" & watch=$!
		sleep 5 # until it listens
		date; docker run -d --name late --network front nginx; date
		wait $watch || { v6net status; docker ps --no-trunc; exit 1; }
		cat "$seen"
		rm "$seen"`)
	if first, second := strings.Index(out, "created     late/front"), strings.Index(out, "joined      late/front"); first < 0 || second < first {
		t.Errorf("watch says of a new container\n%s", out)
	}
}

// reached checks that what the page has started is reached from outside.
func reached(t *testing.T, s stage) {
	t.Helper()
	containers := strings.Fields(s.must(t, "docker ps -q"))
	for _, container := range containers {
		mustFetch(t, s.far, bracket(s.inspect(t, container, "{{range .NetworkSettings.Networks}}{{.GlobalIPv6Address}}{{end}}")))
	}
	if len(containers) == 0 {
		t.Error("no container runs")
	}
}

// gone checks that nothing of an installation is left.
func gone(t *testing.T, s stage) {
	t.Helper()
	const files = "/usr/bin/v6net /usr/lib/netavark/v6net /var/lib/v6net /run/v6net /etc/default/v6net /etc/systemd/system/v6net.service"
	if left := s.must(t, "ls -d "+files+" 2>/dev/null || true"); left != "" {
		t.Errorf("left: %s", left)
	}
	if out, err := s.run(t.Context(), "systemctl cat v6net.service"); err == nil {
		t.Errorf("systemd still has the unit: %s", out)
	}
}

// routedHere routes to the host what pages say is routed to it.
func routedHere(t *testing.T, s stage) { s.route(t, routed) }

// lent has the lab's router lend prefixes.
func lent(t *testing.T, s stage) {
	s.route(t, firstLent)
	s.delegate(t, firstLent)
}

// plainService has the daemon run as a plain service.
func plainService(t *testing.T, s stage) {
	s.must(t, `
		install -m 755 bin/v6net /usr/bin/v6net
		install -m 644 packaging/systemd/v6net.service packaging/systemd/v6net.socket /etc/systemd/system/
		systemctl enable --now v6net.service`)
}

// registryExample is a registry that is reached over IPv6 by that name.
func registryExample(t *testing.T, s stage) {
	var listener net.Listener
	var err error
	s.far.Do(t, func() { listener, err = net.Listen("tcp", ":5000") })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() }) // who connects waits in its queue
	s.must(t, "echo "+farIPv6+" registry.example >>/etc/hosts")
}
