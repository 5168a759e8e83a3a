package network

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// fallbackMTU is used on a host without a default route.
const fallbackMTU = 1500

// pools are the subnets that chooseSubnet tries, in order: first those next to
// Docker's own range, which cloud networks rarely use, then smaller ones.
var pools = func() []netip.Prefix {
	var p []netip.Prefix
	for _, b := range []byte{30, 31, 29, 28, 27, 26, 25, 24, 23, 22} {
		p = append(p, netip.PrefixFrom(netip.AddrFrom4([4]byte{172, b, 0, 0}), 16))
	}
	for b := byte(240); b >= 192; b -= 16 {
		p = append(p, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, b, 0}), 20))
	}
	for b := byte(201); b < 220; b++ {
		p = append(p, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, b, 0, 0}), 16))
	}
	return p
}()

// chooseSubnet decides on the bridge's subnet: what --bip says, else that of
// the last time, else the first pool that nothing on the host uses.
func (m *Manager) chooseSubnet(h *netlink.Handle) (networkState, error) {
	m.mu.Lock()
	n, leased := m.net, len(m.live) > 0
	m.mu.Unlock()
	n.Bridge = m.opts.Bridge

	if bip := m.opts.BIP; bip.IsValid() {
		if err := checkBIP(bip); err != nil {
			return networkState{}, err
		}
		n.Subnet, n.Gateway = bip.Masked(), bip.Addr()
		return n, nil
	}
	own := m.ownIndexes()
	if link, err := h.LinkByName(m.opts.Bridge); err == nil {
		own[link.Attrs().Index] = true
	}
	used, err := usedPrefixes(h, own)
	if err != nil {
		return networkState{}, err
	}
	used = append(used, m.ourSubnets(n.BridgeID)...)
	if n.Subnet.IsValid() {
		if !overlapsAny(n.Subnet, used) {
			return n, nil
		}
		if leased {
			m.log.Warn("subnet of the default bridge overlaps with another network; kept for running containers", "subnet", n.Subnet.String())
			return n, nil
		}
		m.log.Warn("subnet of the default bridge overlaps with another network; another is chosen", "subnet", n.Subnet.String())
	}
	if p, ok := freePool(used); ok {
		n.Subnet, n.Gateway = p, p.Addr().Next()
		return n, nil
	}
	return networkState{}, errdefs.ErrUnavailable.WithMessage("no free IPv4 subnet for bridge " + m.opts.Bridge + ": give one with --bip")
}

// checkBIP refuses what cannot be a bridge's address.
func checkBIP(bip netip.Prefix) error {
	subnet := bip.Masked()
	switch {
	case !bip.Addr().Is4():
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("--bip %s is not an IPv4 address", bip))
	case bip.Bits() > 30:
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("--bip %s leaves no address for containers", bip))
	case bip.Bits() < 8:
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("--bip %s has too large a subnet", bip))
	case bip.Addr() == subnet.Addr() || bip.Addr() == lastAddress(subnet):
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("--bip %s is not an address of a host", bip))
	}
	return nil
}

// usedPrefixes returns what a new subnet must stay away from: the routes of
// all tables, the addresses, and the name servers, which may be reached by the
// default route only. Those of our own interfaces do not count.
func usedPrefixes(h *netlink.Handle, own map[int]bool) ([]netip.Prefix, error) {
	var used []netip.Prefix
	// A filter on the table with the value "all" is how netlink asks for all.
	filter := &netlink.Route{Table: unix.RT_TABLE_UNSPEC}
	routes, err := dump(func() ([]netlink.Route, error) {
		return h.RouteListFiltered(unix.AF_INET, filter, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil || own[r.LinkIndex] {
			continue
		}
		ones, _ := r.Dst.Mask.Size()
		used = appendPrefix(used, r.Dst.IP, ones)
	}
	addrs, err := dump(func() ([]netlink.Addr, error) { return h.AddrList(nil, unix.AF_INET) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if own[a.LinkIndex] {
			continue
		}
		ones, _ := a.Mask.Size()
		used = appendPrefix(used, a.IP, ones)
	}
	return append(used, nameservers("/etc/resolv.conf")...), nil
}

// appendPrefix adds a prefix unless it is the default route.
func appendPrefix(list []netip.Prefix, ip []byte, bits int) []netip.Prefix {
	a, ok := netip.AddrFromSlice(ip)
	if !ok || bits == 0 {
		return list
	}
	return append(list, netip.PrefixFrom(a.Unmap(), bits).Masked())
}

// nameservers returns the IPv4 name servers of a resolv.conf, none if it cannot
// be read.
func nameservers(path string) []netip.Prefix {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var found []netip.Prefix
	for line := range bytes.Lines(data) {
		f := bytes.Fields(line)
		if len(f) < 2 || string(f[0]) != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(string(f[1])); err == nil && a.Is4() {
			found = append(found, netip.PrefixFrom(a, 32))
		}
	}
	return found
}

func overlapsAny(p netip.Prefix, list []netip.Prefix) bool {
	return slices.ContainsFunc(list, p.Overlaps)
}

// defaultRouteMTU returns the MTU of the interface that packets leave by.
func defaultRouteMTU(h *netlink.Handle) int {
	filter := &netlink.Route{Table: unix.RT_TABLE_MAIN}
	routes, err := dump(func() ([]netlink.Route, error) {
		return h.RouteListFiltered(unix.AF_INET, filter, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return fallbackMTU
	}
	for _, r := range routes {
		if !isDefaultRoute(r) {
			continue
		}
		if r.MTU != 0 {
			return r.MTU
		}
		if link, err := h.LinkByIndex(r.LinkIndex); err == nil && link.Attrs().MTU > 0 {
			return link.Attrs().MTU
		}
	}
	return fallbackMTU
}

func isDefaultRoute(r netlink.Route) bool {
	if r.Dst == nil {
		return true
	}
	ones, _ := r.Dst.Mask.Size()
	return ones == 0
}
