package network

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// EnsureDefault makes the default bridge as it should be, whatever is there of
// it: the link, its address, forwarding, and the firewall's rules; and the
// networks that users have made. It may be called again to mend them.
//
// Errors: Conflict when another daemon in this network namespace has the
// bridge, NotImplemented when the kernel has no nftables or no bridges. A
// network of a user that cannot be made is logged, and is no error.
func (m *Manager) EnsureDefault(ctx context.Context) error {
	m.changing.Lock()
	defer m.changing.Unlock()
	if err := m.claimBridge(); err != nil {
		return err
	}
	h, err := m.handle()
	if err != nil {
		return err
	}
	defer h.Close()

	state, err := m.chooseSubnet(h)
	if err != nil {
		return err
	}
	if err := m.adoptSubnet(state); err != nil {
		return err
	}
	n := m.defaultNetwork()
	if n.link, err = m.ensureNetwork(h, n); err != nil {
		return err
	}
	m.mu.Lock()
	m.bridge = n.link
	m.nets[n.ID] = n
	m.mu.Unlock()
	m.ensureOthers(h)
	if err := m.applyRules(); err != nil {
		return err
	}
	m.log.Debug("default bridge is ready", "bridge", m.opts.Bridge, "subnet", state.Subnet.String(), "mtu", n.link.MTU)
	return ctx.Err()
}

// defaultNetwork is the default bridge in the form of a network.
func (m *Manager) defaultNetwork() *netw {
	m.mu.Lock()
	defer m.mu.Unlock()
	opts, _ := parseOptions(DriverBridge, nil) // nothing in it can be wrong
	opts.masquerade = !m.opts.NoMasquerade
	opts.mtu = m.opts.MTU
	opts.icc, opts.binding = !m.opts.Default.Apart, m.opts.Default.Binding
	subnets := []Subnet{{Prefix: m.net.Subnet, Gateway: m.net.Gateway, Range: m.opts.Default.Range}}
	if m.opts.Default.IPv6 {
		six := Subnet{Prefix: m.net.Subnet6}
		six.Gateway = firstAddress(six)
		subnets = append(subnets, six)
	}
	return &netw{
		Record: Record{
			Version: stateVersion, ID: m.net.BridgeID, Name: BridgeNetwork, Driver: DriverBridge, Created: m.net.Created,
			IPv4: true, IPv6: m.opts.Default.IPv6, Interface: m.opts.Bridge, Subnets: subnets,
		},
		opts: opts,
	}
}

// ensureOthers makes the interfaces of users' networks.
func (m *Manager) ensureOthers(h *netlink.Handle) {
	m.mu.Lock()
	var others []*netw
	for _, n := range m.nets {
		if n.ID != m.net.BridgeID {
			others = append(others, n)
		}
	}
	m.mu.Unlock()
	for _, old := range others {
		n := *old
		link, err := m.ensureNetwork(h, &n)
		if err != nil {
			m.log.Error("network cannot be used", "network", n.Name, "err", err)
		}
		n.link = link
		m.setNetwork(&n)
	}
}

// ensureNetwork makes a network's interface as it should be.
func (m *Manager) ensureNetwork(h *netlink.Handle, n *netw) (bridgeLink, error) {
	mtu := n.opts.mtu
	if mtu == 0 {
		mtu = m.opts.MTU
	}
	if mtu == 0 {
		mtu = defaultRouteMTU(h)
	}
	if n.Driver != DriverBridge {
		return m.ensureParent(h, n)
	}
	link, err := ensureBridge(h, n.Interface, mtu)
	if err != nil {
		return bridgeLink{}, err
	}
	var wants []netip.Prefix
	if n.IPv6 {
		wants = append(wants, linkLocalGateway)
	}
	for _, s := range n.Subnets {
		if n.mode(s.Prefix.Addr().Is6()) != modeIsolated {
			wants = append(wants, netip.PrefixFrom(s.Gateway, s.Prefix.Bits()))
		}
	}
	err = inNetNS(m.netns, func() error { return allowRouting(n) })
	if err == nil {
		err = ensureAddresses(h, link, wants)
	}
	return bridgeLink{Index: uint32(link.Attrs().Index), MTU: uint32(mtu)}, err
}

// linkLocalGateway is what a bridge with IPv6 asks for its neighbours with. One
// that the kernel made would be of no use for two seconds, until the kernel knew
// that nobody else had it.
var linkLocalGateway = netip.MustParsePrefix("fe80::1/64")

// mode is the gateway mode of one family.
func (n *netw) mode(is6 bool) string {
	if is6 {
		return n.opts.mode6
	}
	return n.opts.mode4
}

// claimBridge takes a name in the network namespace that only one process can
// have, and that ends with the process however it ends.
func (m *Manager) claimBridge() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.claim != nil {
		return nil
	}
	return inNetNS(m.netns, func() error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("claim bridge %s: %w", m.opts.Bridge, err)
		}
		f := os.NewFile(uintptr(fd), "claim of "+m.opts.Bridge)
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: "@porthole/bridge/" + m.opts.Bridge})
		if errors.Is(err, unix.EADDRINUSE) {
			return errors.Join(errdefs.ErrConflict.WithMessage("bridge "+m.opts.Bridge+" belongs to another daemon in this network namespace; give this one another with --bridge"), f.Close())
		}
		if err != nil {
			return errors.Join(fmt.Errorf("claim bridge %s: %w", m.opts.Bridge, err), f.Close())
		}
		m.claim = f
		return nil
	})
}

