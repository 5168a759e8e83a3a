package createflags

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/docker/cli/opts"
	"github.com/docker/go-connections/nat"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

func (b *builder) macAddress() error {
	mac := b.network.mac
	if mac == "" {
		return nil
	}
	if _, err := net.ParseMAC(strings.TrimSpace(mac)); err != nil {
		return fmt.Errorf("%s is not a valid mac address", mac)
	}
	return nil
}

func (b *builder) ports() error {
	n := &b.network
	exposed := network.PortSet{}
	bindings := network.PortMap{}
	specs, err := shortPublish(n.publish.GetSlice())
	if err != nil {
		return err
	}
	published, natBindings, err := nat.ParsePortSpecs(specs)
	if err != nil {
		return err
	}
	for p := range published {
		port, err := network.ParsePort(string(p))
		if err != nil {
			return err
		}
		exposed[port] = struct{}{}
	}
	for p, list := range natBindings {
		port, err := network.ParsePort(string(p))
		if err != nil {
			return err
		}
		if bindings[port], err = portBindings(list); err != nil {
			return err
		}
	}
	for _, e := range n.expose.GetSlice() {
		ports, err := network.ParsePortRange(e)
		if err != nil {
			return fmt.Errorf("invalid range format for --expose: %w", err)
		}
		for port := range ports.All() {
			exposed[port] = struct{}{}
		}
	}
	b.Config.ExposedPorts = exposed
	b.HostConfig.PortBindings, b.HostConfig.PublishAllPorts = bindings, n.publishAll
	return nil
}

func portBindings(list []nat.PortBinding) ([]network.PortBinding, error) {
	out := make([]network.PortBinding, 0, len(list))
	for _, nb := range list {
		binding := network.PortBinding{HostPort: nb.HostPort}
		if nb.HostIP != "" {
			ip, err := netip.ParseAddr(nb.HostIP)
			if err != nil {
				return nil, err
			}
			binding.HostIP = ip
		}
		out = append(out, binding)
	}
	return out, nil
}

// shortPublish turns the long form of --publish, `published=80,target=80`,
// into the short one.
func shortPublish(specs []string) ([]string, error) {
	out := slices.Clone(specs)
	for n, spec := range specs {
		if !strings.Contains(spec, "=") {
			continue
		}
		params := map[string]string{"protocol": "tcp"}
		for param := range strings.SplitSeq(spec, ",") {
			key, value, ok := strings.Cut(param, "=")
			if !ok || key == "" {
				return nil, fmt.Errorf("invalid publish opts format (should be name=value but got '%s')", param)
			}
			params[key] = value
		}
		out[n] = fmt.Sprintf("%s:%s/%s", params["published"], params["target"], params["protocol"])
	}
	return out, nil
}

func (b *builder) networks() error {
	n := &b.network
	b.HostConfig.NetworkMode = container.NetworkMode(n.networks.NetworkMode())
	endpoints := map[string]*network.EndpointSettings{}
	b.Networking.EndpointsConfig = endpoints

	given := n.networks.Value()
	if len(given) == 0 {
		ep, err := n.endpoint(opts.NetworkAttachmentOpts{Target: "default"}, true)
		if err != nil {
			return err
		}
		endpoints["default"] = ep
		return nil
	}
	var userDefined, builtIn bool
	for i, attachment := range given {
		if container.NetworkMode(attachment.Target).IsUserDefined() {
			userDefined = true
		} else {
			builtIn = true
		}
		ep, err := n.endpoint(attachment, i == 0)
		if err != nil {
			return err
		}
		if _, twice := endpoints[attachment.Target]; twice {
			return fmt.Errorf("network %q is specified multiple times", attachment.Target)
		}
		// A lone network without settings is said by NetworkMode already.
		if len(given) == 1 && reflect.ValueOf(*ep).IsZero() {
			continue
		}
		endpoints[attachment.Target] = ep
	}
	if userDefined && builtIn {
		return errors.New("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
	}
	return nil
}

// endpoint turns one --network into the settings of its endpoint. The plain
// flags (--ip, --network-alias and so on) concern the first network only.
func (n *networkFlags) endpoint(a opts.NetworkAttachmentOpts, first bool) (*network.EndpointSettings, error) {
	if first {
		if err := n.mergePlain(&a); err != nil {
			return nil, err
		}
	}
	if strings.TrimSpace(a.Target) == "" {
		return nil, errors.New("no name set for network")
	}
	if !container.NetworkMode(a.Target).IsUserDefined() {
		if len(a.Aliases) > 0 {
			return nil, errors.New("network-scoped aliases are only supported for user-defined networks")
		}
		if len(a.Links) > 0 {
			return nil, errors.New("links are only supported for user-defined networks")
		}
	}
	ep := &network.EndpointSettings{GwPriority: a.GwPriority, Aliases: a.Aliases, Links: a.Links}
	if len(a.DriverOpts) > 0 {
		ep.DriverOpts = a.DriverOpts
	}
	if a.IPv4Address.IsValid() || a.IPv6Address.IsValid() || len(a.LinkLocalIPs) > 0 {
		ep.IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: a.IPv4Address, IPv6Address: a.IPv6Address, LinkLocalIPs: a.LinkLocalIPs}
	}
	if a.MacAddress != "" {
		mac, err := net.ParseMAC(strings.TrimSpace(a.MacAddress))
		if err != nil {
			return nil, fmt.Errorf("%s is not a valid mac address", a.MacAddress)
		}
		ep.MacAddress = network.HardwareAddr(mac)
	}
	return ep, nil
}

func (n *networkFlags) mergePlain(a *opts.NetworkAttachmentOpts) error {
	for _, c := range []struct {
		both bool
		text string
	}{
		{len(a.Aliases) > 0 && n.aliases.Len() > 0, "--network-alias and per-network alias"},
		{len(a.Links) > 0 && n.links.Len() > 0, "--link and per-network links"},
		{a.IPv4Address.IsValid() && n.ip.IsValid(), "--ip and per-network IPv4 address"},
		{a.IPv6Address.IsValid() && n.ip6.IsValid(), "--ip6 and per-network IPv6 address"},
		{a.MacAddress != "" && n.mac != "", "--mac-address and per-network MAC address"},
		{len(a.LinkLocalIPs) > 0 && n.linkLocalIPs.Len() > 0, "--link-local-ip and per-network link-local IP addresses"},
	} {
		if c.both {
			return errors.New("conflicting options: cannot specify both " + c.text)
		}
	}
	if n.aliases.Len() > 0 {
		a.Aliases = slices.Clone(n.aliases.GetSlice())
	}
	// On the default bridge --link is the older kind, part of the host
	// configuration; on other networks it names an alias of the endpoint.
	if container.NetworkMode(a.Target).IsUserDefined() && n.links.Len() > 0 {
		a.Links = slices.Clone(n.links.GetSlice())
	}
	if n.ip.IsValid() {
		a.IPv4Address = n.ip.Addr
	}
	if n.ip6.IsValid() {
		a.IPv6Address = n.ip6.Addr
	}
	if n.mac != "" {
		a.MacAddress = n.mac
	}
	for _, s := range n.linkLocalIPs.GetSlice() {
		ip, err := netip.ParseAddr(s)
		if err != nil {
			return fmt.Errorf("--link-local-ip: %w", err)
		}
		a.LinkLocalIPs = append(a.LinkLocalIPs, ip)
	}
	return nil
}
