package daemon

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// AddressPool is a range that subnets of networks are taken of.
type AddressPool struct {
	Base netip.Prefix `json:"base"`
	Size int          `json:"size"` // length of the subnets' prefixes
}

// AddressPools are used in their order. As a flag each is base=PREFIX,size=N.
type AddressPools []AddressPool

// String is for the flag's default, which there is none.
func (p *AddressPools) String() string {
	if p == nil || len(*p) == 0 {
		return ""
	}
	return listText(*p)
}

// Type names the flag's value in the usage.
func (p *AddressPools) Type() string { return "pool-options" }

// Set adds a pool.
func (p *AddressPools) Set(text string) error {
	var pool AddressPool
	for field := range strings.SplitSeq(text, ",") {
		key, value, _ := strings.Cut(field, "=")
		var err error
		switch strings.TrimSpace(key) {
		case "base":
			pool.Base, err = netip.ParsePrefix(value)
		case "size":
			pool.Size, err = strconv.Atoi(value)
		default:
			err = fmt.Errorf("unexpected key '%s' in '%s'", key, field)
		}
		if err != nil {
			return err
		}
	}
	*p = append(*p, pool)
	return nil
}

func (p AddressPools) check() error {
	for _, pool := range p {
		switch {
		case !pool.Base.IsValid():
			return errors.New("invalid default-address-pools: a pool has no base")
		case pool.Size < pool.Base.Bits() || pool.Size > pool.Base.Addr().BitLen()-2:
			return fmt.Errorf("invalid default-address-pools: size %d does not fit base %s: it is the length of the subnets' prefixes", pool.Size, pool.Base)
		}
	}
	return nil
}

func (c *Config) checkNetwork() error {
	// The kernel's limit is IFNAMSIZ, its final zero included.
	if c.Bridge == "none" || len(c.Bridge) > 15 || strings.ContainsAny(c.Bridge, "/ ") {
		return fmt.Errorf("invalid bridge name %q", c.Bridge)
	}
	if c.BIP != "" {
		p, err := netip.ParsePrefix(c.BIP)
		if err != nil || !p.Addr().Is4() {
			return fmt.Errorf("invalid bip %q: want an IPv4 address with the length of its subnet, as in 10.9.0.1/24", c.BIP)
		}
	}
	if c.MTU < 0 || (c.MTU > 0 && c.MTU < 68) {
		return fmt.Errorf("invalid default MTU: %d", c.MTU)
	}
	if err := c.checkDefaultBridge(); err != nil {
		return err
	}
	for _, server := range c.DNS {
		if _, err := netip.ParseAddr(server); err != nil {
			return fmt.Errorf("%s is not an ip address", server)
		}
	}
	if err := c.Pools.check(); err != nil {
		return err
	}
	return c.checkNeeded()
}

// checkDefaultBridge checks what is said of the default bridge.
func (c *Config) checkDefaultBridge() error {
	if c.FixedCIDR != "" {
		p, err := netip.ParsePrefix(c.FixedCIDR)
		if err != nil || !p.Addr().Is4() {
			return fmt.Errorf("invalid fixed-cidr %q: want an IPv4 subnet, as in 10.9.0.128/25", c.FixedCIDR)
		}
	}
	if c.FixedCIDR6 != "" {
		p, err := netip.ParsePrefix(c.FixedCIDR6)
		if err != nil || !p.Addr().Is6() || p.Addr().Is4In6() || p.Bits() > 125 {
			return fmt.Errorf("invalid fixed-cidr-v6 %q: want an IPv6 subnet, as in 2001:db8:1::/64", c.FixedCIDR6)
		}
		if !c.IPv6 {
			return fmt.Errorf("fixed-cidr-v6 %s has no effect without ipv6", c.FixedCIDR6)
		}
	}
	if c.BindIP != "" {
		if _, err := netip.ParseAddr(c.BindIP); err != nil {
			return fmt.Errorf("invalid ip %q: it is not an IP address", c.BindIP)
		}
	}
	return nil
}

// checkNeeded refuses to go without what Docker can go without.
func (c *Config) checkNeeded() error {
	for _, s := range []struct {
		name, why string
		on        bool
	}{
		{"userland-proxy", "the sockets that hold published ports also pass on connections to loopback addresses and of containers; what comes from other hosts passes the firewall's table only", c.UserlandProxy},
		{"iptables", "networks are kept apart, and ports are published, by one table of nftables, which leaves all others alone; for packets without translation there is ip-masq", c.IPTables},
		{"ip6tables", "networks are kept apart, and ports are published, by one table of nftables, which leaves all others alone", c.IP6Tables},
		{"ip-forward", "containers would reach nothing outside of their network: use internal networks for that", c.IPForward},
	} {
		if !s.on {
			return fmt.Errorf("%s cannot be switched off: %s", s.name, s.why)
		}
	}
	return nil
}
