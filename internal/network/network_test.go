package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/network/keeper"
	"github.com/portholehq/porthole/internal/network/nft"
	"github.com/portholehq/porthole/internal/testenv"
)

// TestMain makes the test binary run as the keeper, too.
func TestMain(m *testing.M) {
	if os.Args[0] == keeper.Name {
		os.Exit(keeper.Main(os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// open returns a Manager in ns whose default bridge is ready.
func open(t testing.TB, ns *os.File, change ...func(*Options)) *Manager {
	t.Helper()
	o := Options{StatePath: filepath.Join(t.TempDir(), "network"), NetNS: ns}
	for _, c := range change {
		c(&o)
	}
	m, err := Open(o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	if err := m.EnsureDefault(t.Context()); err != nil {
		t.Fatalf("EnsureDefault: %v", err)
	}
	return m
}

func attach(t testing.TB, m *Manager, id string, ns *os.File) Endpoint {
	t.Helper()
	ep, err := m.Attach(t.Context(), AttachSpec{ContainerID: id, Name: "name-" + id, NetNS: ns})
	if err != nil {
		t.Fatalf("Attach: %v", err)
	}
	return ep
}

// handleIn returns a netlink handle in ns.
func handleIn(t testing.TB, ns *os.File) *netlink.Handle {
	t.Helper()
	h, err := netlink.NewHandleAt(nsHandle(ns), unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func linkNames(t testing.TB, h *netlink.Handle) (names []string) {
	t.Helper()
	links, err := h.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		names = append(names, l.Attrs().Name)
	}
	return names
}

func TestAttach(t *testing.T) {
	host, inside := testenv.NetNS(t), testenv.NetNS(t)
	m := open(t, host)
	ep := attach(t, m, "one", inside)

	want := Endpoint{
		EndpointID: ep.EndpointID, NetworkID: m.net.BridgeID, Network: "bridge", Driver: "bridge", Interface: "eth0", HostInterface: "veth" + ep.EndpointID[:11],
		IPv4: netip.MustParsePrefix("172.30.0.2/16"), Gateway: netip.MustParseAddr("172.30.0.1"),
		Host: netip.MustParseAddr("172.30.0.1"),
		MAC:  net.HardwareAddr{0x02, 0x42, 172, 30, 0, 2}, MTU: 1500,
	}
	if diff := cmp.Diff(want, ep, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("endpoint (-want +got):\n%s", diff)
	}

	h := handleIn(t, inside)
	link, err := h.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	if a := link.Attrs(); a.HardwareAddr.String() != ep.MAC.String() || a.MTU != 1500 || a.Flags&net.FlagUp == 0 {
		t.Errorf("eth0 has address %s, MTU %d, flags %s", a.HardwareAddr, a.MTU, a.Flags)
	}
	addrs, err := h.AddrList(link, unix.AF_UNSPEC)
	if err != nil {
		t.Fatal(err)
	}
	if len(addrs) != 1 || addrs[0].IPNet.String() != "172.30.0.2/16" || addrs[0].Broadcast.String() != "172.30.255.255" {
		t.Errorf("addresses of eth0 are %v, want 172.30.0.2/16 alone", addrs)
	}
	routes, err := h.RouteList(link, unix.AF_INET)
	if err != nil {
		t.Fatal(err)
	}
	var gateways []string
	for _, r := range routes {
		if r.Gw != nil {
			gateways = append(gateways, r.Gw.String())
		}
	}
	if diff := cmp.Diff([]string{"172.30.0.1"}, gateways); diff != "" {
		t.Errorf("gateways (-want +got):\n%s", diff)
	}
}

// TestAttachWithoutIPv6 has interfaces that the kernel's IPv6 does not serve: an
// MTU below 1280 is too small for it.
func TestAttachWithoutIPv6(t *testing.T) {
	host, inside := testenv.NetNS(t), testenv.NetNS(t)
	m := open(t, host, func(o *Options) { o.MTU = 1000 })
	if ep := attach(t, m, "one", inside); ep.MTU != 1000 {
		t.Errorf("MTU is %d, want 1000", ep.MTU)
	}
}

func TestDetachFreesAddress(t *testing.T) {
	host, inside := testenv.NetNS(t), testenv.NetNS(t)
	m := open(t, host)
	attach(t, m, "one", inside)
	if err := m.Detach(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	if err := m.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"lo"}, linkNames(t, handleIn(t, inside))); diff != "" {
		t.Errorf("interfaces in the container (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"lo", "porthole0"}, linkNames(t, handleIn(t, host))); diff != "" {
		t.Errorf("interfaces on the host (-want +got):\n%s", diff)
	}
	if entries, _ := os.ReadDir(filepath.Join(m.opts.StatePath, "leases")); len(entries) != 0 {
		t.Errorf("%d leases are left", len(entries))
	}
	if ep := attach(t, m, "two", inside); ep.IPv4.Addr().String() != "172.30.0.2" {
		t.Errorf("second container has %s, want the freed 172.30.0.2", ep.IPv4)
	}
	if err := m.Detach(t.Context(), "no such"); err != nil {
		t.Errorf("Detach of an unknown container: %v", err)
	}
}

func TestAttachAgainAtOnce(t *testing.T) {
	host := testenv.NetNS(t)
	m := open(t, host)
	for range 5 {
		attach(t, m, "one", testenv.NetNS(t))
	}
	if err := m.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(linkNames(t, handleIn(t, host))); n != 3 {
		t.Errorf("%d interfaces on the host, want lo, bridge and one port", n)
	}
	if len(m.Endpoints("one")) != 1 {
		t.Error("the last endpoint is not known")
	}
}

func TestMany(t *testing.T) {
	const n = 150 // more than one batch of the reaper
	host := testenv.NetNS(t)
	m := open(t, host)
	seen := make(map[netip.Addr]bool)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range n {
		ns := testenv.NetNS(t)
		wg.Go(func() {
			ep, err := m.Attach(t.Context(), AttachSpec{ContainerID: fmt.Sprint(i), NetNS: ns})
			mu.Lock()
			defer mu.Unlock()
			if err != nil || seen[ep.IPv4.Addr()] {
				t.Errorf("container %d: address %s, error %v", i, ep.IPv4, err)
			}
			seen[ep.IPv4.Addr()] = true
		})
	}
	wg.Wait()
	for i := range n {
		if err := m.Detach(t.Context(), fmt.Sprint(i)); err != nil {
			t.Error(err)
		}
	}
	if err := m.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"lo", "porthole0"}, linkNames(t, handleIn(t, host))); diff != "" {
		t.Errorf("interfaces on the host (-want +got):\n%s", diff)
	}
	if len(m.taken) != 0 || len(m.leases) != 0 || len(m.live) != 0 {
		t.Errorf("%d addresses, %d leases, %d containers are left", len(m.taken), len(m.leases), len(m.live))
	}
}

func TestReopen(t *testing.T) {
	host := testenv.NetNS(t)
	state := filepath.Join(t.TempDir(), "network")
	same := func(o *Options) { o.StatePath = state }
	first := open(t, host, same)
	stays := attach(t, first, "stays", testenv.NetNS(t))
	attach(t, first, "ended", testenv.NetNS(t))
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	// An interface that a crash left: its lease never came to be or is lost.
	stray := vethSpec{Host: "vethstray", Peer: "eth0", PeerMAC: randomMAC(), PeerNS: testenv.NetNS(t), MTU: 1500}
	r, err := dialRTNL(host)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.do(newVeth(stray), upOnBridge("vethstray", first.bridge.Index, "")); err != nil {
		t.Fatal(err)
	}

	second := open(t, host, same)
	if err := second.Reconcile(t.Context(), map[string]bool{"stays": true}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"lo", "porthole0", stays.HostInterface}, linkNames(t, handleIn(t, host))); diff != "" {
		t.Errorf("interfaces (-want +got):\n%s", diff)
	}
	if first.net != second.net {
		t.Errorf("network changed from %+v to %+v", first.net, second.net)
	}
	if ep := second.Endpoints("stays"); len(ep) != 1 || ep[0].EndpointID != stays.EndpointID {
		t.Errorf("endpoint of the running container is %+v", ep)
	}
	if ep := attach(t, second, "new", testenv.NetNS(t)); ep.IPv4.Addr() == stays.IPv4.Addr() {
		t.Errorf("new container has the address %s of the running one", ep.IPv4)
	}
}

func TestVoidLeases(t *testing.T) {
	dir := t.TempDir()
	st, err := openStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	good := lease{Container: "good", Endpoint: Endpoint{EndpointID: "e1", IPv4: netip.MustParsePrefix("10.0.0.2/8")}}
	if err := st.saveLease(good); err != nil {
		t.Fatal(err)
	}
	old := lease{Container: "old", Endpoint: Endpoint{EndpointID: "e2", IPv4: netip.MustParsePrefix("10.0.0.3/8")}}
	before := &store{dir: dir, bootID: "an earlier boot"}
	if err := before.saveLease(old); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"torn": `{"vers`, "empty": "", "e9": `{"version":9}`} {
		if err := os.WriteFile(filepath.Join(dir, "leases", name+".json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m, err := Open(Options{StatePath: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if len(m.leases) != 1 || m.live[liveKey{"good", ""}] == nil {
		t.Errorf("leases are %v, want the one of this boot", m.leases)
	}
	if entries, _ := os.ReadDir(filepath.Join(dir, "leases")); len(entries) != 1 {
		t.Errorf("%d lease files, want 1", len(entries))
	}
}

func TestFailedAttachLeavesNothing(t *testing.T) {
	host := testenv.NetNS(t)
	m := open(t, host)
	inside := testenv.NetNS(t)
	h := handleIn(t, inside)
	if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}}); err != nil {
		t.Fatal(err)
	}
	notANamespace, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer notANamespace.Close()
	for name, ns := range map[string]*os.File{"eth0 is there": inside, "not a namespace": notANamespace} {
		if _, err := m.Attach(t.Context(), AttachSpec{ContainerID: "c", NetNS: ns}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := m.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"lo", "porthole0"}, linkNames(t, handleIn(t, host))); diff != "" {
		t.Errorf("interfaces on the host (-want +got):\n%s", diff)
	}
	if len(m.taken)+len(m.leases)+len(m.live) != 0 {
		t.Error("a lease is left")
	}
}

func TestRefusals(t *testing.T) {
	host := testenv.NetNS(t)
	small := func(o *Options) { o.BIP = netip.MustParsePrefix("10.7.0.2/30") }
	m := open(t, host, small)
	attach(t, m, "only", testenv.NetNS(t))
	for _, c := range []struct {
		name string
		spec AttachSpec
		is   func(error) bool
		text string
	}{
		{"full", AttachSpec{}, errdefs.IsUnavailable, "no available IPv4 addresses on this network's address pools: bridge (" + m.net.BridgeID + ")"},
		{"unknown network", AttachSpec{Network: "backend"}, errdefs.IsNotFound, "network backend not found"},
		{"host", AttachSpec{Network: "host"}, errdefs.IsInvalidArgument, "network host has no interfaces to attach"},
		{"taken", AttachSpec{IPv4: netip.MustParseAddr("10.7.0.1")}, errdefs.IsAlreadyExists, "Address already in use"},
		{"gateway", AttachSpec{IPv4: netip.MustParseAddr("10.7.0.2")}, errdefs.IsInvalidArgument, "address 10.7.0.2 cannot be given to a container in subnet 10.7.0.0/30"},
	} {
		c.spec.ContainerID, c.spec.NetNS = "more", testenv.NetNS(t)
		_, err := m.Attach(t.Context(), c.spec)
		if err == nil || !c.is(err) || err.Error() != c.text {
			t.Errorf("%s: error %v, want %q", c.name, err, c.text)
		}
	}
}

func TestTwoDaemons(t *testing.T) {
	one, two := testenv.NetNS(t), testenv.NetNS(t)
	open(t, one)
	open(t, two) // another namespace: no clash

	third, err := Open(Options{StatePath: t.TempDir(), NetNS: one})
	if err != nil {
		t.Fatal(err)
	}
	defer third.Close()
	if err := third.EnsureDefault(t.Context()); !errdefs.IsConflict(err) {
		t.Errorf("second daemon in one namespace: error %v, want a conflict", err)
	}
	open(t, one, func(o *Options) { o.Bridge = "other0" })
}

func TestChooseSubnet(t *testing.T) {
	host := testenv.NetNS(t)
	h := handleIn(t, host)
	dummy := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "eth9", MTU: 1400}}
	if err := h.LinkAdd(dummy); err != nil {
		t.Fatal(err)
	}
	addr, _ := netlink.ParseAddr("172.30.5.5/24")
	if err := errors.Join(h.AddrAdd(dummy, addr), h.LinkSetUp(dummy)); err != nil {
		t.Fatal(err)
	}
	_, all, _ := net.ParseCIDR("0.0.0.0/0")
	_, vpn, _ := net.ParseCIDR("172.31.0.0/20")
	gw := net.ParseIP("172.30.5.1")
	if err := errors.Join(h.RouteAdd(&netlink.Route{Dst: all, Gw: gw}), h.RouteAdd(&netlink.Route{Dst: vpn, Gw: gw, Table: 77})); err != nil {
		t.Fatal(err)
	}
	m := open(t, host)
	if got := m.net.Subnet.String(); got != "172.29.0.0/16" {
		t.Errorf("subnet is %s, want 172.29.0.0/16: 172.30 is an address, 172.31 a route", got)
	}
	if ep := attach(t, m, "c", testenv.NetNS(t)); ep.MTU != 1400 {
		t.Errorf("MTU is %d, want 1400 as the default route has", ep.MTU)
	}
}

