package network

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/failpoint"
	"github.com/portholehq/porthole/internal/network/nft"
	"github.com/portholehq/porthole/internal/testenv"
)

func yes() *bool { return new(true) }

func create(t testing.TB, m *Manager, req network.CreateRequest) string {
	t.Helper()
	id, err := m.Create(t.Context(), req)
	if err != nil {
		t.Fatalf("Create %s: %v", req.Name, err)
	}
	return id
}

func subnets(texts ...string) *network.IPAM {
	ipam := &network.IPAM{}
	for _, s := range texts {
		ipam.Config = append(ipam.Config, network.IPAMConfig{Subnet: netip.MustParsePrefix(s)})
	}
	return ipam
}

func TestCreateRefuses(t *testing.T) {
	host := testenv.NetNS(t)
	m := open(t, host)
	create(t, m, network.CreateRequest{Name: "app", IPAM: subnets("10.9.0.0/24"), Options: map[string]string{"com.docker.network.bridge.name": "br-app"}})
	config := func(c network.IPAMConfig) *network.IPAM { return &network.IPAM{Config: []network.IPAMConfig{c}} }
	in := netip.MustParsePrefix("10.10.0.0/24")
	for _, c := range []struct {
		name string
		req  network.CreateRequest
		is   func(error) bool
	}{
		{"no name", network.CreateRequest{Name: " "}, errdefs.IsInvalidArgument},
		{"taken", network.CreateRequest{Name: "app"}, errdefs.IsAlreadyExists},
		{"predefined", network.CreateRequest{Name: "host"}, errdefs.IsPermissionDenied},
		{"driver", network.CreateRequest{Name: "x", Driver: "overlay"}, errdefs.IsNotFound},
		{"host driver", network.CreateRequest{Name: "x", Driver: "host"}, errdefs.IsPermissionDenied},
		{"no family", network.CreateRequest{Name: "x", EnableIPv4: new(false)}, errdefs.IsInvalidArgument},
		{"overlap", network.CreateRequest{Name: "x", IPAM: subnets("10.9.0.128/25")}, errdefs.IsPermissionDenied},
		{"overlap with itself", network.CreateRequest{Name: "x", IPAM: subnets("10.10.0.0/24", "10.10.0.0/16")}, errdefs.IsPermissionDenied},
		{"host bits", network.CreateRequest{Name: "x", IPAM: subnets("10.10.0.1/24")}, errdefs.IsInvalidArgument},
		{"IPv6 without it", network.CreateRequest{Name: "x", IPAM: subnets("fd00::/64")}, errdefs.IsInvalidArgument},
		{"gateway outside", network.CreateRequest{Name: "x", IPAM: config(network.IPAMConfig{Subnet: in, Gateway: netip.MustParseAddr("10.11.0.1")})}, errdefs.IsInvalidArgument},
		{"range outside", network.CreateRequest{Name: "x", IPAM: config(network.IPAMConfig{Subnet: in, IPRange: netip.MustParsePrefix("10.11.0.0/25")})}, errdefs.IsInvalidArgument},
		{"same bridge", network.CreateRequest{Name: "x", Options: map[string]string{"com.docker.network.bridge.name": "br-app"}}, errdefs.IsPermissionDenied},
		{"long bridge", network.CreateRequest{Name: "x", Options: map[string]string{"com.docker.network.bridge.name": "br-0123456789abcdef"}}, errdefs.IsInvalidArgument},
		{"mode", network.CreateRequest{Name: "x", Options: map[string]string{"com.docker.network.bridge.gateway_mode_ipv4": "half"}}, errdefs.IsInvalidArgument},
		{"config only", network.CreateRequest{Name: "x", ConfigOnly: true}, errdefs.IsNotImplemented},
	} {
		if _, err := m.Create(t.Context(), c.req); err == nil || !c.is(err) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if diff := cmp.Diff([]string{"br-app", "lo", "porthole0"}, sorted(linkNames(t, handleIn(t, host)))); diff != "" {
		t.Errorf("interfaces (-want +got):\n%s", diff)
	}
	if entries, _ := os.ReadDir(filepath.Join(m.opts.StatePath, "networks")); len(entries) != 1 {
		t.Errorf("%d networks are saved, want one", len(entries))
	}
}

func sorted(list []string) []string {
	slices.Sort(list)
	return list
}

// TestSeveralNetworks connects a container with two, and takes it off one.
func TestSeveralNetworks(t *testing.T) {
	host, inside := testenv.NetNS(t), testenv.NetNS(t)
	m := open(t, host)
	create(t, m, network.CreateRequest{Name: "aaa", EnableIPv6: yes(), IPAM: subnets("10.9.0.0/24", "fd00:9::/64")})
	create(t, m, network.CreateRequest{Name: "bbb", IPAM: subnets("10.10.0.0/24")})
	create(t, m, network.CreateRequest{Name: "in", Internal: true, IPAM: subnets("10.11.0.0/24")})
	connect := func(name string, priority int) Endpoint {
		t.Helper()
		ep, err := m.Attach(t.Context(), AttachSpec{ContainerID: "one", Network: name, NetNS: inside, Priority: priority})
		if err != nil {
			t.Fatal(err)
		}
		return ep
	}
	want := func(gateway4, gateway6 string) {
		t.Helper()
		for family, want := range map[int]string{unix.AF_INET: gateway4, unix.AF_INET6: gateway6} {
			routes, err := handleIn(t, inside).RouteList(nil, family)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for _, r := range routes {
				if r.Gw != nil && isDefaultRoute(r) {
					got.WriteString(r.Gw.String())
				}
			}
			if got.String() != want {
				t.Errorf("default route by %q, want %q", got.String(), want)
			}
		}
	}
	connect("in", 99)
	want("", "")
	connect("bbb", 0)
	want("10.10.0.1", "")
	if ep := connect("aaa", 0); ep.Interface != "eth2" || ep.IPv6.String() != "fd00:9::2/64" {
		t.Errorf("third endpoint is %+v", ep)
	}
	want("10.9.0.1", "fd00:9::1") // the first by name
	if err := m.Leave(t.Context(), "one", "aaa", inside); err != nil {
		t.Fatal(err)
	}
	want("10.10.0.1", "")
	if ep := connect("aaa", -1); ep.Interface != "eth2" {
		t.Errorf("the interface is %s, want eth2 again", ep.Interface)
	}
	want("10.10.0.1", "fd00:9::1")
	if err := m.Leave(t.Context(), "one", "nosuch", inside); !errdefs.IsNotFound(err) {
		t.Errorf("Leave of an unknown network: %v", err)
	}
	if err := m.Remove(t.Context(), "bbb"); !errdefs.IsPermissionDenied(err) {
		t.Errorf("Remove of a network in use: %v", err)
	}
	if err := m.Detach(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"aaa", "bbb", "in"} {
		if err := m.Remove(t.Context(), name); err != nil {
			t.Errorf("Remove %s: %v", name, err)
		}
	}
	if diff := cmp.Diff([]string{"lo", "porthole0"}, sorted(linkNames(t, handleIn(t, host)))); diff != "" {
		t.Errorf("interfaces (-want +got):\n%s", diff)
	}
}

// TestReopenNetworks has the next daemon make what is missing.
func TestReopenNetworks(t *testing.T) {
	host := testenv.NetNS(t)
	state := filepath.Join(t.TempDir(), "network")
	same := func(o *Options) { o.StatePath = state }
	first := open(t, host, same)
	id := create(t, first, network.CreateRequest{Name: "app", IPAM: subnets("10.9.0.0/24"), Labels: map[string]string{"a": "b"}})
	before, err := first.Inspect("app")
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	h := handleIn(t, host)
	link, err := h.LinkByName("br-" + id[:12])
	if err == nil {
		err = h.LinkDel(link)
	}
	if err != nil {
		t.Fatal(err)
	}
	second := open(t, host, same)
	if err := second.Reconcile(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	after, err := second.Inspect(id[:10])
	if err != nil {
		t.Fatal(err)
	}
	eq := cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}
	if diff := cmp.Diff(before, after, eq); diff != "" {
		t.Errorf("the network (-before +after):\n%s", diff)
	}
	if _, err := second.Attach(t.Context(), AttachSpec{ContainerID: "one", Network: "app", NetNS: testenv.NetNS(t)}); err != nil {
		t.Error(err)
	}
	second.mu.Lock()
	rules := second.rules()
	second.mu.Unlock()
	if there, err := nft.Present(host, rules); err != nil || !there {
		t.Errorf("the firewall's table is there: %v, %v", there, err)
	}
}

// TestUnmovedInterface has a daemon that died before it could move an interface
// into its container.
func TestUnmovedInterface(t *testing.T) {
	host := testenv.NetNS(t)
	state := filepath.Join(t.TempDir(), "network")
	same := func(o *Options) { o.StatePath = state }
	first := open(t, host, same)
	create(t, first, network.CreateRequest{Name: "vlan", Driver: "macvlan", IPAM: subnets("10.9.0.0/24")})
	ep, err := first.Attach(t.Context(), AttachSpec{ContainerID: "one", Network: "vlan", NetNS: testenv.NetNS(t)})
	if err != nil {
		t.Fatal(err)
	}
	h := handleIn(t, host)
	before := sorted(linkNames(t, h))
	n, err := first.find("vlan")
	if err != nil {
		t.Fatal(err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex = "ph"+ep.EndpointID[:12], int(n.link.Index)
	if err := h.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := open(t, host, same)
	if err := second.Reconcile(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, sorted(linkNames(t, h))); diff != "" {
		t.Errorf("interfaces (-want +got):\n%s", diff)
	}
}

// TestFailedSave breaks the creation and the removal of a network at each write of its record: what failed has not
// happened, neither now nor for the next daemon.
func TestFailedSave(t *testing.T) {
	host := testenv.NetNS(t)
	state := filepath.Join(t.TempDir(), "network")
	m := open(t, host, func(o *Options) { o.StatePath = state })
	saved := func() int {
		t.Helper()
		list, err := m.store.loadRecords()
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	for _, point := range []string{"network.rename", "network.sync"} {
		restore := failpoint.Fail(point, unix.ENOSPC)
		_, err := m.Create(t.Context(), network.CreateRequest{Name: "app"})
		restore()
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("%s: the creation says %v, want %v", point, err, unix.ENOSPC)
		}
		if n := saved(); n != 0 {
			t.Errorf("%s: %d records are left", point, n)
		}
	}
	id := create(t, m, network.CreateRequest{Name: "app"})
	for _, point := range []string{"network.remove", "network.removed"} {
		restore := failpoint.Fail(point, unix.EIO)
		err := m.Remove(t.Context(), "app")
		restore()
		if !errors.Is(err, unix.EIO) {
			t.Fatalf("%s: the removal says %v, want %v", point, err, unix.EIO)
		}
		if n := saved(); n != 1 {
			t.Errorf("%s: after a removal that failed there are %d records, want 1", point, n)
		}
	}
	// It is still one to be used, and to be removed.
	if _, err := m.Attach(t.Context(), AttachSpec{ContainerID: "one", Network: "app", NetNS: testenv.NetNS(t)}); err != nil {
		t.Error(err)
	}
	if err := m.Detach(t.Context(), "one"); err != nil {
		t.Error(err)
	}
	if err := m.Remove(t.Context(), id); err != nil {
		t.Error(err)
	}
	if n := saved(); n != 0 {
		t.Errorf("after the removal %d records are left", n)
	}
}

// TestStayingFiles: what a disk does not let go of is removed later, but not if it was written anew.
func TestStayingFiles(t *testing.T) {
	dir := t.TempDir()
	s, err := openStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	leased := func(id string) lease { return lease{Endpoint: Endpoint{EndpointID: id}} }
	for _, id := range []string{"gone", "again"} {
		if err := s.saveLease(leased(id)); err != nil {
			t.Fatal(err)
		}
	}
	restore := failpoint.Fail("network.forget", unix.EIO)
	for _, id := range []string{"gone", "again"} {
		if err := s.removeLease(leased(id)); !errors.Is(err, unix.EIO) {
			t.Errorf("the removal says %v, want %v", err, unix.EIO)
		}
	}
	restore()
	if err := s.saveLease(leased("again")); err != nil {
		t.Fatal(err)
	}
	var left []string
	for range 200 {
		if left, err = filepath.Glob(filepath.Join(dir, "leases", "*")); err != nil {
			t.Fatal(err)
		}
		if len(left) == 1 {
			break
		}
		<-time.After(100 * time.Millisecond)
	}
	if diff := cmp.Diff([]string{filepath.Join(dir, "leases", "again.json")}, left); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// TestTornWrites has a daemon that was killed as it wrote: the next one removes the files.
func TestTornWrites(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".new-123"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openStore(dir); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".new-*")); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
}
