package network

import (
	"maps"
	"net/netip"
	"strconv"

	"github.com/moby/moby/api/types/network"
)

// List returns the networks in the form that Docker's API has, by name.
func (m *Manager) List() []network.Summary {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []network.Summary
	for _, n := range m.all() {
		list = append(list, network.Summary{Network: m.describe(n)})
	}
	return list
}

// Inspect returns one network, by name or id, with the containers on it. It
// returns a NotFound error for others.
func (m *Manager) Inspect(ref string) (network.Inspect, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookup(ref)
	if err != nil {
		return network.Inspect{}, err
	}
	return network.Inspect{Network: m.describe(n), Containers: m.endpoints(n.ID)}, nil
}

// Info is what the engine has to know of a network.
type Info struct {
	ID, Name, Driver string
	Internal         bool
	// Subnets4 and Subnets6 tell whether a user chose the subnets: only then may
	// he choose addresses.
	Given bool
}

// Predefined tells that the network always exists.
func (i Info) Predefined() bool {
	return i.Name == BridgeNetwork || i.Name == HostNetwork || i.Name == NoneNetwork
}

// Resolve finds a network by its name, its id or the beginning of its id.
func (m *Manager) Resolve(ref string) (Info, error) {
	n, err := m.find(ref)
	if err != nil {
		return Info{}, err
	}
	info := Info{ID: n.ID, Name: n.Name, Driver: n.Driver, Internal: n.Internal}
	for _, s := range n.Subnets {
		info.Given = info.Given || s.Given
	}
	return info, nil
}

// Endpoints returns the connections of a container, as Attach returned them, by
// the names of the interfaces.
func (m *Manager) Endpoints(containerID string) []Endpoint {
	var list []Endpoint
	for _, l := range m.leasesOf(containerID) {
		list = append(list, l.Endpoint)
	}
	return list
}

// endpoints returns the containers on a network. mu is held.
func (m *Manager) endpoints(network_ string) map[string]network.EndpointResource {
	all := make(map[string]network.EndpointResource)
	for _, l := range m.live {
		if l.Endpoint.NetworkID != network_ {
			continue
		}
		all[l.Container] = network.EndpointResource{
			Name: l.Name, EndpointID: l.Endpoint.EndpointID, MacAddress: network.HardwareAddr(l.Endpoint.MAC),
			IPv4Address: l.Endpoint.IPv4, IPv6Address: l.Endpoint.IPv6,
		}
	}
	return all
}

// describe describes a network. mu is held.
func (m *Manager) describe(n *netw) network.Network {
	out := network.Network{
		Name: n.Name, ID: n.ID, Created: n.Created, Scope: "local", Driver: n.Driver,
		EnableIPv4: n.IPv4, EnableIPv6: n.IPv6, Internal: n.Internal, Attachable: n.Attachable,
		IPAM:    network.IPAM{Driver: "default", Options: n.IPAMOptions, Config: []network.IPAMConfig{}},
		Options: map[string]string{}, Labels: map[string]string{},
	}
	if n.IPAMDriver != "" {
		out.IPAM.Driver = n.IPAMDriver
	}
	maps.Copy(out.Options, n.Options)
	maps.Copy(out.Labels, n.Labels)
	for _, s := range n.Subnets {
		out.IPAM.Config = append(out.IPAM.Config, network.IPAMConfig{Subnet: s.Prefix, IPRange: s.Range, Gateway: s.Gateway, AuxAddress: s.Aux})
	}
	if n.ID == m.net.BridgeID {
		binding := netip.IPv4Unspecified()
		if m.opts.Default.Binding.IsValid() {
			binding = m.opts.Default.Binding
		}
		maps.Copy(out.Options, map[string]string{
			"com.docker.network.bridge.default_bridge":       "true",
			"com.docker.network.bridge.enable_icc":           strconv.FormatBool(!m.opts.Default.Apart),
			"com.docker.network.bridge.enable_ip_masquerade": strconv.FormatBool(!m.opts.NoMasquerade),
			"com.docker.network.bridge.host_binding_ipv4":    binding.String(),
			"com.docker.network.bridge.name":                 m.opts.Bridge,
			"com.docker.network.driver.mtu":                  strconv.Itoa(int(m.bridge.MTU)),
		})
	}
	return out
}