func TestCheckBIP(t *testing.T) {
	for bip, ok := range map[string]bool{
		"10.9.0.1/24": true, "10.9.0.0/24": false, "10.9.0.255/24": false, "10.9.0.1/31": false, "10.0.0.1/4": false, "fd00::1/64": false,
	} {
		if err := checkBIP(netip.MustParsePrefix(bip)); (err == nil) != ok {
			t.Errorf("checkBIP(%s) = %v", bip, err)
		}
	}
}

func TestBridgeIsMended(t *testing.T) {
	host := testenv.NetNS(t)
	m := open(t, host, func(o *Options) { o.MTU = 1280 })
	h := handleIn(t, host)
	br, err := h.LinkByName("porthole0")
	if err != nil {
		t.Fatal(err)
	}
	wrong, _ := netlink.ParseAddr("10.99.0.1/24")
	if err := errors.Join(h.AddrAdd(br, wrong), h.LinkSetDown(br), h.LinkSetMTU(br, 1500)); err != nil {
		t.Fatal(err)
	}
	if err := m.EnsureDefault(t.Context()); err != nil {
		t.Fatal(err)
	}
	br, err = h.LinkByName("porthole0")
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := h.AddrList(br, unix.AF_INET)
	if err != nil {
		t.Fatal(err)
	}
	if len(addrs) != 1 || addrs[0].IPNet.String() != "172.30.0.1/16" || br.Attrs().MTU != 1280 || br.Attrs().Flags&net.FlagUp == 0 {
		t.Errorf("bridge has addresses %v, MTU %d, flags %s", addrs, br.Attrs().MTU, br.Attrs().Flags)
	}
}

