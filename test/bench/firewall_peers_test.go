//go:build bench

package bench_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// captured is what an engine has made of a container with ten published ports.
type captured struct {
	engine  string   // its version
	address string   // the container's
	rules   string   // as ip6tables-save has them
	publish []string // the arguments of ip6tables, run by run, for port firstPort+5
}

// check sees to it that the rules are those that the bench is about.
func (c captured) check(t *testing.T) {
	t.Helper()
	for _, want := range []string{"-j DNAT", "-j ACCEPT"} {
		n := 0
		for line := range strings.Lines(c.rules) {
			if strings.Contains(line, want) && portRule.MatchString(line) {
				n++
			}
		}
		if n != 10 {
			t.Fatalf("Docker has %d rules with %s for ten ports, want one for each:\n%s", n, want, c.rules)
		}
	}
	if len(c.publish) < 2 {
		t.Fatalf("Docker has published a port by %q", c.publish)
	}
}

// portRule is a rule about one of the ports of the capture.
var portRule = regexp.MustCompile(`\b2000\d\b`)

// withPorts are rules for n ports in place of those for ten: each of the first port,
// for every port, where that one is.
func withPorts(rules string, n int) string {
	first := fmt.Sprint(firstPort)
	var b strings.Builder
	for line := range strings.Lines(rules) {
		switch {
		case !strings.HasPrefix(line, "-A") || !portRule.MatchString(line):
			b.WriteString(line)
		case strings.Contains(line, first):
			for i := range n {
				b.WriteString(strings.ReplaceAll(line, first, fmt.Sprint(firstPort+i)))
			}
		}
	}
	return b.String()
}

// commandsFor are the runs of ip6tables for a port, of what an engine has logged.
func commandsFor(log string, port int) (commands []string) {
	run := regexp.MustCompile(`ip6tables, \[(.*)\]"`)
	for line := range strings.Lines(log) {
		if m := run.FindStringSubmatch(line); m != nil && regexp.MustCompile(fmt.Sprintf(`\b%d\b`, port)).MatchString(m[1]) {
			commands = append(commands, m[1])
		}
	}
	return commands
}

// ipv6natRules are what docker-ipv6nat has for a network with ten published ports (its
// manager.go of 0.4.4, getBaseRules, getRulesForNetwork and getRulesForPort), without the userland
// proxy, as Docker's are: it looks for ports before it lets known connections pass.
func ipv6natRules(c captured) string {
	var nat, filter strings.Builder
	for i := range 10 {
		port := firstPort + i
		fmt.Fprintf(&nat, "-A POSTROUTING -s %s/128 -d %[1]s/128 -p tcp -m tcp --dport %d -j MASQUERADE\n", c.address, port)
		fmt.Fprintf(&nat, "-A DOCKER -p tcp -m tcp --dport %d -j DNAT --to-destination [%s]:%[1]d\n", port, c.address)
		fmt.Fprintf(&filter, "-A DOCKER -d %s/128 ! -i lab0 -o lab0 -p tcp -m tcp --dport %d -j ACCEPT\n", c.address, port)
	}
	return `*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s fd00:d::/64 ! -o lab0 -j MASQUERADE
-A POSTROUTING -o lab0 -m addrtype --dst-type LOCAL -j MASQUERADE
` + nat.String() + `COMMIT
*filter
:DOCKER - [0:0]
:DOCKER-ISOLATION - [0:0]
-A FORWARD -j DOCKER-ISOLATION
-A FORWARD -o lab0 -j DOCKER
-A FORWARD -o lab0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i lab0 ! -o lab0 -j ACCEPT
-A FORWARD -i lab0 -o lab0 -j ACCEPT
-A DOCKER-ISOLATION -j RETURN
` + filter.String() + "COMMIT\n"
}

// ipv6natPublish are its runs of ip6tables for a port: each rule is looked for, and added.
func ipv6natPublish(c captured) (commands []string) {
	port := firstPort + 5
	for _, rule := range []string{
		fmt.Sprintf("-t filter %%s DOCKER -d %s ! -i lab0 -o lab0 -p tcp -m tcp --dport %d -j ACCEPT", c.address, port),
		fmt.Sprintf("-t nat %%s POSTROUTING -s %s -d %[1]s -p tcp -m tcp --dport %d -j MASQUERADE", c.address, port),
		fmt.Sprintf("-t nat %%s DOCKER -p tcp -m tcp --dport %d -j DNAT --to-destination [%s]:%[1]d", port, c.address),
	} {
		commands = append(commands, fmt.Sprintf(rule, "-C")+" --wait", fmt.Sprintf(rule, "-A")+" --wait")
	}
	return commands
}
