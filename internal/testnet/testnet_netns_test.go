//go:build netns

package testnet_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/testnet"
)

// The host under test starts with nothing but a loopback interface that is up.
func TestSelfIsANewHost(t *testing.T) {
	self := testnet.Self(t)
	links := strings.Split(self.Run(t, "ip", "-o", "link", "show"), "\n")
	if len(links) != 1 || !strings.Contains(links[0], " lo: ") || !strings.Contains(links[0], "LOWER_UP") {
		t.Errorf("links of a new host: %q, want lo alone, up", links)
	}
	for _, dir := range []string{"/run/docker", "/run/systemd"} {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s of the machine is visible", dir)
		}
	}
	if os.Getpid() > 50 {
		t.Errorf("own process ID %d is not one of a new namespace", os.Getpid())
	}
}

// Two hosts on one cable reach each other by addresses added a moment ago.
func TestConnectedHostsReachEachOther(t *testing.T) {
	self, up := testnet.Self(t), testnet.New(t, "up")
	testnet.Connect(t, self, "eth0", up, "lan0")
	self.AddAddress(t, "2001:db8::2/64", "eth0")
	up.AddAddress(t, "2001:db8::1/64", "lan0")
	self.Run(t, "ping", "-c", "1", "-W", "2", "2001:db8::1")
	up.Run(t, "ping", "-c", "1", "-W", "2", "2001:db8::2")
}

// A cable and a host leave their names free for the next test.
func TestNamesAreFreeAfterTheTest(t *testing.T) {
	for i := range 3 {
		t.Run(fmt.Sprint(i), TestConnectedHostsReachEachOther)
	}
}

// A router between two hosts forwards once its sysctl says so.
func TestRouter(t *testing.T) {
	self, router, far := testnet.Self(t), testnet.New(t, "router"), testnet.New(t, "far")
	testnet.Connect(t, self, "eth0", router, "near")
	testnet.Connect(t, router, "far", far, "eth0")
	self.AddAddress(t, "2001:db8:1::2/64", "eth0")
	router.AddAddress(t, "2001:db8:1::1/64", "near")
	router.AddAddress(t, "2001:db8:2::1/64", "far")
	far.AddAddress(t, "2001:db8:2::2/64", "eth0")
	self.Run(t, "ip", "route", "add", "default", "via", "2001:db8:1::1")
	far.Run(t, "ip", "route", "add", "default", "via", "2001:db8:2::1")
	router.Sysctl(t, "net/ipv6/conf/all/forwarding", "1")
	self.Run(t, "ping", "-c", "1", "-W", "2", "2001:db8:2::2")
}

// A socket opened in Do stays in its host; the thread comes back.
func TestDoOpensSocketsInTheHost(t *testing.T) {
	self, up := testnet.Self(t), testnet.New(t, "up")
	testnet.Connect(t, self, "eth0", up, "lan0")
	self.AddAddress(t, "2001:db8::2/64", "eth0")
	up.AddAddress(t, "2001:db8::1/64", "lan0")

	var listener net.Listener
	up.Do(t, func() {
		var err error
		if listener, err = net.Listen("tcp", "[2001:db8::1]:80"); err != nil {
			t.Fatal(err)
		}
	})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, r.RemoteAddr)
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		_ = server.Close()
		<-served //nolint:errcheck // http.ErrServerClosed
	}()

	client := &http.Client{Transport: &http.Transport{DialContext: self.DialContext}, Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	answer, err := client.Get("http://[2001:db8::1]/")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(body), "[2001:db8::2]:") {
		t.Errorf("the server in %s saw %q, want the address of %s", up.Name(), body, self.Name())
	}
}

// An orphan is collected by process 1 and does no harm to the tests' children.
func TestOrphansAreReaped(t *testing.T) {
	out := testnet.Self(t).Run(t, "sh", "-c", "(sleep 0.05 & echo $!)")
	var orphan int
	if _, err := fmt.Sscan(out, &orphan); err != nil {
		t.Fatalf("process ID %q: %v", out, err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for syscall.Kill(orphan, 0) == nil {
		if time.Now().After(deadline) {
			t.Fatalf("orphan %d is still there", orphan)
		}
		// Children of our own come and go meanwhile.
		if err := exec.Command("true").Run(); err != nil {
			t.Fatal(err)
		}
	}
}