// adoptSubnet saves the network if anything in it is new. Leases out of the
// subnet cannot be kept.
func (m *Manager) adoptSubnet(n networkState) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n != m.net {
		if err := m.store.saveNetwork(n); err != nil {
			return fmt.Errorf("save network state: %w", err)
		}
	}
	m.net = n
	return nil
}

// ensureBridge returns the bridge, made if needed, and up.
func ensureBridge(h *netlink.Handle, name string, mtu int) (netlink.Link, error) {
	link, err := h.LinkByName(name)
	var missing netlink.LinkNotFoundError
	switch {
	case errors.As(err, &missing):
		return newBridge(h, name, mtu)
	case err != nil:
		return nil, fmt.Errorf("find bridge %s: %w", name, err)
	case link.Type() != "bridge":
		return nil, errdefs.ErrConflict.WithMessage(fmt.Sprintf("interface %s is a %s, not a bridge", name, link.Type()))
	}
	if link.Attrs().MTU != mtu {
		if err := h.LinkSetMTU(link, mtu); err != nil {
			return nil, fmt.Errorf("set MTU of bridge %s: %w", name, err)
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("set up bridge %s: %w", name, err)
	}
	return link, nil
}

func newBridge(h *netlink.Handle, name string, mtu int) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, mtu
	// Without an address of its own a bridge takes the lowest of its ports and
	// changes it as they come and go.
	attrs.HardwareAddr = randomMAC()
	br := &netlink.Bridge{LinkAttrs: attrs}
	err := h.LinkAdd(br)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, errdefs.ErrNotImplemented.WithMessage("create bridge " + name + ": the kernel has no bridges (module bridge)")
	}
	if err != nil {
		return nil, fmt.Errorf("create bridge %s: %w", name, err)
	}
	if err := h.LinkSetIP6AddrGenMode(br, addrGenModeNone); err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
		return nil, errors.Join(fmt.Errorf("create bridge %s: %w", name, err), h.LinkDel(br))
	}
	if err := h.LinkSetUp(br); err != nil {
		return nil, errors.Join(fmt.Errorf("set up bridge %s: %w", name, err), h.LinkDel(br))
	}
	return h.LinkByName(name)
}

// ensureAddresses leaves wants as the only addresses of the link, besides those
// that IPv6 makes for itself.
func ensureAddresses(h *netlink.Handle, link netlink.Link, wants []netip.Prefix) error {
	addrs, err := dump(func() ([]netlink.Addr, error) { return h.AddrList(link, unix.AF_UNSPEC) })
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", link.Attrs().Name, err)
	}
	have := map[string]bool{}
	for _, a := range addrs {
		have[a.IPNet.String()] = true
		if a.IP.To4() == nil && a.IP.IsLinkLocalUnicast() {
			continue
		}
		if slices.ContainsFunc(wants, func(p netip.Prefix) bool { return p.String() == a.IPNet.String() }) {
			continue
		}
		if err := h.AddrDel(link, &a); err != nil {
			return fmt.Errorf("remove address %s of %s: %w", a.IPNet, link.Attrs().Name, err)
		}
	}
	for _, want := range wants {
		if have[want.String()] {
			continue
		}
		if err := h.AddrAdd(link, linkAddress(want)); err != nil {
			return fmt.Errorf("add address %s to %s: %w", want, link.Attrs().Name, err)
		}
	}
	return nil
}

func linkAddress(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if p.Addr().Is4() {
		a.Broadcast = broadcast(p)
	} else {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

// allowRouting lets the kernel route between a network and the rest.
func allowRouting(n *netw) error {
	if n.IPv4 {
		if err := setSysctl("net/ipv4/ip_forward", "1"); err != nil {
			return err
		}
	}
	if !n.IPv6 {
		return nil
	}
	for _, s := range []struct{ path, value string }{
		{"net/ipv6/conf/all/forwarding", "1"},
		{"net/ipv6/conf/" + n.Interface + "/disable_ipv6", "0"},
		{"net/ipv6/conf/" + n.Interface + "/accept_ra", "0"},
	} {
		if err := setSysctl(s.path, s.value); err != nil {
			return err
		}
	}
	return nil
}

// setSysctl writes what is not so already: /proc/sys may be read-only and right.
func setSysctl(name, value string) error {
	path := "/proc/sys/" + name
	now, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read setting %s: %w", name, err)
	}
	if strings.TrimSpace(string(now)) == value {
		return nil
	}
	if err := os.WriteFile(path, []byte(value+"\n"), 0o644); err != nil {
		return fmt.Errorf("change setting %s: %w", name, err)
	}
	return nil
}

func randomMAC() net.HardwareAddr {
	mac := make(net.HardwareAddr, 6)
	_, _ = rand.Read(mac)        // never fails, see crypto/rand
	mac[0] = mac[0]&^0x01 | 0x02 // unicast, locally administered
	return mac
}
