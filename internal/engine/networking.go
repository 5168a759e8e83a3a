package engine

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	mobynet "github.com/moby/moby/api/types/network"

	"github.com/portholehq/porthole/internal/engine/netfiles"
	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/network"
)

// This file has what a container's records say about its networks, and what becomes of it when it starts.

// plannedNetworks are the settings of a new container's endpoints, by the names of the networks.
func (e *Engine) plannedNetworks(mode string, req *mobynet.NetworkingConfig) (map[string]*mobynet.EndpointSettings, error) {
	main, err := e.networkByName(mode)
	if err != nil {
		return nil, err
	}
	planned := map[string]*mobynet.EndpointSettings{}
	if req != nil {
		for ref, es := range req.EndpointsConfig {
			info, err := e.networkByName(ref)
			if err != nil {
				return nil, err
			}
			if info.Predefined() != main.Predefined() || (main.Predefined() && info.ID != main.ID) {
				return nil, invalid("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
			}
			if _, twice := planned[info.Name]; twice {
				return nil, invalid("network %q is specified multiple times", info.Name)
			}
			if err := checkEndpoint(info, es); err != nil {
				return nil, err
			}
			planned[info.Name] = es.Copy()
		}
	}
	if planned[main.Name] == nil {
		planned[main.Name] = &mobynet.EndpointSettings{}
	}
	for name, es := range planned {
		if es == nil {
			planned[name] = &mobynet.EndpointSettings{}
		}
	}
	return planned, nil
}

// networkByName finds a network for a container that is created. A missing one is not to be taken for a missing image.
func (e *Engine) networkByName(ref string) (network.Info, error) {
	info, err := e.deps.Network.Resolve(ref)
	return info, cannotJoin(err)
}

// checkEndpoint refuses settings that the network cannot fulfil, in Docker's words.
func checkEndpoint(info network.Info, es *mobynet.EndpointSettings) error {
	if es == nil {
		return nil
	}
	static := es.IPAMConfig != nil && (es.IPAMConfig.IPv4Address.IsValid() || es.IPAMConfig.IPv6Address.IsValid())
	problem := ""
	switch {
	case info.Predefined() && static:
		problem = "user specified IP address is supported on user defined networks only"
	case info.Predefined() && len(es.Aliases) > 0:
		problem = "network-scoped aliases are only supported for user-defined networks"
	case static && !info.Given:
		problem = "user specified IP address is supported only when connecting to networks with user configured subnets"
	}
	if problem != "" {
		return invalid("invalid config for network %s: invalid endpoint settings:\n%s", info.Name, problem)
	}
	return nil
}

// networkNames are the networks of a container: the one of its network mode first, if it still is on it, then by name.
func networkNames(v *view) []string {
	main := string(v.HostConfig.NetworkMode)
	names := slices.Collect(maps.Keys(v.Networks))
	slices.SortFunc(names, func(a, b string) int {
		if (a == main) != (b == main) {
			if a == main {
				return -1
			}
			return 1
		}
		return cmp.Compare(a, b)
	})
	return names
}

func isPredefined(name string) bool { return network.Info{Name: name}.Predefined() }

// hasResolver tells that a container asks us for names: it is on a network that somebody made.
func hasResolver(v *view) bool {
	return v.ResolvedNet == "" && slices.ContainsFunc(slices.Collect(maps.Keys(v.Networks)), func(name string) bool { return !isPredefined(name) })
}

// resolverAddress is where containers on networks that somebody made find their name server.
const resolverAddress = "127.0.0.11"

// embedded is the resolv.conf of a container that asks us. What its server passes on goes to own's servers or the
// host's; search domains are the container's own or the host's.
func embedded(own netfiles.Resolver) (string, error) {
	r, err := readResolver(hostResolver)
	if err != nil {
		return "", err
	}
	own.Servers = []string{resolverAddress}
	r = r.Override(own)
	if !slices.ContainsFunc(r.Options, func(o string) bool { return strings.HasPrefix(o, "ndots:") }) {
		r.Options = append(slices.Clone(r.Options), "ndots:0")
	}
	return r.File("its networks, whose names this server knows"), nil
}

// attachSpec is what is asked of one network.
func attachSpec(v *view, name string, es *mobynet.EndpointSettings, ns *os.File) network.AttachSpec {
	spec := network.AttachSpec{ContainerID: v.ID, Name: v.Name, Network: name, NetNS: ns}
	if es == nil {
		return spec
	}
	if es.IPAMConfig != nil {
		spec.IPv4, spec.IPv6, spec.LinkLocal = es.IPAMConfig.IPv4Address, es.IPAMConfig.IPv6Address, es.IPAMConfig.LinkLocalIPs
	}
	if len(es.MacAddress) > 0 {
		spec.MAC = net.HardwareAddr(es.MacAddress)
	}
	spec.Options, spec.Priority = es.DriverOpts, es.GwPriority
	return spec
}

// endpointSettings completes es by what the endpoint is. nil is fine.
func endpointSettings(v *view, es *mobynet.EndpointSettings, ep network.Endpoint) *mobynet.EndpointSettings {
	if es == nil {
		es = &mobynet.EndpointSettings{}
	}
	es.NetworkID, es.EndpointID = ep.NetworkID, ep.EndpointID
	es.MacAddress = mobynet.HardwareAddr(ep.MAC)
	es.Gateway, es.IPv6Gateway = ep.Gateway, ep.Gateway6
	if ep.IPv4.IsValid() {
		es.IPAddress, es.IPPrefixLen = ep.IPv4.Addr(), ep.IPv4.Bits()
	}
	if ep.IPv6.IsValid() {
		es.GlobalIPv6Address, es.GlobalIPv6PrefixLen = ep.IPv6.Addr(), ep.IPv6.Bits()
	}
	if !isPredefined(ep.Network) {
		es.DNSNames = dnsNames(v, es)
	}
	return es
}

// dnsNames are the names of a container on a network that somebody made. The first is the one for its address.
func dnsNames(v *view, es *mobynet.EndpointSettings) []string {
	var names []string
	for _, name := range slices.Concat([]string{v.Name}, es.Aliases, []string{v.ID[:12], v.Config.Hostname}) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// serve publishes a container's ports and answers its questions for names. One that needs neither costs nothing.
func (e *Engine) serve(ctx context.Context, v *view, task Task, eps map[string]*mobynet.EndpointSettings) ([]network.Published, error) {
	return e.deps.Network.Serve(ctx, e.sandboxSpec(v, task, eps))
}

// sandboxSpec is what a running container needs besides interfaces.
func (e *Engine) sandboxSpec(v *view, task Task, eps map[string]*mobynet.EndpointSettings) network.SandboxSpec {
	spec := network.SandboxSpec{ContainerID: v.ID, Name: v.Name, Pid: task.Pid()}
	if isBridged(v) {
		spec.Ports = portSpecs(v)
	}
	for name, es := range eps {
		if isPredefined(name) {
			continue
		}
		links := map[string]string{}
		for _, link := range es.Links {
			target, alias, ok := strings.Cut(link, ":")
			if !ok {
				alias = target
			}
			links[alias] = target
		}
		spec.Networks = append(spec.Networks, network.Names{Network: es.NetworkID, Names: es.DNSNames, Links: links})
	}
	spec.Servers = v.HostConfig.DNS
	if len(spec.Servers) == 0 {
		for _, s := range e.config.DNS {
			if a, err := netip.ParseAddr(s); err == nil {
				spec.Servers = append(spec.Servers, a)
			}
		}
	}
	return spec
}

// portSpecs are the ports that are to be published.
func portSpecs(v *view) []network.PortSpec {
	var specs []network.PortSpec
	for port, bindings := range v.HostConfig.PortBindings {
		for _, b := range bindings {
			spec := network.PortSpec{Container: port, HostIP: b.HostIP}
			if b.HostPort != "" && b.HostPort != "0" {
				first, last, isRange := strings.Cut(b.HostPort, "-")
				if !isRange {
					last = first
				}
				spec.First, spec.Last = portNumber(first), portNumber(last)
			}
			specs = append(specs, spec)
		}
	}
	if v.HostConfig.PublishAllPorts {
		for port := range v.Config.ExposedPorts {
			if len(v.HostConfig.PortBindings[port]) == 0 {
				specs = append(specs, network.PortSpec{Container: port})
			}
		}
	}
	// Ports that were named come before those that may be any.
	slices.SortFunc(specs, func(a, b network.PortSpec) int {
		return cmp.Or(-cmp.Compare(a.First, b.First), cmp.Compare(a.Container.Num(), b.Container.Num()), cmp.Compare(a.Container.Proto(), b.Container.Proto()), a.HostIP.Compare(b.HostIP))
	})
	return specs
}

// portNumber reads what was checked when the container was created.
func portNumber(s string) uint16 {
	n, _ := strconv.ParseUint(s, 10, 16)
	return uint16(n)
}

// portMap is the form in which inspect shows what is published.
func portMap(published []network.Published) mobynet.PortMap {
	ports := mobynet.PortMap{}
	for _, p := range published {
		ports[p.Container] = append(ports[p.Container], mobynet.PortBinding{HostIP: p.HostIP, HostPort: strconv.Itoa(int(p.HostPort))})
	}
	return ports
}

// checkLinks refuses links of the default network to containers that are not there.
func (e *Engine) checkLinks(rec *state.Container) error {
	for _, link := range rec.HostConfig.Links {
		name, _, _ := strings.Cut(link, ":")
		if _, err := e.registry.find(name); err != nil {
			return invalid("could not get container for %s: %v", name, err)
		}
	}
	return nil
}

// linkedHosts are the containers that the default network's --link names, for the hosts file.
func (e *Engine) linkedHosts(v *view) ([]netfiles.Host, error) {
	if string(v.HostConfig.NetworkMode) != mobynet.NetworkBridge {
		return nil, nil
	}
	var hosts []netfiles.Host
	for _, link := range v.HostConfig.Links {
		name, alias, ok := strings.Cut(link, ":")
		if !ok {
			alias = name
		}
		alias = strings.TrimPrefix(alias[strings.LastIndexByte(alias, '/')+1:], "/")
		other, err := e.viewOf(name)
		if err != nil {
			return nil, cannotJoin(err)
		}
		ep := other.endpoints[mobynet.NetworkBridge]
		if other.pid() == 0 || ep == nil || !ep.IPAddress.IsValid() {
			return nil, conflict("Cannot link to a non running container: /%s AS /%s/%s", other.Name, v.Name, alias)
		}
		names := []string{alias, other.Config.Hostname}
		if alias != other.Name {
			names = append(names, other.Name)
		}
		hosts = append(hosts, netfiles.Host{IP: ep.IPAddress.String(), Names: names})
	}
	return hosts, nil
}

// emitNetwork tells that a container was connected to a network or taken off it.
func (e *Engine) emitNetwork(ctx context.Context, v *view, action events.Action, name string) {
	info, err := e.deps.Network.Resolve(name)
	if err != nil { // it is gone: only its name is left
		info = network.Info{ID: name, Name: name, Driver: network.DriverBridge}
	}
	e.emitOther(ctx, events.NetworkEventType, action, info.ID, map[string]string{"container": v.ID, "name": info.Name, "type": info.Driver})
}

// NetworkConnect connects a container to a further network, at once if it runs.
func (e *Engine) NetworkConnect(ctx context.Context, ref string, req mobynet.ConnectRequest) error {
	c, ctx, release, err := e.forNetworking(ctx, req.Container, "network connect")
	if err != nil {
		return err
	}
	defer release()
	info, err := e.deps.Network.Resolve(ref)
	if err != nil {
		return err
	}
	v := c.view()
	if err := canConnect(v, info); err != nil {
		return err
	}
	if err := checkEndpoint(info, req.EndpointConfig); err != nil {
		return err
	}
	es := req.EndpointConfig.Copy()
	if es == nil {
		es = &mobynet.EndpointSettings{}
	}
	planned := maps.Clone(v.Networks)
	if planned == nil {
		planned = map[string]*mobynet.EndpointSettings{}
	}
	planned[info.Name] = es
	live := v.endpoints
	published := v.published
	if v.pid() > 0 {
		if live, published, err = e.connectLive(ctx, v, info, es); err != nil {
			return err
		}
	}
	err = e.saveOrUndo(ctx, c, func(v *view) { v.Networks, v.endpoints, v.published = planned, live, published },
		func(now *view) { now.Networks, now.endpoints, now.published = v.Networks, v.endpoints, v.published })
	if err != nil {
		if v.pid() > 0 {
			e.unconnect(ctx, v, info)
		}
		return err
	}
	e.emitNetwork(ctx, v, events.ActionConnect, info.Name)
	return nil
}

// forNetworking takes the turn of a container whose networks are to be changed. What is begun then goes on when the one
// who has asked for it is gone: the network and the container's record have to agree.
func (e *Engine) forNetworking(ctx context.Context, ref, why string) (*ctr, context.Context, func(), error) {
	c, done, err := e.operate(ctx, why, ref)
	if err != nil {
		return nil, nil, nil, err
	}
	turn, err := c.turn.take(ctx, why)
	if err != nil {
		done()
		return nil, nil, nil, err
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), clearTimeout)
	release := func() {
		cancel()
		turn()
		done()
	}
	v := c.view()
	switch {
	case v.removing || v.status() == container.StateDead || v.status() == container.StateRemoving:
		err = conflict("container is marked for removal and cannot be connected or disconnected to the network")
	case v.ResolvedNet != "":
		err = invalid("container sharing network namespace with another container or host cannot be connected to any other network")
	case v.HostConfig.NetworkMode.IsHost():
		err = invalid("container cannot be disconnected from host network or connected to host network")
	case v.live() && v.unadopted != nil:
		err = errUnadopted(v)
	}
	if err != nil {
		release()
		return nil, nil, nil, err
	}
	return c, bounded, release, nil
}

func canConnect(v *view, info network.Info) error {
	_, already := v.Networks[info.Name]
	_, none := v.Networks[mobynet.NetworkNone]
	switch {
	case already:
		return errdefs.ErrPermissionDenied.WithMessage("endpoint with name " + v.Name + " already exists in network " + info.Name)
	case info.Driver == network.DriverHost:
		return invalid("container cannot be disconnected from host network or connected to host network")
	case none || (info.Driver == network.DriverNull && len(v.Networks) > 0):
		return invalid("container cannot be connected to multiple networks with one of the networks in private (none) mode")
	}
	return nil
}

// connectLive gives a running container a further interface.
func (e *Engine) connectLive(ctx context.Context, v *view, info network.Info, es *mobynet.EndpointSettings) (map[string]*mobynet.EndpointSettings, []network.Published, error) {
	ns, err := v.task.NetNS()
	if err != nil {
		return nil, nil, err
	}
	defer ns.Close()
	ep, err := e.deps.Network.Attach(ctx, attachSpec(v, info.Name, es, ns))
	if err != nil {
		return nil, nil, err
	}
	live := maps.Clone(v.endpoints)
	live[info.Name] = endpointSettings(v, es.Copy(), ep)
	published, err := e.serve(ctx, v, v.task, live)
	if err == nil {
		err = e.networkFiles(v, live)
	}
	if err != nil {
		e.unconnect(ctx, v, info)
		return nil, nil, err
	}
	return live, published, nil
}

// unconnect takes a container off a network that it was connected to in vain: v is what it was before.
func (e *Engine) unconnect(ctx context.Context, v *view, info network.Info) {
	if _, _, err := e.disconnectLive(ctx, v, info, v.endpoints); err != nil {
		e.log.Error("container was not taken off a network", "container", v.ID, "network", info.Name, "err", err)
	}
}

// networkFiles writes a running container's hosts and resolv.conf for the networks that it is on now.
func (e *Engine) networkFiles(v *view, live map[string]*mobynet.EndpointSettings) error {
	now := *v
	rec := *v.Container
	rec.Networks = live
	now.Container = &rec
	if err := e.addAddresses(&now, e.deps.Network.Endpoints(v.ID)); err != nil {
		return err
	}
	if !hasResolver(&now) || hasResolver(v) {
		return nil // as it is
	}
	text, err := e.resolver(&now, false)
	if err != nil {
		return err
	}
	return writeInPlace(e.files(v).ResolvConf, text)
}

// NetworkDisconnect takes a container off a network.
func (e *Engine) NetworkDisconnect(ctx context.Context, ref string, req mobynet.DisconnectRequest) error {
	c, ctx, release, err := e.forNetworking(ctx, req.Container, "network disconnect")
	if err != nil {
		return err
	}
	defer release()
	v := c.view()
	info, err := e.deps.Network.Resolve(ref)
	if err != nil {
		return err
	}
	if _, on := v.Networks[info.Name]; !on {
		return errdefs.ErrPermissionDenied.WithMessage("container " + v.ID + " is not connected to network " + info.Name)
	}
	planned, live, published := maps.Clone(v.Networks), maps.Clone(v.endpoints), v.published
	delete(planned, info.Name)
	var failed error
	if v.pid() > 0 && isBridged(v) {
		var off bool
		delete(live, info.Name)
		published, off, failed = e.disconnectLive(ctx, v, info, live)
		if failed != nil && !off && !req.Force {
			return failed
		}
	}
	// What could not be saved can be tried again: that the interface is gone already is no error then.
	err = e.saveOrUndo(ctx, c, func(v *view) { v.Networks, v.endpoints, v.published = planned, live, published },
		func(now *view) { now.Networks = v.Networks })
	if err != nil {
		return err
	}
	e.emitNetwork(ctx, v, events.ActionDisconnect, info.Name)
	if req.Force && failed != nil {
		e.log.Warn("container was taken off a network by force", "container", c.id, "network", info.Name, "err", failed)
		return nil
	}
	return failed
}

// disconnectLive takes an interface away from a running container, and brings its ports, names and files to live, its
// other endpoints. off tells whether it is off the network, also when there is an error.
func (e *Engine) disconnectLive(ctx context.Context, v *view, info network.Info, live map[string]*mobynet.EndpointSettings) (published []network.Published, off bool, err error) {
	ns, err := v.task.NetNS()
	if err != nil {
		return v.published, false, err
	}
	defer ns.Close()
	// A daemon that died over this may have taken it away already.
	if err := e.deps.Network.Leave(ctx, v.ID, info.ID, ns); err != nil && !errdefs.IsNotFound(err) {
		return v.published, false, err
	}
	if published, err = e.serve(ctx, v, v.task, live); err != nil {
		return v.published, true, err
	}
	return published, true, e.networkFiles(v, live)
}

// leaveUnrecorded takes a container that runs off networks that its record does not name: the daemon that connected it
// died before it could save that.
func (e *Engine) leaveUnrecorded(v *view, task Task) {
	if v.ResolvedNet != "" {
		return
	}
	ctx, cancel := context.WithTimeout(e.life, clearTimeout)
	defer cancel()
	left := false
	for _, ep := range e.deps.Network.Endpoints(v.ID) {
		if _, ok := v.Networks[ep.Network]; ok || ep.Network == "" { // a daemon of old did not save the name
			continue
		}
		ns, err := task.NetNS()
		if err == nil {
			err = errors.Join(e.deps.Network.Leave(ctx, v.ID, ep.NetworkID, ns), ns.Close())
		}
		if err != nil {
			e.log.Error("container was not taken off a network that it is not said to be on", "container", v.ID, "network", ep.Network, "err", err)
			continue
		}
		e.log.Warn("container was taken off a network that it is not said to be on", "container", v.ID, "network", ep.Network)
		left = true
	}
	if !left {
		return
	}
	if _, err := e.serve(ctx, v, task, e.endpointsOf(v)); err != nil {
		e.log.Error("ports and names of a container are not up to date", "container", v.ID, "err", err)
	}
}