// TestMasquerade sends a packet from a container to a host behind the router,
// which has no route back: only with its source rewritten is it answered.
func TestMasquerade(t *testing.T) {
	host, outside, inside := testenv.NetNS(t), testenv.NetNS(t), testenv.NetNS(t)
	r, err := dialRTNL(host)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.do(newVeth(vethSpec{Host: "up0", Peer: "wan0", PeerMAC: randomMAC(), PeerNS: outside, MTU: 1500})); err != nil {
		t.Fatal(err)
	}
	setUp(t, handleIn(t, host), "up0", "198.51.100.1/24")
	setUp(t, handleIn(t, outside), "wan0", "198.51.100.2/24")
	m := open(t, host)
	attach(t, m, "c", inside)

	var ln net.PacketConn
	testenv.InNetNS(t, outside, func() (err error) {
		ln, err = net.ListenPacket("udp4", "198.51.100.2:9")
		return err
	})
	defer ln.Close()
	testenv.InNetNS(t, inside, func() error {
		c, err := net.Dial("udp4", "198.51.100.2:9")
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("hello"))
		return err
	})
	buf := make([]byte, 16)
	if err := ln.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, from, err := ln.ReadFrom(buf)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(from.String(), "198.51.100.1:") {
		t.Errorf("packet came from %s, want the router's 198.51.100.1", from)
	}
}

