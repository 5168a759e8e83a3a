package nft

import (
	"net/netip"
	"os"
	"testing"

	"github.com/google/nftables"

	"github.com/portholehq/porthole/internal/testenv"
)

// TestRedirectNames replaces what is there.
func TestRedirectNames(t *testing.T) {
	ns := testenv.NetNS(t)
	for port := range uint16(3) {
		if err := RedirectNames(ns, netip.MustParseAddr("127.0.0.11"), 40000+port, 50000+port); err != nil {
			t.Fatal(err)
		}
	}
	conn, err := nftables.New(nftables.WithNetNSFd(int(ns.Fd())))
	if err != nil {
		t.Fatal(err)
	}
	table := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: namesTable}
	rules, err := conn.GetRules(table, &nftables.Chain{Name: "output", Table: table})
	if err != nil || len(rules) != 2 {
		t.Errorf("%d rules, %v, want the two of the last time", len(rules), err)
	}
}

// TestHandle publishes ports and takes them back.
func TestHandle(t *testing.T) {
	ns := testenv.NetNS(t)
	bare := ruleset
	bare.Ports = nil
	if err := Apply(ns, bare); err != nil {
		t.Fatal(err)
	}
	h, err := Dial(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for range 2 {
		if err := h.Publish(DefaultTable, ruleset.Ports); err != nil {
			t.Fatal(err)
		}
		if there, err := Present(ns, ruleset); err != nil || !there {
			t.Errorf("Present = %v, %v after Publish", there, err)
		}
		if there, err := Present(ns, bare); err != nil || there {
			t.Errorf("a table with more is whole: %v, %v", there, err)
		}
		if err := h.Withdraw(DefaultTable, ruleset.Ports); err != nil {
			t.Fatal(err)
		}
		if there, err := Present(ns, bare); err != nil || !there {
			t.Errorf("Present = %v, %v after Withdraw", there, err)
		}
	}
}

// BenchmarkRedirectNames is what a start on a network with names pays for them.
func BenchmarkRedirectNames(b *testing.B) {
	var spaces []*os.File
	for range 200 {
		spaces = append(spaces, testenv.NetNS(b))
	}
	i := 0
	for b.Loop() {
		if err := RedirectNames(spaces[i%len(spaces)], netip.MustParseAddr("127.0.0.11"), 1, 2); err != nil {
			b.Fatal(err)
		}
		i++
	}
}
