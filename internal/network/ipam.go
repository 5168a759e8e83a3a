package network

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"
)

// addrKey is an address in a network: two networks may use the same.
type addrKey struct {
	network string
	addr    netip.Addr
}

// pick returns the lowest free address of one family, or want if it is free,
// with the length of its subnet and the gateway. mu is held.
func (m *Manager) pick(n *netw, is6 bool, want netip.Addr) (netip.Prefix, netip.Addr, error) {
	if want.IsValid() {
		return m.pickStatic(n, want)
	}
	for _, s := range n.subnets(is6) {
		if a, ok := m.lowestFree(n, s); ok {
			return netip.PrefixFrom(a, s.Prefix.Bits()), s.Gateway, nil
		}
	}
	family := "IPv4"
	if is6 {
		family = "IPv6"
	}
	return netip.Prefix{}, netip.Addr{}, errdefs.ErrUnavailable.WithMessage(
		"no available " + family + " addresses on this network's address pools: " + n.Name + " (" + n.ID + ")")
}

func (m *Manager) pickStatic(n *netw, want netip.Addr) (netip.Prefix, netip.Addr, error) {
	s := n.containsAddr(want)
	switch {
	case s == nil:
		return netip.Prefix{}, netip.Addr{}, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(
			"no configured subnet or ip-range contain the IP address %s", want))
	case reserved(s, want):
		return netip.Prefix{}, netip.Addr{}, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(
			"address %s cannot be given to a container in subnet %s", want, s.Prefix))
	case m.taken[addrKey{n.ID, want}] != nil:
		return netip.Prefix{}, netip.Addr{}, errdefs.ErrAlreadyExists.WithMessage("Address already in use")
	}
	return netip.PrefixFrom(want, s.Prefix.Bits()), s.Gateway, nil
}

// lowestFree looks through the subnet's range. mu is held.
func (m *Manager) lowestFree(n *netw, s *Subnet) (netip.Addr, bool) {
	in := s.Prefix
	if s.Range.IsValid() {
		in = s.Range
	}
	for a := in.Masked().Addr(); in.Contains(a); a = a.Next() {
		if !reserved(s, a) && m.taken[addrKey{n.ID, a}] == nil {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// reserved tells that no container may have an address: that of the subnet
// itself, its broadcast address, the gateway, and those that the user keeps.
func reserved(s *Subnet, a netip.Addr) bool {
	if a == s.Gateway {
		return true
	}
	if s.Prefix.Bits() < a.BitLen()-1 && (a == s.Prefix.Masked().Addr() || (a.Is4() && a == lastAddress(s.Prefix))) {
		return true
	}
	for _, aux := range s.Aux {
		if a == aux {
			return true
		}
	}
	return false
}

// lastAddress is an IPv4 subnet's broadcast address.
func lastAddress(p netip.Prefix) netip.Addr {
	return netip.AddrFrom4([4]byte(broadcast(p)))
}

// firstAddress is the one that a gateway gets if nobody says another.
func firstAddress(s Subnet) netip.Addr {
	a := s.Prefix.Masked().Addr().Next()
	for slices.ContainsFunc(auxAddresses(s), func(aux netip.Addr) bool { return aux == a }) {
		a = a.Next()
	}
	return a
}

func auxAddresses(s Subnet) (list []netip.Addr) {
	for _, a := range s.Aux {
		list = append(list, a)
	}
	return list
}

// checkSubnet refuses a subnet that cannot work.
func checkSubnet(s Subnet, ipv4, ipv6 bool) error {
	p := s.Prefix
	bad := func(format string, args ...any) error {
		return errdefs.ErrInvalidArgument.WithMessage("invalid network config:\n" + fmt.Sprintf(format, args...))
	}
	switch {
	case !p.IsValid():
		return bad("invalid subnet: it is empty")
	case p != p.Masked():
		return bad("invalid subnet %s: it should be %s", p, p.Masked())
	case p.Addr().Is4() && !ipv4:
		return bad("IPv4 is disabled, but subnet %s is IPv4", p)
	case p.Addr().Is6() && !ipv6:
		return bad("IPv6 is disabled, but subnet %s is IPv6: add --ipv6", p)
	case p.Bits() == 0:
		return bad("invalid subnet %s: it has all addresses", p)
	case s.Range.IsValid() && (s.Range.Bits() < p.Bits() || !p.Contains(s.Range.Addr())):
		return bad("invalid ip-range %s: parent subnet %s doesn't contain ip-range", s.Range, p)
	case s.Gateway.IsValid() && !p.Contains(s.Gateway):
		return bad("invalid gateway %s: parent subnet %s doesn't contain this address", s.Gateway, p)
	}
	for name, a := range s.Aux {
		if !p.Contains(a) {
			return bad("invalid auxiliary address %s: parent subnet %s doesn't contain this address", name, p)
		}
	}
	return nil
}