func TestNoMasquerade(t *testing.T) {
	host := testenv.NetNS(t)
	state := t.TempDir()
	tables := func() (names []string) {
		t.Helper()
		conn, err := nftables.New(nftables.WithNetNSFd(int(host.Fd())))
		if err != nil {
			t.Fatal(err)
		}
		all, err := conn.ListTables()
		if err != nil {
			t.Fatal(err)
		}
		for _, table := range all {
			names = append(names, table.Name)
		}
		return names
	}
	m := open(t, host, func(o *Options) { o.StatePath = state })
	if diff := cmp.Diff([]string{"porthole"}, tables()); diff != "" {
		t.Errorf("tables (-want +got):\n%s", diff)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, host, func(o *Options) { o.StatePath = state; o.NoMasquerade = true })
	if got := tables(); len(got) != 0 {
		t.Errorf("tables without masquerading: %v", got)
	}
}

// TestRulesAreRestored flushes the ruleset, as many firewalls do when they are
// reloaded.
func TestRulesAreRestored(t *testing.T) {
	host := testenv.NetNS(t)
	m := open(t, host)
	conn, err := nftables.New(nftables.WithNetNSFd(int(host.Fd())))
	if err != nil {
		t.Fatal(err)
	}
	conn.FlushRuleset()
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	rules := m.rules()
	if there, err := nft.Present(host, rules); err != nil || there {
		t.Fatalf("right after the flush the table is there: %v, %v", there, err)
	}
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		there, err := nft.Present(host, rules)
		if err != nil {
			t.Fatal(err)
		}
		if there {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the table did not come back")
		}
	}
}

