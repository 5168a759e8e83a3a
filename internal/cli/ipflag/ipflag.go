// Package ipflag has flags for addresses. An [Addr] is one address, [Addrs]
// are any number, given one by one or with commas between.
package ipflag

import (
	"fmt"
	"net/netip"
	"strings"
)

// Addr is the value of a flag for one address; zero when the flag was not
// given.
type Addr struct{ netip.Addr }

// Set parses an address.
func (a *Addr) Set(s string) error {
	addr, err := parse(s)
	a.Addr = addr
	return err
}

// Type is the word that help shows for the value.
func (a *Addr) Type() string { return "string" }

func (a *Addr) String() string {
	if !a.IsValid() {
		return ""
	}
	return a.Addr.String()
}

// Addrs is the value of a flag for several addresses.
type Addrs []netip.Addr

// Set adds addresses.
func (a *Addrs) Set(s string) error {
	for part := range strings.SplitSeq(s, ",") {
		addr, err := parse(part)
		if err != nil {
			return err
		}
		*a = append(*a, addr)
	}
	return nil
}

// Type is the word that help shows for the values.
func (a *Addrs) Type() string { return "strings" }

func (a *Addrs) String() string {
	var list []string
	for _, addr := range *a {
		list = append(list, addr.String())
	}
	return strings.Join(list, ",")
}

func parse(s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(strings.TrimSpace(s))
	if err != nil {
		return addr, fmt.Errorf("failed to parse IP: %q", s)
	}
	return addr.Unmap(), nil
}
