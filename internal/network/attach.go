package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vishvananda/netlink"
)

// AttachSpec says what Attach connects to what.
type AttachSpec struct {
	// ContainerID is the container's full id.
	ContainerID string
	// Name is the container's name, shown by Inspect. May be empty.
	Name string
	// Network is the name or id of the network. Empty and "default" mean the
	// default bridge.
	Network string
	// NetNS is the container's network namespace. It may belong to another user
	// namespace. The caller closes it.
	NetNS *os.File
	// IPv4 and IPv6 ask for addresses of the network's subnets. The zero value
	// means any.
	IPv4, IPv6 netip.Addr
	// LinkLocal are further addresses.
	LinkLocal []netip.Addr
	// MAC asks for a hardware address. Nil means one made of the address.
	MAC net.HardwareAddr
	// Options are the driver's options for this endpoint.
	Options map[string]string
	// Priority decides which of several networks gives the default route.
	Priority int
}

// The options of an endpoint.
const (
	optionInterface = optionPrefix + "endpoint.ifname"
	optionSysctls   = optionPrefix + "endpoint.sysctls"
)

// Attach gives a container an interface with addresses and, if the network is
// the one for that, the default route. The container's own end is up when Attach
// returns. On an error nothing is left behind. A container that is attached to
// this network already is detached from it first.
//
// Errors: NotFound for a network that is not there, InvalidArgument for host
// and none and for an address out of the subnet, Unavailable when no address
// is free, AlreadyExists for one that is taken.
func (m *Manager) Attach(ctx context.Context, spec AttachSpec) (Endpoint, error) {
	if ctx.Err() != nil { // later it would be half done
		return Endpoint{}, context.Cause(ctx)
	}
	n, err := m.attachable(spec.Network)
	if err != nil {
		return Endpoint{}, err
	}
	m.mu.Lock()
	old := m.live[liveKey{spec.ContainerID, n.ID}]
	m.mu.Unlock()
	if old != nil {
		m.leave(old)
	}
	l, err := m.reserve(n, spec)
	if err != nil && m.leaving() && m.Settle(ctx) == nil {
		// An address that was taken may be free now: a container that is started
		// again wants the one that it has just had.
		l, err = m.reserve(n, spec)
	}
	if err != nil {
		return Endpoint{}, err
	}
	if err := m.connect(n, l, spec); err != nil {
		m.discard(l)
		return Endpoint{}, fmt.Errorf("attach container %.12s to network %s: %w", spec.ContainerID, n.Name, err)
	}
	return l.Endpoint, nil
}

// leaving tells whether there are interfaces that were detached and not removed
// yet.
func (m *Manager) leaving() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.leases) > len(m.live)
}

// attachable resolves a network by name or id.
func (m *Manager) attachable(ref string) (*netw, error) {
	n, err := m.find(ref)
	switch {
	case err != nil:
		return nil, err
	case n.Driver == DriverHost || n.Driver == DriverNull:
		return nil, errdefs.ErrInvalidArgument.WithMessage("network " + n.Name + " has no interfaces to attach")
	case n.link.Index == 0:
		return nil, errdefs.ErrFailedPrecondition.WithMessage("network " + n.Name + " is not set up")
	}
	return n, nil
}

// reserve takes addresses and saves the lease.
func (m *Manager) reserve(n *netw, spec AttachSpec) (*lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.nets[n.ID] == nil {
		return nil, errdefs.ErrNotFound.WithMessage("network " + n.Name + " not found")
	}
	id := newID()
	ep := Endpoint{
		EndpointID: id, NetworkID: n.ID, Network: n.Name, Driver: n.Driver, MTU: int(n.link.MTU), MAC: spec.MAC, Priority: spec.Priority,
	}
	if n.Driver == DriverBridge {
		ep.HostInterface = "veth" + id[:11]
	}
	var err error
	if ep.Interface, err = m.interfaceName(n, spec); err != nil {
		return nil, err
	}
	if n.IPv4 {
		if ep.IPv4, ep.Gateway, err = m.pick(n, false, spec.IPv4); err != nil {
			return nil, err
		}
	}
	if n.IPv6 {
		if ep.IPv6, ep.Gateway6, err = m.pick(n, true, spec.IPv6); err != nil {
			return nil, err
		}
	}
	if n.Driver == DriverBridge {
		if ep.Host = ep.Gateway; !ep.Host.IsValid() {
			ep.Host = ep.Gateway6
		}
	}
	if n.Internal || n.opts.mode4 == modeIsolated {
		ep.Gateway = netip.Addr{}
	}
	if n.Internal || n.opts.mode6 == modeIsolated {
		ep.Gateway6 = netip.Addr{}
	}
	if len(ep.MAC) == 0 && n.Driver != DriverIPvlan { // whose interfaces have the parent's
		ep.MAC = randomMAC()
		if ep.IPv4.IsValid() {
			ep.MAC = macFor(ep.IPv4.Addr())
		}
	}
	l := &lease{Container: spec.ContainerID, Name: spec.Name, Created: time.Now().UTC(), Endpoint: ep}
	// The file comes first, so that a daemon that dies right after this line
	// leaves a lease without an interface, which Reconcile mends, and never an
	// interface that nobody knows.
	if err := m.store.saveLease(*l); err != nil {
		return nil, fmt.Errorf("save lease of %s: %w", l.addresses(), err)
	}
	m.remember(l)
	return l, nil
}

