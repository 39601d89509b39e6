package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// history is a journal after each of its transactions: the file, and what it says.
type history struct {
	files [][]byte
	says  []string
}

// write writes a journal that has seen networks come and go, so that pages have been
// split, freed and used again.
func write(t *testing.T, changes int) history {
	path := filepath.Join(t.TempDir(), "v6net.db")
	s := open(t, path)
	random := rand.New(rand.NewPCG(1, 2))
	var h history
	note := func() {
		text, err := os.ReadFile(path)
		must(t, err)
		h.files, h.says = append(h.files, text), append(h.says, said(t, s))
	}
	note()
	for range changes {
		n := random.IntN(12)
		id, pool := strings.Repeat(fmt.Sprintf("%x", n), 64), fmt.Sprintf("2001:db8:%x::/64", n)
		addr := netip.MustParseAddr(fmt.Sprintf("2001:db8:%x::%x", n, random.IntN(9)))
		switch random.IntN(8) {
		case 0:
			must(t, s.PutNetwork(spec.Network{ID: id, Name: strings.Repeat("n", random.IntN(300)), Phase: spec.PhaseReady, Options: spec.DefaultOptions()}))
		case 1:
			must(t, s.DeleteNetwork(id))
		case 2:
			must(t, s.PutEndpoint(spec.Endpoint{ID: id, NetworkID: id, IPv6: netip.PrefixFrom(addr, 64)}))
		case 3:
			must(t, s.DeleteEndpoint(id))
		case 4:
			must(t, s.PutPool(spec.Pool{ID: pool, Prefix: netip.MustParsePrefix(pool)}))
		case 5:
			must(t, s.PutLease(pool, addr))
		case 6:
			must(t, s.DeletePool(pool))
		case 7:
			must(t, s.PutSysctl(id[:8], "0"))
			note()
			must(t, s.DeleteSysctl(strings.Repeat(fmt.Sprintf("%x", random.IntN(12)), 8)))
		}
		note()
	}
	must(t, s.Close())
	return h
}

// said is all that a journal says.
func said(t testing.TB, s *Store) string {
	t.Helper()
	state, err := s.Load()
	must(t, err)
	text, err := json.Marshal(state)
	must(t, err)
	return string(text)
}

// verdict opens what a disk has kept, and answers what it says, or why it is refused.
func verdict(t testing.TB, dir string, text []byte) (says string, refused error) {
	t.Helper()
	path := filepath.Join(dir, "v6net.db")
	must(t, os.WriteFile(path, text, 0o600))
	s, err := Open(path)
	if err != nil {
		return "", err
	}
	defer func() { must(t, s.Close()) }()
	state, err := s.Load()
	if err != nil {
		return "", err
	}
	out, err := json.Marshal(state)
	must(t, err)
	return string(out), nil
}

// memory is a folder that no disk is behind.
func memory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "v6net")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// The power fails while a transaction is being written: of its pages any have reached
// the disk, of the last one a part, and the meta page, which comes after a barrier, has
// or has not. What is read then is what was there before, or all of the transaction.
func TestPowerFailsInATransaction(t *testing.T) {
	h, dir := write(t, 60), memory(t)
	const page, sector = 4096, 512
	random := rand.New(rand.NewPCG(3, 4))
	recovered := map[string]int{}
	for k := 1; k < len(h.files); k++ {
		before, after := h.files[k-1], h.files[k]
		if h.says[k] == h.says[k-1] {
			continue
		}
		before = append(bytes.Clone(before), make([]byte, len(after)-len(before))...)
		var data, meta []int
		for at := 0; at < len(after); at += page {
			if bytes.Equal(before[at:at+page], after[at:at+page]) {
				continue
			}
			if at < 2*page {
				meta = append(meta, at)
			} else {
				data = append(data, at)
			}
		}
		disk := func(pages []int, torn int) []byte {
			text := bytes.Clone(before)
			for i, at := range pages {
				end := at + page
				if i == len(pages)-1 {
					end = at + torn
				}
				copy(text[at:end], after[at:end])
			}
			return text
		}
		expect := func(what string, text []byte, allowed ...string) {
			t.Helper()
			says, err := verdict(t, dir, text)
			for i, a := range allowed {
				if err == nil && says == a {
					recovered[[]string{"before", "after"}[i]]++
					return
				}
			}
			t.Errorf("transaction %d, %s: error %v, and it says\n%s\nwant\n%s", k, what, err, says, strings.Join(allowed, "\nor\n"))
		}
		for range 3 { // before the barrier
			random.Shuffle(len(data), func(i, j int) { data[i], data[j] = data[j], data[i] })
			some := data[:random.IntN(len(data)+1)]
			for _, torn := range []int{0, sector, page - sector, page} {
				expect(fmt.Sprintf("%d of %d pages, %d bytes of the last one", len(some), len(data), torn), disk(some, torn), h.says[k-1])
			}
		}
		for torn := 0; torn <= page; torn += sector { // after it
			expect(fmt.Sprintf("all pages, %d bytes of the meta page", torn), disk(append(append([]int{}, data...), meta...), torn), h.says[k-1], h.says[k])
		}
	}
	t.Logf("recovered: %v", recovered)
	if recovered["before"] == 0 || recovered["after"] == 0 {
		t.Error("it was never before or never after a transaction: nothing was torn")
	}
}