func setUp(t *testing.T, h *netlink.Handle, name, cidr string) {
	t.Helper()
	link, err := h.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.AddrAdd(link, addr), h.LinkSetUp(link)); err != nil {
		t.Fatal(err)
	}
}

func TestViews(t *testing.T) {
	m := open(t, testenv.NetNS(t))
	attach(t, m, "c", testenv.NetNS(t))
	var names []string
	for _, n := range m.List() {
		names = append(names, n.Name+" "+n.Driver)
	}
	if diff := cmp.Diff([]string{"bridge bridge", "host host", "none null"}, names); diff != "" {
		t.Errorf("networks (-want +got):\n%s", diff)
	}
	in, err := m.Inspect("bridge")
	if err != nil {
		t.Fatal(err)
	}
	if c := in.Containers["c"]; c.Name != "name-c" || c.IPv4Address.String() != "172.30.0.2/16" {
		t.Errorf("container on the bridge is %+v", c)
	}
	if _, err := m.Inspect("x"); !errdefs.IsNotFound(err) {
		t.Errorf("Inspect of an unknown network: %v", err)
	}
}

func BenchmarkAttach(b *testing.B) {
	m := open(b, testenv.NetNS(b))
	spaces := make([]*os.File, 64)
	for i := range spaces {
		spaces[i] = testenv.NetNS(b)
	}
	i := 0
	for b.Loop() {
		id := fmt.Sprint(i % len(spaces))
		if _, err := m.Attach(b.Context(), AttachSpec{ContainerID: id, NetNS: spaces[i%len(spaces)]}); err != nil {
			b.Fatal(err)
		}
		i++
		if i%len(spaces) == 0 {
			b.StopTimer()
			for j := range spaces {
				if err := m.Detach(b.Context(), fmt.Sprint(j)); err != nil {
					b.Fatal(err)
				}
			}
			if err := m.Settle(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	}
}