// remember makes a lease known. mu is held.
func (m *Manager) remember(l *lease) {
	m.leases[l.Endpoint.EndpointID] = l
	m.live[l.key()] = l
	m.own[l.Container] = append(m.own[l.Container], l)
	for _, a := range l.addresses() {
		m.taken[addrKey{l.Endpoint.NetworkID, a}] = l
	}
}

// unlive takes a lease from its container; false: it is not its any more. mu is
// held.
func (m *Manager) unlive(l *lease) bool {
	if m.live[l.key()] != l {
		return false
	}
	delete(m.live, l.key())
	m.own[l.Container] = slices.DeleteFunc(m.own[l.Container], func(other *lease) bool { return other == l })
	if len(m.own[l.Container]) == 0 {
		delete(m.own, l.Container)
	}
	return true
}

func (l *lease) key() liveKey { return liveKey{l.Container, l.Endpoint.NetworkID} }

// addresses are those that the lease takes.
func (l *lease) addresses() (list []netip.Addr) {
	for _, p := range []netip.Prefix{l.Endpoint.IPv4, l.Endpoint.IPv6} {
		if p.IsValid() {
			list = append(list, p.Addr())
		}
	}
	return list
}

// interfaceName is the one that the endpoint asks for, or the first that the
// container has not. mu is held.
func (m *Manager) interfaceName(n *netw, spec AttachSpec) (string, error) {
	used := map[string]bool{}
	for _, l := range m.own[spec.ContainerID] {
		used[l.Endpoint.Interface] = true
	}
	if name := spec.Options[optionInterface]; name != "" {
		if err := checkInterfaceName(name); err != nil {
			return "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid interface name %q: %v", name, err))
		}
		if used[name] {
			return "", errdefs.ErrAlreadyExists.WithMessage(fmt.Sprintf("interface name %q is used by another network of the container", name))
		}
		return name, nil
	}
	for i := 0; ; i++ {
		if name := n.opts.ifacePrefix + strconv.Itoa(i); !used[name] {
			return name, nil
		}
	}
}

// macFor makes a locally administered hardware address of an IPv4 address, so
// that a neighbour's table stays right when an address gets a new owner.
func macFor(a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return slices.Concat(net.HardwareAddr{0x02, 0x42}, net.HardwareAddr(b[:]))
}

// connect makes the interfaces of a lease.
func (m *Manager) connect(n *netw, l *lease, spec AttachSpec) error {
	inside, err := dialRTNL(spec.NetNS)
	if err != nil {
		return err
	}
	defer inside.Close()
	ep := &l.Endpoint
	if n.Driver == DriverBridge {
		err = m.connectPair(n, l, spec.NetNS)
	} else {
		err = m.connectVlan(n, l, spec.NetNS)
	}
	if err != nil {
		return err
	}
	index, err := inside.linkIndex(ep.Interface)
	if err != nil {
		return err
	}
	var reqs []request
	if !n.IPv6 {
		reqs = append(reqs, noIPv6Address(index, ""))
	}
	reqs = append(reqs, upByIndex(index))
	for _, p := range []netip.Prefix{ep.IPv4, ep.IPv6} {
		if p.IsValid() {
			reqs = append(reqs, newAddress(index, p))
		}
	}
	for _, a := range spec.LinkLocal {
		reqs = append(reqs, newAddress(index, linkLocalPrefix(a)))
	}
	for is6, gw := range map[bool]netip.Addr{false: ep.Gateway, true: ep.Gateway6} {
		if gw.IsValid() && m.gatewayEndpoint(l.Container, is6) == l {
			reqs = append(reqs, newDefaultRoute(index, gw))
		}
	}
	if err := inside.do(reqs...); err != nil {
		return err
	}
	return applySysctls(spec.NetNS, ep.Interface, spec.Options[optionSysctls])
}

// connectPair makes a veth pair, one end in the container and one on the bridge.
func (m *Manager) connectPair(n *netw, l *lease, ns *os.File) error {
	ep := l.Endpoint
	spec := vethSpec{Host: ep.HostInterface, Peer: ep.Interface, PeerMAC: ep.MAC, PeerNS: ns, MTU: n.link.MTU}
	errs := m.host.batch(newVeth(spec), noIPv6Address(0, ep.HostInterface), upOnBridge(ep.HostInterface, n.link.Index, l.alias()))
	if errs[0] != nil { // the others cannot have worked, and say nothing new
		return errs[0]
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if n.opts.icc {
		return nil
	}
	// The bridge passes nothing between two ports that are isolated.
	h, err := m.handle()
	if err != nil {
		return err
	}
	defer h.Close()
	link, err := h.LinkByName(ep.HostInterface)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", ep.HostInterface, err)
	}
	if err := h.LinkSetIsolated(link, true); err != nil {
		return fmt.Errorf("isolate interface %s: %w", ep.HostInterface, err)
	}
	return nil
}

