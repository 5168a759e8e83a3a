package network

import (
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
)

// List returns the networks in the form that Docker's API has, by name.
func (m *Manager) List() []network.Summary {
	m.mu.Lock()
	defer m.mu.Unlock()
	return []network.Summary{
		{Network: m.describeBridge()},
		{Network: m.describePlain(HostNetwork, "host", m.net.HostID)},
		{Network: m.describePlain(NoneNetwork, "null", m.net.NoneID)},
	}
}

// Inspect returns one network, by name or id, with the containers on it. It
// returns a NotFound error for others.
func (m *Manager) Inspect(ref string) (network.Inspect, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch ref {
	case BridgeNetwork, m.net.BridgeID:
		return network.Inspect{Network: m.describeBridge(), Containers: m.endpoints()}, nil
	case HostNetwork, m.net.HostID:
		return network.Inspect{Network: m.describePlain(HostNetwork, "host", m.net.HostID), Containers: map[string]network.EndpointResource{}}, nil
	case NoneNetwork, m.net.NoneID:
		return network.Inspect{Network: m.describePlain(NoneNetwork, "null", m.net.NoneID), Containers: map[string]network.EndpointResource{}}, nil
	}
	return network.Inspect{}, errdefs.ErrNotFound.WithMessage("network " + ref + " not found")
}

// ID returns the id of a network by its name or id, and its proper name; ok is
// false when there is no such network.
func (m *Manager) ID(ref string) (id, name string, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch ref {
	case "", "default", BridgeNetwork, m.net.BridgeID:
		return m.net.BridgeID, BridgeNetwork, true
	case HostNetwork, m.net.HostID:
		return m.net.HostID, HostNetwork, true
	case NoneNetwork, m.net.NoneID:
		return m.net.NoneID, NoneNetwork, true
	}
	return "", "", false
}

// Endpoint returns the connection of a container, as Attach returned it.
func (m *Manager) Endpoint(containerID string) (Endpoint, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, ok := m.live[containerID]
	if !ok {
		return Endpoint{}, false
	}
	return l.Endpoint, true
}

// endpoints returns the containers on the bridge. mu is held.
func (m *Manager) endpoints() map[string]network.EndpointResource {
	all := make(map[string]network.EndpointResource, len(m.live))
	for id, l := range m.live {
		all[id] = network.EndpointResource{
			Name: l.Name, EndpointID: l.Endpoint.EndpointID,
			MacAddress: network.HardwareAddr(l.Endpoint.MAC), IPv4Address: l.Endpoint.IPv4,
		}
	}
	return all
}

// describeBridge describes the default bridge. mu is held.
func (m *Manager) describeBridge() network.Network {
	n := m.describePlain(BridgeNetwork, "bridge", m.net.BridgeID)
	if m.net.Subnet.IsValid() {
		n.IPAM.Config = []network.IPAMConfig{{Subnet: m.net.Subnet, Gateway: m.net.Gateway}}
	}
	n.Options = map[string]string{
		"com.docker.network.bridge.default_bridge":       "true",
		"com.docker.network.bridge.enable_icc":           "true",
		"com.docker.network.bridge.enable_ip_masquerade": strconv.FormatBool(!m.opts.NoMasquerade),
		"com.docker.network.bridge.name":                 m.opts.Bridge,
		"com.docker.network.driver.mtu":                  strconv.Itoa(int(m.bridge.MTU)),
	}
	return n
}

func (m *Manager) describePlain(name, driver, id string) network.Network {
	return network.Network{
		Name: name, ID: id, Created: m.net.Created, Scope: "local", Driver: driver,
		EnableIPv4: true, IPAM: network.IPAM{Driver: "default", Config: []network.IPAMConfig{}},
		Options: map[string]string{}, Labels: map[string]string{},
	}
}