// A file that ends early, or in zeros, is refused or says what it said: at every page,
// at many a byte between.
func TestTruncatedJournal(t *testing.T) {
	h, dir := write(t, 60), memory(t)
	text, says := h.files[len(h.files)-1], h.says[len(h.says)-1]
	refused, whole := 0, 0
	for at := 1; at < len(text); at += 509 {
		for _, damaged := range [][]byte{text[:at], append(bytes.Clone(text[:at]), make([]byte, len(text)-at)...)} {
			got, err := verdict(t, dir, damaged)
			switch {
			case err != nil:
				refused++
			case got == says:
				whole++
			default:
				t.Errorf("with %d of %d bytes it says\n%s\nwant\n%s", at, len(text), got, says)
			}
		}
	}
	t.Logf("%d bytes: %d times refused, %d times whole", len(text), refused, whole)
	if refused == 0 {
		t.Error("nothing was refused")
	}
}

// A disk that tears its sectors, in the one that a meta page's data are in: what was there
// before, or after, or it is refused.
func TestTornSector(t *testing.T) {
	h, dir := write(t, 60), memory(t)
	k := len(h.files) - 1
	for h.says[k] == h.says[k-1] {
		k--
	}
	refused := 0
	for torn := 0; torn <= 2*4096; torn++ {
		if torn%4096 > 96 {
			continue
		}
		text := append(bytes.Clone(h.files[k-1][:2*4096]), h.files[k][2*4096:]...)
		from := 0 // the page that is written
		if bytes.Equal(text[:4096], h.files[k][:4096]) {
			from = 4096
		}
		copy(text[from:max(from, torn)], h.files[k][from:])
		switch got, err := verdict(t, dir, text); {
		case err != nil:
			refused++
		case got != h.says[k-1] && got != h.says[k]:
			t.Errorf("torn at %d it says\n%s", torn, got)
		}
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
}

// One wrong byte, anywhere: refused, or without a meaning.
func TestFlippedByte(t *testing.T) {
	h, dir := write(t, 60), memory(t)
	text, says := h.files[len(h.files)-1], h.says[len(h.says)-1]
	refused, harmless := 0, 0
	step := 7
	if testing.Short() {
		step = 31
	}
	random := rand.New(rand.NewPCG(5, 6))
	began := time.Now()
	for at := 0; at < len(text); at += step {
		if text[at] == 0 && at > 2*4096 && random.IntN(20) > 0 { // most of a page is empty
			continue
		}
		damaged := bytes.Clone(text)
		damaged[at] ^= byte(1 << random.IntN(8))
		got, err := verdict(t, dir, damaged)
		switch {
		case err != nil:
			refused++
		case got == says:
			harmless++
		default:
			t.Fatalf("with byte %d flipped it says\n%s\nwant\n%s", at, got, says)
		}
	}
	t.Logf("%d bytes in %v: %d times refused, %d times without a meaning", len(text), time.Since(began), refused, harmless)
	if refused == 0 {
		t.Error("nothing was refused")
	}
}

// Every change that there is keeps the sum up: it is the one that is made anew.
func TestSum(t *testing.T) {
	h, dir := write(t, 200), memory(t)
	path := filepath.Join(dir, "sum.db")
	must(t, os.WriteFile(path, h.files[len(h.files)-1], 0o600))
	s := open(t, path)
	_, err := s.Boot("a")
	must(t, err)
	must(t, s.PutSysctl("k", "0"))
	_, err = s.Boot("b")
	must(t, err)
	_, err = s.IAID("eth0")
	must(t, err)
	_, err = s.IAID("eth1")
	must(t, err)
	_, err = s.DUID(func() ([]byte, error) { return []byte{1, 2}, nil })
	must(t, err)
	must(t, s.PutClock(spec.ClockRecord{}))
	must(t, s.PutAll([]spec.Network{{ID: "n"}}, []spec.Pool{{ID: "p"}}, []spec.Endpoint{{ID: "e"}}))
	must(t, s.Booted("b"))
	must(t, s.PutFollowing([]spec.Network{{ID: "n"}}, []spec.Pool{{ID: "p"}}, map[string]string{"k": "0"}))
	must(t, s.PutAdvertised(spec.Advertisement{Link: "l"}))
	must(t, s.DeleteAdvertised("l"))
	must(t, s.PutDelegationLease(spec.DelegationLease{SourceOnLink: spec.SourceOnLink{Source: spec.SourcePD, Link: "eth0"}}))
	must(t, s.DeleteDelegationLease(spec.SourceOnLink{Source: spec.SourcePD, Link: "eth0"}))
	must(t, s.Close())
	if err := check(path); err != nil {
		t.Error(err)
	}
}