// alias tells people on the host whose interface it is: CONTAINER/eth0.
func (l *lease) alias() string {
	name := l.Name
	if name == "" {
		name = l.Container[:min(12, len(l.Container))]
	}
	const longest = 255 // IFALIASZ - 1
	text := name + "/" + l.Endpoint.Interface
	return text[max(0, len(text)-longest):]
}

func linkLocalPrefix(a netip.Addr) netip.Prefix {
	if a.Is4() {
		return netip.PrefixFrom(a, 16)
	}
	return netip.PrefixFrom(a, 64)
}

// applySysctls writes settings of the container's interface, given as
// net.ipv4.conf.IFNAME.log_martians=1,...
func applySysctls(ns *os.File, name, settings string) error {
	if settings == "" {
		return nil
	}
	return inNetNS(ns, func() error {
		for setting := range strings.SplitSeq(settings, ",") {
			key, value, ok := strings.Cut(setting, "=")
			parts := strings.Split(key, ".")
			if !ok || len(parts) != 5 || parts[0] != "net" || parts[3] != "IFNAME" || strings.Contains(key, "/") {
				return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid sysctl %q: it is not of the form net.X.Y.IFNAME.Z=V", setting))
			}
			parts[3] = name
			if err := setSysctl(strings.Join(parts, "/"), value); err != nil {
				return err
			}
		}
		return nil
	})
}

// gatewayEndpoint is the lease of a container that has the default route of a
// family: that of the highest priority, of equal ones the first by name; nil:
// none has a gateway.
func (m *Manager) gatewayEndpoint(container string, is6 bool) *lease {
	m.mu.Lock()
	defer m.mu.Unlock()
	var best *lease
	for _, l := range m.own[container] {
		gw := l.Endpoint.Gateway
		if is6 {
			gw = l.Endpoint.Gateway6
		}
		if !gw.IsValid() {
			continue
		}
		if best == nil || l.Endpoint.Priority > best.Endpoint.Priority ||
			(l.Endpoint.Priority == best.Endpoint.Priority && l.Endpoint.Network < best.Endpoint.Network) {
			best = l
		}
	}
	return best
}

// reroute gives a container the default routes that its networks call for,
// after one of them was taken away.
func (m *Manager) reroute(container string, ns *os.File) error {
	inside, err := dialRTNL(ns)
	if err != nil {
		return err
	}
	defer inside.Close()
	for _, is6 := range []bool{false, true} {
		l := m.gatewayEndpoint(container, is6)
		if l == nil {
			continue
		}
		index, err := inside.linkIndex(l.Endpoint.Interface)
		if err != nil {
			return err
		}
		gw := l.Endpoint.Gateway
		if is6 {
			gw = l.Endpoint.Gateway6
		}
		if err := inside.do(newDefaultRoute(index, gw)); err != nil {
			return err
		}
	}
	return nil
}

// discard takes back a lease whose connect went wrong.
func (m *Manager) discard(l *lease) {
	if l.Endpoint.HostInterface == "" {
		m.release([]*lease{l}) // the interface ends with the container
		return
	}
	if err := m.host.do(delLink(l.Endpoint.HostInterface)); err != nil && !gone(err) {
		// The reaper tries again, and says so if it cannot.
		m.log.Warn("interface of a failed attach is left", "interface", l.Endpoint.HostInterface, "err", err)
		m.leave(l)
		return
	}
	m.release([]*lease{l})
}

// Leave takes a container that runs off one network and gives the default route
// to another. ns is its network namespace.
func (m *Manager) Leave(ctx context.Context, container, ref string, ns *os.File) error {
	n, err := m.find(ref)
	if err != nil {
		return err
	}
	m.mu.Lock()
	l := m.live[liveKey{container, n.ID}]
	m.mu.Unlock()
	if l == nil {
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("container %s is not connected to network %s", container, n.Name))
	}
	if l.Endpoint.HostInterface == "" {
		err = removeInside(ns, l.Endpoint.Interface)
	} else {
		// At once, not by the reaper: the container must not have it any more.
		err = m.host.do(delLink(l.Endpoint.HostInterface))
	}
	if err != nil && !gone(err) {
		return err
	}
	m.leave(l)
	return errors.Join(m.reroute(container, ns), m.Settle(ctx))
}

// removeInside removes an interface in a container.
func removeInside(ns *os.File, name string) error {
	h, err := handleAt(ns)
	if err != nil {
		return err
	}
	defer h.Close()
	link, err := h.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find interface %s in container: %w", name, err)
	}
	return h.LinkDel(link)
}
