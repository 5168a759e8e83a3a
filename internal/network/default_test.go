package network

import (
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/network"

	"github.com/portholehq/porthole/internal/testenv"
)

func TestPoolFree(t *testing.T) {
	list := func(texts ...string) (p []netip.Prefix) {
		for _, s := range texts {
			p = append(p, netip.MustParsePrefix(s))
		}
		return p
	}
	for _, tt := range []struct {
		base string
		size int
		used []netip.Prefix
		want string // empty: there is none
	}{
		{"10.80.0.0/16", 24, nil, "10.80.0.0/24"},
		{"10.80.5.7/16", 24, nil, "10.80.0.0/24"},
		{"10.80.0.0/16", 16, nil, "10.80.0.0/16"},
		{"10.80.0.0/16", 16, list("10.80.3.0/30"), ""},
		{"10.80.0.0/16", 24, list("10.80.0.0/24", "10.80.1.128/25"), "10.80.2.0/24"},
		{"10.80.0.0/16", 24, list("10.80.0.0/17"), "10.80.128.0/24"},
		{"10.80.0.0/16", 24, list("10.0.0.0/8"), ""},
		{"255.255.255.0/24", 25, list("255.255.255.0/24"), ""},
		{"10.0.0.0/8", 30, list("10.0.0.0/9", "10.128.0.0/10"), "10.192.0.0/30"},
		{"fd00:1::/48", 64, list("fd00:1::/64"), "fd00:1:0:1::/64"},
	} {
		got, ok := Pool{netip.MustParsePrefix(tt.base), tt.size}.free(tt.used)
		text := ""
		if ok {
			text = got.String()
		}
		if text != tt.want {
			t.Errorf("%s by %d without %v: %q, want %q", tt.base, tt.size, tt.used, text, tt.want)
		}
	}
}

// TestDefaultBridge gives the default bridge IPv6, a range and the rest.
func TestDefaultBridge(t *testing.T) {
	host := testenv.NetNS(t)
	state := filepath.Join(t.TempDir(), "network")
	settings := func(o *Options) {
		o.StatePath = state
		o.Pools = []Pool{{netip.MustParsePrefix("10.80.0.0/16"), 24}, {netip.MustParsePrefix("fd00:80::/48"), 64}}
		o.Default = DefaultBridgeOptions{
			IPv6: true, Range: netip.MustParsePrefix("10.80.0.128/25"), Apart: true, Binding: netip.MustParseAddr("127.0.0.1"),
		}
	}
	m := open(t, host, settings)
	ep := attach(t, m, "one", testenv.NetNS(t))
	if ep.IPv4.String() != "10.80.0.128/24" || ep.IPv6.String() != "fd00:80::2/64" || ep.Gateway6.String() != "fd00:80::1" {
		t.Errorf("endpoint %v, %v by %v", ep.IPv4, ep.IPv6, ep.Gateway6)
	}
	n, err := m.Inspect("bridge")
	if err != nil || !n.EnableIPv6 || n.Options["com.docker.network.bridge.enable_icc"] != "false" || n.Options["com.docker.network.bridge.host_binding_ipv4"] != "127.0.0.1" {
		t.Errorf("the bridge is %+v, %v", n, err)
	}
	// A network of a user comes from the same pools, and stays out of the way.
	on := true
	id := create(t, m, network.CreateRequest{Name: "app", EnableIPv6: &on})
	app, err := m.Inspect(id)
	if err != nil {
		t.Fatal(err)
	}
	var subnets []string
	for _, c := range app.IPAM.Config {
		subnets = append(subnets, c.Subnet.String())
	}
	if diff := cmp.Diff([]string{"10.80.1.0/24", "fd00:80:0:1::/64"}, subnets); diff != "" {
		t.Error(diff)
	}
	// The subnet is kept, and one that is given counts.
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, host, settings)
	if again.net.Subnet6 != netip.MustParsePrefix("fd00:80::/64") {
		t.Errorf("IPv6 subnet is %v", again.net.Subnet6)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	given := open(t, host, settings, func(o *Options) { o.Default.Subnet6 = netip.MustParsePrefix("fd00:99::/64") })
	if ep := attach(t, given, "two", testenv.NetNS(t)); ep.IPv6.String() != "fd00:99::2/64" {
		t.Errorf("address %v", ep.IPv6)
	}
}

func TestDefaultBridgeRefused(t *testing.T) {
	o := Options{StatePath: filepath.Join(t.TempDir(), "network"), NetNS: testenv.NetNS(t), BIP: netip.MustParsePrefix("10.9.0.1/24")}
	o.Default.Range = netip.MustParsePrefix("10.10.0.0/25")
	m, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	want := "fixed-cidr 10.10.0.0/25 is not of the default bridge's subnet 10.9.0.0/24: give that with --bip"
	if err := m.EnsureDefault(t.Context()); !errdefs.IsInvalidArgument(err) || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
