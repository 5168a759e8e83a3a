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

// Pool is a range that is divided into subnets.
type Pool struct {
	Base netip.Prefix
	Size int // length of the subnets' prefixes
}

// pools are those that are tried if nobody says others, in order: first those next
// to Docker's own range, which cloud networks rarely use, then smaller ones.
var pools = func() []Pool {
	var p []Pool
	add := func(bits int, a ...byte) {
		p = append(p, Pool{netip.PrefixFrom(netip.AddrFrom4([4]byte(a)), bits), bits})
	}
	for _, b := range []byte{30, 31, 29, 28, 27, 26, 25, 24, 23, 22} {
		add(16, 172, b, 0, 0)
	}
	for b := byte(240); b >= 192; b -= 16 {
		add(20, 192, 168, b, 0)
	}
	for b := byte(201); b < 220; b++ {
		add(16, 10, b, 0, 0)
	}
	return p
}()

// freePool is the first subnet of a family that nothing uses.
func (m *Manager) freePool(is6 bool, used []netip.Prefix) (netip.Prefix, bool) {
	list := m.opts.Pools
	if list == nil {
		list = pools
	}
	has6 := false
	for _, pool := range list {
		if pool.Base.Addr().Is6() != is6 {
			continue
		}
		has6 = is6
		if p, ok := pool.free(used); ok {
			return p, true
		}
	}
	if is6 && !has6 {
		return uniqueLocal(), true
	}
	return netip.Prefix{}, false
}

// free is the first subnet of a pool that nothing uses.
func (p Pool) free(used []netip.Prefix) (netip.Prefix, bool) {
	at := netip.PrefixFrom(p.Base.Masked().Addr(), p.Size)
	for p.Base.Contains(at.Addr()) {
		i := slices.IndexFunc(used, at.Overlaps)
		if i < 0 {
			return at, true
		}
		// Go on behind what is in the way, however much that is.
		next := behind(at)
		if used[i].Bits() < at.Bits() {
			next = behind(used[i])
		}
		if !next.IsValid() {
			break
		}
		at = netip.PrefixFrom(next, p.Size)
	}
	return netip.Prefix{}, false
}

// behind is the first address behind a subnet; invalid: there is none.
func behind(p netip.Prefix) netip.Addr {
	last := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(last)*8; bit++ {
		last[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(last)
	return a.Next()
}

// chooseSubnet decides on the bridge's subnet: what --bip says, else that of
// the last time, else the first pool that nothing on the host uses.
func (m *Manager) chooseSubnet(h *netlink.Handle) (networkState, error) {
	m.mu.Lock()
	n, leased := m.net, len(m.live) > 0
	m.mu.Unlock()
	n.Bridge = m.opts.Bridge
	if err := m.chooseSubnet6(&n); err != nil {
		return networkState{}, err
	}

	if bip := m.opts.BIP; bip.IsValid() {
		if err := checkBIP(bip); err != nil {
			return networkState{}, err
		}
		n.Subnet, n.Gateway = bip.Masked(), bip.Addr()
		return n, m.checkRange(n)
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
			return n, m.checkRange(n)
		}
		if leased {
			m.log.Warn("subnet of the default bridge overlaps with another network; kept for running containers", "subnet", n.Subnet.String())
			return n, nil
		}
		m.log.Warn("subnet of the default bridge overlaps with another network; another is chosen", "subnet", n.Subnet.String())
	}
	if p, ok := m.freePool(false, used); ok {
		n.Subnet, n.Gateway = p, p.Addr().Next()
		return n, m.checkRange(n)
	}
	return networkState{}, errdefs.ErrUnavailable.WithMessage("no free IPv4 subnet for bridge " + m.opts.Bridge + ": give one with --bip")
}

// chooseSubnet6 decides on the bridge's IPv6 subnet, if it is to have one.
func (m *Manager) chooseSubnet6(n *networkState) error {
	if !m.opts.Default.IPv6 {
		return nil
	}
	others := m.ourSubnets(n.BridgeID)
	given := m.opts.Default.Subnet6
	switch {
	case given.IsValid():
		if overlapsAny(given.Masked(), others) {
			return errdefs.ErrConflict.WithMessage(fmt.Sprintf("fixed-cidr-v6 %s overlaps with another network", given))
		}
		n.Subnet6 = given.Masked()
	case n.Subnet6.IsValid() && !overlapsAny(n.Subnet6, others):
	default:
		p, ok := m.freePool(true, others)
		if !ok {
			return errdefs.ErrUnavailable.WithMessage("no free IPv6 subnet for bridge " + m.opts.Bridge + ": give one with --fixed-cidr-v6")
		}
		n.Subnet6 = p
	}
	return nil
}

// checkRange refuses a range that is not of the subnet.
func (m *Manager) checkRange(n networkState) error {
	r := m.opts.Default.Range
	if r.IsValid() && (!n.Subnet.Contains(r.Addr()) || r.Bits() < n.Subnet.Bits()) {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("fixed-cidr %s is not of the default bridge's subnet %s: give that with --bip", r, n.Subnet))
	}
	return nil
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
