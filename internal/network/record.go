package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// The drivers, by the names that Docker's users know.
const (
	DriverBridge  = "bridge"
	DriverMacvlan = "macvlan"
	DriverIPvlan  = "ipvlan"
	DriverHost    = "host"
	DriverNull    = "null"
)

// Record is a network that somebody has created, as it is saved.
type Record struct {
	Version     int               `json:"version"`
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Driver      string            `json:"driver"`
	Created     time.Time         `json:"created"`
	Subnets     []Subnet          `json:"subnets"`
	IPv4        bool              `json:"ipv4"`
	IPv6        bool              `json:"ipv6"`
	Internal    bool              `json:"internal,omitempty"`
	Attachable  bool              `json:"attachable,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Options     map[string]string `json:"options,omitempty"`
	IPAMDriver  string            `json:"ipam_driver,omitempty"`
	IPAMOptions map[string]string `json:"ipam_options,omitempty"`
	// Interface is the bridge, or the parent of a macvlan or ipvlan network.
	Interface string `json:"interface"`
	// Made tells that the interface is ours, to be removed with the network.
	Made bool `json:"made,omitempty"`
}

// Subnet is a range of addresses of a network.
type Subnet struct {
	Prefix  netip.Prefix          `json:"prefix"`
	Range   netip.Prefix          `json:"range,omitzero"`
	Gateway netip.Addr            `json:"gateway,omitzero"`
	Aux     map[string]netip.Addr `json:"aux,omitempty"`
	// Given tells that a user chose the range: only then may he choose addresses.
	Given bool `json:"given,omitempty"`
}

// driverOptions are what the options of a network say.
type driverOptions struct {
	bridge      string
	mtu         int
	icc         bool
	masquerade  bool
	mode4       string
	mode6       string
	binding     netip.Addr // host address of ports that name none; invalid: all
	ifacePrefix string     // of interfaces in containers
	parent      string
	kind        string // mode of macvlan or ipvlan
	flag        string // of ipvlan
}

// The gateway modes of Docker's bridges.
const (
	modeNAT         = "nat"
	modeUnprotected = "nat-unprotected"
	modeRouted      = "routed"
	modeIsolated    = "isolated"
)

const optionPrefix = "com.docker.network."

// parseOptions reads the options that we know, and refuses wrong values. Others
// are kept and mean nothing, as with Docker.
func parseOptions(driver string, options map[string]string) (driverOptions, error) {
	o := driverOptions{icc: true, masquerade: true, mode4: modeNAT, mode6: modeNAT, ifacePrefix: "eth"}
	for key, value := range options {
		if err := o.set(driver, strings.TrimPrefix(key, optionPrefix), value); err != nil {
			return o, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid value %q of option %s: %v", value, key, err))
		}
	}
	return o, nil
}

func (o *driverOptions) set(driver, key, value string) (err error) {
	mode := func(to *string) error {
		if !slices.Contains([]string{modeNAT, modeUnprotected, modeRouted, modeIsolated}, value) {
			return fmt.Errorf("it is none of nat, nat-unprotected, routed and isolated")
		}
		*to = value
		return nil
	}
	switch key {
	case "bridge.name":
		if err := checkInterfaceName(value); err != nil {
			return err
		}
		o.bridge = value
	case "driver.mtu", "mtu":
		o.mtu, err = strconv.Atoi(value)
		if err == nil && o.mtu != 0 && (o.mtu < 68 || o.mtu > 65535) {
			err = fmt.Errorf("it is out of the range 68-65535")
		}
	case "bridge.enable_icc":
		o.icc, err = strconv.ParseBool(value)
	case "bridge.enable_ip_masquerade":
		o.masquerade, err = strconv.ParseBool(value)
	case "bridge.gateway_mode_ipv4":
		return mode(&o.mode4)
	case "bridge.gateway_mode_ipv6":
		return mode(&o.mode6)
	case "bridge.host_binding_ipv4":
		o.binding, err = netip.ParseAddr(value)
	case "container_iface_prefix":
		if err := checkInterfaceName(value + "0"); err != nil {
			return err
		}
		o.ifacePrefix = value
	case "parent":
		o.parent = value
	case "macvlan_mode", "ipvlan_mode":
		if strings.TrimSuffix(key, "_mode") == driver {
			o.kind = value
			err = checkVlanMode(driver, value)
		}
	case "ipvlan_flag":
		o.flag = value
	}
	return err
}

func checkInterfaceName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) >= unix.IFNAMSIZ || strings.ContainsAny(name, "/: \t\n") {
		return fmt.Errorf("it is no name of an interface, of at most %d bytes", unix.IFNAMSIZ-1)
	}
	return nil
}

// netw is a network as it is now. It never changes: a new one replaces it.
type netw struct {
	Record
	opts driverOptions
	link bridgeLink // of Record.Interface; zero: it could not be made
}

// containsAddr finds the subnet of an address.
func (n *netw) containsAddr(a netip.Addr) *Subnet {
	for i := range n.Subnets {
		if n.Subnets[i].Prefix.Contains(a) {
			return &n.Subnets[i]
		}
	}
	return nil
}

// subnets are those of one family.
func (n *netw) subnets(is6 bool) (list []*Subnet) {
	for i := range n.Subnets {
		if n.Subnets[i].Prefix.Addr().Is6() == is6 {
			list = append(list, &n.Subnets[i])
		}
	}
	return list
}
