package network

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/network/nft"
)

// EnsureDefault makes the default bridge as it should be, whatever is there of
// it: the link, its address, forwarding, and the masquerading rules. It may be
// called again to mend them.
//
// Errors: Conflict when another daemon in this network namespace has the
// bridge, NotImplemented when the kernel has no nftables or no bridges.
func (m *Manager) EnsureDefault(ctx context.Context) error {
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
	mtu := m.opts.MTU
	if mtu == 0 {
		mtu = defaultRouteMTU(h)
	}
	link, err := ensureBridge(h, m.opts.Bridge, mtu)
	if err != nil {
		return err
	}
	if err := ensureAddress(h, link, netip.PrefixFrom(state.Gateway, state.Subnet.Bits())); err != nil {
		return err
	}
	if err := inNetNS(m.netns, enableForwarding); err != nil {
		return err
	}
	if err := m.applyRules(state.Subnet); err != nil {
		return err
	}
	m.mu.Lock()
	m.bridge = bridgeLink{Index: uint32(link.Attrs().Index), MTU: uint32(mtu)}
	m.mu.Unlock()
	m.log.Debug("default bridge is ready", "bridge", m.opts.Bridge, "subnet", state.Subnet.String(), "mtu", mtu)
	return ctx.Err()
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

// ensureAddress leaves want as the only IPv4 address of the link.
func ensureAddress(h *netlink.Handle, link netlink.Link, want netip.Prefix) error {
	addrs, err := dump(func() ([]netlink.Addr, error) { return h.AddrList(link, unix.AF_INET) })
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", link.Attrs().Name, err)
	}
	have := false
	for _, a := range addrs {
		if a.IPNet.String() == want.String() {
			have = true
			continue
		}
		if err := h.AddrDel(link, &a); err != nil {
			return fmt.Errorf("remove address %s of %s: %w", a.IPNet, link.Attrs().Name, err)
		}
	}
	if have {
		return nil
	}
	addr := &netlink.Addr{
		IPNet:     &net.IPNet{IP: want.Addr().AsSlice(), Mask: net.CIDRMask(want.Bits(), 32)},
		Broadcast: broadcast(want),
	}
	if err := h.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("add address %s to %s: %w", want, link.Attrs().Name, err)
	}
	return nil
}

// enableForwarding lets the kernel route between the bridge and the rest.
func enableForwarding() error {
	const path = "/proc/sys/net/ipv4/ip_forward"
	now, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read IPv4 forwarding: %w", err)
	}
	if strings.TrimSpace(string(now)) == "1" {
		return nil
	}
	if err := os.WriteFile(path, []byte("1\n"), 0o644); err != nil {
		return fmt.Errorf("enable IPv4 forwarding: %w", err)
	}
	return nil
}

// rules is the content of our nftables table.
func (m *Manager) rules(subnet netip.Prefix) nft.Ruleset {
	table := nft.DefaultTable
	if m.opts.Bridge != DefaultBridge {
		table += "_" + m.opts.Bridge
	}
	return nft.Ruleset{Table: table, Masquerade: []nft.Masquerade{{Subnet: subnet, Bridge: m.opts.Bridge}}}
}

// applyRules replaces our nftables table, or removes it when there is nothing
// to be in it. From the first time on it is watched.
func (m *Manager) applyRules(subnet netip.Prefix) error {
	rules := m.rules(subnet)
	if m.opts.NoMasquerade {
		err := nft.Remove(m.netns, rules.Table)
		if errdefs.IsNotImplemented(err) { // then it cannot be there
			return nil
		}
		return err
	}
	if err := nft.Apply(m.netns, rules); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.watching != nil {
		return nil
	}
	w, err := nft.NewWatcher(m.netns)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.unwatch, m.watching = cancel, make(chan struct{})
	go m.watchRules(ctx, w)
	return nil
}

// watchRules restores our table whenever somebody removes it, as reloading a
// firewall does that flushes everything.
func (m *Manager) watchRules(ctx context.Context, w *nft.Watcher) {
	defer close(m.watching)
	err := w.Run(ctx, func() {
		m.mu.Lock()
		rules := m.rules(m.net.Subnet)
		m.mu.Unlock()
		there, err := nft.Present(m.netns, rules)
		if err == nil && !there {
			m.log.Warn("nftables table was removed by somebody, restoring it", "table", rules.Table)
			err = nft.Apply(m.netns, rules)
		}
		if err != nil {
			m.log.Error("cannot restore nftables table", "table", rules.Table, "err", err)
		}
	})
	if err != nil {
		m.log.Error("nftables table is not watched any more", "err", err)
	}
}

func randomMAC() net.HardwareAddr {
	mac := make(net.HardwareAddr, 6)
	_, _ = rand.Read(mac)        // never fails, see crypto/rand
	mac[0] = mac[0]&^0x01 | 0x02 // unicast, locally administered
	return mac
}
