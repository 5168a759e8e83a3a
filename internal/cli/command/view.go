package command

import (
	"encoding/json"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// The types of the API hold addresses and ports in a parsed form, which a
// template prints as "invalid IP" when they are empty and cannot index by
// "80/tcp". The views below have them as text, and the fields that older
// daemons send, as templates out there expect.

type containerView struct {
	container.InspectResponse
	HostConfig      *hostConfigView
	NetworkSettings *networkSettingsView
}

type hostConfigView struct {
	container.HostConfig
	PortBindings map[string][]portBindingView
	DNS          []string `json:"Dns"`
}

type portBindingView struct {
	HostIP   string `json:"HostIp"`
	HostPort string
}

type networkSettingsView struct {
	Bridge                 string
	SandboxID              string
	SandboxKey             string
	Ports                  map[string][]portBindingView
	HairpinMode            bool
	LinkLocalIPv6Address   string
	LinkLocalIPv6PrefixLen int
	SecondaryIPAddresses   []addressView
	SecondaryIPv6Addresses []addressView
	EndpointID             string
	Gateway                string
	GlobalIPv6Address      string
	GlobalIPv6PrefixLen    int
	IPAddress              string
	IPPrefixLen            int
	IPv6Gateway            string
	MacAddress             string
	Networks               map[string]*endpointView
}

type addressView struct {
	Addr      string
	PrefixLen int
}

type endpointView struct {
	IPAMConfig          *endpointIPAMView
	Links               []string
	Aliases             []string
	MacAddress          string
	DriverOpts          map[string]string
	GwPriority          int
	NetworkID           string
	EndpointID          string
	Gateway             string
	IPAddress           string
	IPPrefixLen         int
	IPv6Gateway         string
	GlobalIPv6Address   string
	GlobalIPv6PrefixLen int
	DNSNames            []string
}

type endpointIPAMView struct {
	IPv4Address  string   `json:",omitempty"`
	IPv6Address  string   `json:",omitempty"`
	LinkLocalIPs []string `json:",omitempty"`
}

type networkView struct {
	network.Inspect
	IPAM       ipamView
	Containers map[string]endpointResourceView
}

type ipamView struct {
	Driver  string
	Options map[string]string
	Config  []ipamConfigView
}

type ipamConfigView struct {
	Subnet     string            `json:",omitempty"`
	IPRange    string            `json:",omitempty"`
	Gateway    string            `json:",omitempty"`
	AuxAddress map[string]string `json:"AuxiliaryAddresses,omitempty"`
}

type endpointResourceView struct {
	Name        string
	EndpointID  string
	MacAddress  string
	IPv4Address string
	IPv6Address string
}

// view decodes the daemon's JSON into a T. What cannot be decoded gives nil,
// on which every template fails, so that it is run on the JSON itself.
func view[T any](raw []byte) func() any {
	return func() any {
		out := new(T)
		if json.Unmarshal(raw, out) != nil {
			return nil
		}
		return out
	}
}
