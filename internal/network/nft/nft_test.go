package nft

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/testenv"
)

var ruleset = Ruleset{
	Table: DefaultTable,
	Networks: []Network{
		{Bridge: "porthole0", Masquerade: []netip.Prefix{netip.MustParsePrefix("172.30.0.0/16")}},
		{Bridge: "br-inside", Internal: true},
		{Bridge: "br-six", Masquerade: []netip.Prefix{netip.MustParsePrefix("fd00:1::/64")}, Open4: true, Open6: true},
	},
	Ports: []Port{
		{Proto: unix.IPPROTO_TCP, Host: netip.MustParseAddrPort("0.0.0.0:8080"), Target: netip.MustParseAddrPort("172.30.0.2:80")},
		{Proto: unix.IPPROTO_TCP, Host: netip.MustParseAddrPort("10.0.0.1:8080"), Target: netip.MustParseAddrPort("172.30.0.3:80")},
		{Proto: unix.IPPROTO_UDP, Host: netip.MustParseAddrPort("[::]:53"), Target: netip.MustParseAddrPort("[fd00:1::2]:53")},
		{Proto: unix.IPPROTO_UDP, Host: netip.MustParseAddrPort("[fd00::1]:53"), Target: netip.MustParseAddrPort("[fd00:1::2]:53")},
		{Proto: unix.IPPROTO_TCP, Target: netip.MustParseAddrPort("[fd00:1::2]:80"), Routed: true},
	},
}

// TestApply replaces the table twice beside a table of somebody else.
func TestApply(t *testing.T) {
	ns := testenv.NetNS(t)
	conn, err := nftables.New(nftables.WithNetNSFd(int(ns.Fd())))
	if err != nil {
		t.Fatal(err)
	}
	conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "theirs"})
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	tables := func() (names []string) {
		t.Helper()
		all, err := conn.ListTables()
		if err != nil {
			t.Fatal(err)
		}
		for _, table := range all {
			names = append(names, table.Name)
		}
		return names
	}
	for range 2 {
		if err := Apply(ns, ruleset); err != nil {
			t.Fatal(err)
		}
		if there, err := Present(ns, ruleset); err != nil || !there {
			t.Errorf("Present = %v, %v after Apply", there, err)
		}
		if diff := cmp.Diff([]string{"theirs", DefaultTable}, tables()); diff != "" {
			t.Errorf("tables (-want +got):\n%s", diff)
		}
	}
	for range 2 { // the second time it is not there
		if err := Remove(ns, DefaultTable); err != nil {
			t.Fatal(err)
		}
	}
	if there, err := Present(ns, ruleset); err != nil || there {
		t.Errorf("Present = %v, %v after Remove", there, err)
	}
	if diff := cmp.Diff([]string{"theirs"}, tables()); diff != "" {
		t.Errorf("tables (-want +got):\n%s", diff)
	}
}

func TestExplain(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{unix.EPROTONOSUPPORT, true},
		{unix.EOPNOTSUPP, true},
		{unix.EPERM, false},
		{errors.New("else"), false},
	} {
		if got := errdefs.IsNotImplemented(explain(c.err)); got != c.want {
			t.Errorf("explain(%v) means no nftables: %v, want %v", c.err, got, c.want)
		}
	}
}
