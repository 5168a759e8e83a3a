package network

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/network/keeper"
	"github.com/portholehq/porthole/internal/network/nft"
)

// SandboxSpec is what a running container needs besides interfaces.
type SandboxSpec struct {
	ContainerID string `json:"container"`
	Name        string `json:"name"`
	// Pid is the container's first process.
	Pid int `json:"pid"`
	// Networks are those with names. With any of them the container gets a
	// resolver.
	Networks []Names `json:"networks,omitempty"`
	// Servers are asked for other names. None: the host's.
	Servers []netip.Addr `json:"servers,omitempty"`
	Ports   []PortSpec   `json:"ports,omitempty"`
}

// Names are a container's names on a network.
type Names struct {
	Network string            `json:"network"` // its id
	Names   []string          `json:"names"`   // the first is the one for the address
	Links   map[string]string `json:"links,omitempty"`
}

// PortSpec is a port that is to be published.
type PortSpec struct {
	Container network.Port `json:"container"`
	// HostIP is the host's address; invalid: the network's choice, which is all,
	// or, of a forwarded port, the loopback addresses.
	HostIP netip.Addr `json:"host_ip,omitzero"`
	// First and Last are the range to choose from; zero: any free port.
	First uint16 `json:"first,omitempty"`
	Last  uint16 `json:"last,omitempty"`
	// Forward connects from inside the container, to its loopback address first.
	Forward bool `json:"forward,omitempty"`
}

// Published is a port of the host that leads to a container.
type Published struct {
	Container network.Port `json:"container"`
	HostIP    netip.Addr   `json:"host_ip"`
	HostPort  uint16       `json:"host_port"`
	Forward   bool         `json:"forward,omitempty"`
}

// sandbox is what became of a SandboxSpec. It is saved as it is, and replaced
// when it changes.
type sandbox struct {
	Version   int         `json:"version"`
	BootID    string      `json:"boot_id"`
	Spec      SandboxSpec `json:"spec"`
	Forwards  []PortSpec  `json:"forwards,omitempty"`
	Published []Published `json:"published,omitempty"`
	Rules     []nft.Port  `json:"rules,omitempty"` // in our table
}

// protocols are those that can be published.
var protocols = map[network.IPProtocol]uint8{network.TCP: unix.IPPROTO_TCP, network.UDP: unix.IPPROTO_UDP}

// Serve publishes a container's ports and answers its questions for names. What
// the container had before is replaced: ports that stay are held on. On an error
// it is as before. A container that needs nothing, and had nothing, costs nothing.
//
// Errors: Conflict for a port that somebody else has, with his name;
// NotImplemented for a protocol that we cannot publish.
func (m *Manager) Serve(ctx context.Context, spec SandboxSpec) ([]Published, error) {
	if len(spec.Networks) == 0 && len(spec.Ports) == 0 {
		m.mu.Lock()
		had := m.sandboxes[spec.ContainerID] != nil
		m.mu.Unlock()
		if !had {
			return nil, nil
		}
	}
	b, err := m.serve(ctx, spec.ContainerID, func(old *sandbox) (SandboxSpec, []PortSpec, error) {
		if old == nil || old.Spec.Pid != spec.Pid {
			return spec, nil, nil
		}
		return spec, slices.Clone(old.Forwards), nil
	})
	if err != nil {
		return nil, err
	}
	return b.published(false), nil
}

// Forward opens a further port of a running container, and returns all that were
// opened so. spec is what the container needs if it has needed nothing yet.
func (m *Manager) Forward(ctx context.Context, spec SandboxSpec, add PortSpec) ([]Published, error) {
	add.Forward = true
	b, err := m.serve(ctx, spec.ContainerID, func(old *sandbox) (SandboxSpec, []PortSpec, error) {
		switch {
		case old == nil:
			return spec, []PortSpec{add}, nil
		case old.Spec.Pid != spec.Pid:
			return spec, nil, errdefs.ErrConflict.WithMessage(fmt.Sprintf("container %s was started anew meanwhile", spec.Name))
		}
		// Not spec: its networks may have changed since that was looked up.
		return old.Spec, append(slices.Clone(old.Forwards), add), nil
	})
	if err != nil {
		return nil, err
	}
	return b.published(true), nil
}

// Unforward closes a port that Forward has opened. It returns a NotFound error if
// there is none.
func (m *Manager) Unforward(ctx context.Context, spec SandboxSpec, hostPort uint16) error {
	_, err := m.serve(ctx, spec.ContainerID, func(old *sandbox) (SandboxSpec, []PortSpec, error) {
		if old != nil && old.Spec.Pid == spec.Pid {
			left := slices.DeleteFunc(slices.Clone(old.Forwards), func(p PortSpec) bool { return p.First == hostPort })
			if len(left) < len(old.Forwards) {
				return old.Spec, left, nil
			}
		}
		return spec, nil, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("port %d of the host is not forwarded to container %s", hostPort, spec.Name))
	})
	return err
}

// Forwards are the ports that Forward has opened.
func (m *Manager) Forwards(container string) []Published {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b := m.sandboxes[container]; b != nil {
		return b.published(true)
	}
	return nil
}

// published are the ports that were forwarded, or the others.
func (b *sandbox) published(forwarded bool) []Published {
	return slices.DeleteFunc(slices.Clone(b.Published), func(p Published) bool { return p.Forward != forwarded })
}

// serve makes a container's sandbox what plan makes of the one that there is, nil
// for none.
func (m *Manager) serve(ctx context.Context, container string, plan func(old *sandbox) (SandboxSpec, []PortSpec, error)) (*sandbox, error) {
	defer m.serving.lock(container)()
	// The keeper does what it was told also when the one who has asked is gone:
	// then we have to know.
	ctx = context.WithoutCancel(ctx)
	m.mu.Lock()
	old := m.sandboxes[container]
	m.mu.Unlock()
	spec, forwards, err := plan(old)
	if err != nil {
		return nil, err
	}
	b, err := m.keep(ctx, spec, forwards)
	if err != nil {
		return nil, err
	}
	m.setSandbox(container, b)
	err = m.store.saveSandbox(b)
	if err == nil {
		err = m.changeRules(old, b)
	}
	if err != nil {
		return nil, errors.Join(err, m.keepAgain(ctx, old, b))
	}
	return b, nil
}

func (m *Manager) setSandbox(container string, b *sandbox) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sandboxes[container] = b
}

// keep has the keeper hold a container's ports and answer its questions.
func (m *Manager) keep(ctx context.Context, spec SandboxSpec, forwards []PortSpec) (*sandbox, error) {
	if m.opts.Keeper == nil {
		return nil, errdefs.ErrNotImplemented.WithMessage("ports and names are not served here")
	}
	ports, err := m.keeperPorts(spec, forwards)
	if err != nil {
		return nil, err
	}
	numbers, err := m.opts.Keeper.Put(ctx, m.keeperSandbox(spec, ports))
	if err != nil {
		return nil, m.explainPort(spec, ports, err)
	}
	m.watchKeeper()
	b := &sandbox{Spec: spec, Forwards: forwards}
	for i, p := range ports {
		if at := i - (len(ports) - len(forwards)); at >= 0 {
			// From now on it is this port, by which it can be closed.
			forwards[at].First, forwards[at].Last = numbers[i], numbers[i]
		}
		for _, ip := range p.HostIPs {
			b.addRule(p, ip, numbers[i], m.routed(spec.ContainerID, ip.Is6()))
		}
	}
	b.Published = publishedAs(ports, numbers)
	return b, nil
}

// publishedAs are ports that the keeper holds under these numbers.
func publishedAs(ports []keeper.Port, numbers []uint16) (list []Published) {
	for i, p := range ports {
		for _, ip := range p.HostIPs {
			list = append(list, Published{Container: portName(p), HostIP: ip, HostPort: numbers[i], Forward: p.Inside})
		}
	}
	return list
}

// keepAgain undoes keep: a container that runs on has what it had before b.
func (m *Manager) keepAgain(ctx context.Context, old, b *sandbox) error {
	id := b.Spec.ContainerID
	if old != nil && old.Spec.Pid == b.Spec.Pid {
		spec, forwards := old.again()
		_, err := m.keep(ctx, spec, forwards)
		if err == nil {
			m.setSandbox(id, old)
			return errors.Join(m.changeRules(b, old), m.store.saveSandbox(old))
		}
		m.log.Error("ports and names of a container were not put back", "container", id, "err", err)
	}
	m.mu.Lock()
	delete(m.sandboxes, id)
	m.mu.Unlock()
	m.withdraw(b.Rules)
	return errors.Join(m.opts.Keeper.Drop(ctx, id), m.store.removeSandbox(id))
}

// changeRules brings the firewall from one state of a container to the next.
func (m *Manager) changeRules(old, now *sandbox) error {
	var gone, fresh []nft.Port
	if old != nil {
		for _, r := range old.Rules {
			if !slices.Contains(now.Rules, r) {
				gone = append(gone, r)
			}
		}
	}
	for _, r := range now.Rules {
		if old == nil || !slices.Contains(old.Rules, r) {
			fresh = append(fresh, r)
		}
	}
	m.withdraw(gone)
	err := m.publish(fresh)
	// The table is not there yet, somebody has just removed it, or there is a
	// leftover in the port's place.
	if errors.Is(err, errNoTable) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EBUSY) {
		err = m.applyRules()
	}
	return err
}

// addRule adds what the firewall does for a port.
func (b *sandbox) addRule(p keeper.Port, ip netip.Addr, number uint16, routed bool) {
	if p.Inside {
		return
	}
	a := p.IPv4
	if ip.Is6() {
		a = p.IPv6
	}
	if !a.IsValid() {
		return
	}
	rule, ok := portRule(protocols[network.IPProtocol(p.Proto)], netip.AddrPortFrom(ip, number), netip.AddrPortFrom(a, p.Port), routed)
	if ok && !slices.Contains(b.Rules, rule) {
		b.Rules = append(b.Rules, rule)
	}
}

func portName(p keeper.Port) network.Port {
	port, _ := network.PortFrom(p.Port, network.IPProtocol(p.Proto)) // it was a Port before
	return port
}

// routed tells whether the network that has a container's default route passes
// packets on as they are.
func (m *Manager) routed(container string, is6 bool) bool {
	l := m.gatewayEndpoint(container, is6)
	if l == nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nets[l.Endpoint.NetworkID]
	return n != nil && n.mode(is6) == modeRouted
}

// keeperPorts works out where ports lead. Ports of a container without a bridge
// network that has a way out are not published, as with Docker.
func (m *Manager) keeperPorts(spec SandboxSpec, forwards []PortSpec) ([]keeper.Port, error) {
	var v4, v6 netip.Addr
	var binding netip.Addr
	if l := m.gatewayEndpoint(spec.ContainerID, false); l != nil && l.Endpoint.Driver == DriverBridge {
		v4 = l.Endpoint.IPv4.Addr()
		m.mu.Lock()
		if n := m.nets[l.Endpoint.NetworkID]; n != nil {
			binding = n.opts.binding
		}
		m.mu.Unlock()
	}
	if l := m.gatewayEndpoint(spec.ContainerID, true); l != nil && l.Endpoint.Driver == DriverBridge {
		v6 = l.Endpoint.IPv6.Addr()
	}
	var ports []keeper.Port
	for _, s := range slices.Concat(spec.Ports, forwards) {
		if _, ok := protocols[s.Container.Proto()]; !ok {
			return nil, errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf("cannot publish port %s: only TCP and UDP ports can be published", s.Container))
		}
		if !s.Forward && !v4.IsValid() && !v6.IsValid() {
			continue
		}
		p := keeper.Port{
			Proto: string(s.Container.Proto()), First: s.First, Last: s.Last, Port: s.Container.Num(), IPv4: v4, IPv6: v6, Inside: s.Forward,
		}
		host := s.HostIP
		if !host.IsValid() {
			host = binding
		}
		switch {
		case s.Forward && !s.HostIP.IsValid() && m.hasIPv6():
			p.HostIPs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
		case s.Forward && !s.HostIP.IsValid():
			p.HostIPs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
		case host.IsValid():
			p.HostIPs = []netip.Addr{host.Unmap()}
		case m.hasIPv6():
			p.HostIPs = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
		default:
			p.HostIPs = []netip.Addr{netip.IPv4Unspecified()}
		}
		ports = append(ports, p)
	}
	return ports, nil
}

// hasIPv6 tells whether the host has any IPv6 address, if only a loopback one.
func (m *Manager) hasIPv6() bool {
	m.ipv6Once.Do(func() {
		_ = inNetNS(m.netns, func() error {
			text, err := os.ReadFile("/proc/thread-self/net/if_inet6")
			m.ipv6 = err == nil && len(text) > 0
			return nil
		})
	})
	return m.ipv6
}

// keeperSandbox is the spec as the keeper wants it.
func (m *Manager) keeperSandbox(spec SandboxSpec, ports []keeper.Port) keeper.Sandbox {
	out := keeper.Sandbox{ID: spec.ContainerID, Pid: spec.Pid, Ports: ports}
	external := m.gatewayEndpoint(spec.ContainerID, false) != nil || m.gatewayEndpoint(spec.ContainerID, true) != nil
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, names := range spec.Networks {
		l, n := m.live[liveKey{spec.ContainerID, names.Network}], m.nets[names.Network]
		if l == nil || n == nil {
			continue
		}
		member := keeper.Membership{Network: n.ID, NetworkName: n.Name, Names: names.Names, Links: names.Links}
		if l.Endpoint.IPv4.IsValid() {
			member.IPv4 = l.Endpoint.IPv4.Addr()
		}
		if l.Endpoint.IPv6.IsValid() {
			member.IPv6 = l.Endpoint.IPv6.Addr()
		}
		out.Networks = append(out.Networks, member)
	}
	if len(spec.Networks) > 0 {
		out.Resolver = &keeper.Resolver{Servers: spec.Servers, External: external}
	}
	return out
}

// Published are a container's ports as Serve has returned them, without those
// that were only forwarded.
func (m *Manager) Published(containerID string) []Published {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.sandboxes[containerID]
	if b == nil {
		return nil
	}
	return b.published(false)
}

// Queries are the questions that a container has asked for names, the last ones,
// and whom it asks. It returns a NotFound error for one that does not ask us.
func (m *Manager) Queries(ctx context.Context, container string) (keeper.Queries, error) {
	if !m.AsksUs(container) {
		return keeper.Queries{}, errdefs.ErrNotFound.WithMessage("the container is on no network with names of its own: it asks the servers of its resolv.conf itself")
	}
	return m.opts.Keeper.Queries(ctx, container)
}

// AsksUs tells whether a container has a name server of ours.
func (m *Manager) AsksUs(container string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.sandboxes[container]
	return b != nil && len(b.Spec.Networks) > 0 && m.opts.Keeper != nil
}

// Follow calls fn with what a container that asks us asks from now on, see
// [keeper.Client.Follow].
func (m *Manager) Follow(ctx context.Context, container string, fn func(keeper.Followed) error) error {
	return m.opts.Keeper.Follow(ctx, container, fn)
}

// AskedByUs tells whether a socket in the network of a container that asks us is
// ours, for a question that was passed on.
func (m *Manager) AskedByUs(ctx context.Context, container, proto string, local netip.AddrPort) (bool, error) {
	return m.opts.Keeper.Asked(ctx, container, proto, local)
}

// unserve takes back what Serve has done.
func (m *Manager) unserve(ctx context.Context, container string) {
	m.mu.Lock()
	b := m.sandboxes[container]
	m.mu.Unlock()
	if b == nil {
		return
	}
	defer m.serving.lock(container)()
	m.mu.Lock()
	if b = m.sandboxes[container]; b != nil {
		delete(m.sandboxes, container)
	}
	m.mu.Unlock()
	if b == nil {
		return
	}
	m.withdraw(b.Rules)
	if m.opts.Keeper != nil {
		if err := m.opts.Keeper.Drop(ctx, container); err != nil {
			m.log.Error("ports of a container that has ended are held on", "container", container, "err", err)
		}
	}
	if err := m.store.removeSandbox(container); err != nil {
		m.log.Warn("cannot remove record of ports", "container", container, "err", err)
	}
}

// auditSandboxes compares what the keeper has with the containers that run: it
// drops what is left of others, puts back what is missing, and closes what a daemon
// has opened that died before it could save that.
func (m *Manager) auditSandboxes(ctx context.Context, live map[string]bool) {
	if m.opts.Keeper == nil {
		return
	}
	m.mu.Lock()
	ours := maps.Clone(m.sandboxes)
	m.mu.Unlock()
	if len(ours) > 0 {
		defer m.watchKeeper()
	}
	if _, err := m.opts.Keeper.Replace(ctx); err != nil {
		m.log.Error("keeper of an older version was not replaced", "err", err)
	}
	there, err := m.opts.Keeper.List(ctx)
	if err != nil {
		m.log.Error("ports and names cannot be audited", "err", err)
		return
	}
	have := map[string]bool{}
	for _, s := range there {
		if b := ours[s.ID]; b == nil || !live[s.ID] || b.Spec.Pid != s.Pid {
			m.log.Info("dropped ports and names of a container that is gone", "container", s.ID)
			if err := m.opts.Keeper.Drop(ctx, s.ID); err != nil {
				m.log.Error("ports of a container that has ended are held on", "container", s.ID, "err", err)
			}
		} else {
			have[s.ID] = slices.Equal(b.Published, publishedAs(s.Ports, s.HostPorts))
		}
	}
	for id, b := range ours {
		if !live[id] {
			m.unserve(ctx, id)
			continue
		}
		if !have[id] {
			m.serveAgain(ctx, b)
		}
	}
}

// watchKeeper sees to it that there is a keeper as long as containers need one.
// It is called when one runs, and does nothing if it is watched already.
func (m *Manager) watchKeeper() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.keeperWatched != nil || m.closed {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	watched := make(chan struct{})
	m.unwatchKeeper, m.keeperWatched = cancel, watched
	go func() {
		defer close(watched)
		defer cancel()
		for m.keeperLost(ctx) {
		}
	}()
}

// keeperLost waits for the keeper's end and has another one do its work. It
// reports whether that is to be watched.
func (m *Manager) keeperLost(ctx context.Context) bool {
	_ = m.opts.Keeper.Wait(ctx) // however it ended
	m.mu.Lock()
	var all []*sandbox
	for _, b := range m.sandboxes {
		all = append(all, b)
	}
	if len(all) == 0 || ctx.Err() != nil {
		m.keeperWatched, m.unwatchKeeper = nil, nil
		m.mu.Unlock()
		return false
	}
	m.mu.Unlock()
	m.log.Warn("the keeper of ports and names has ended, starting another", "containers", len(all))
	for _, b := range all {
		m.serveAgain(ctx, b)
	}
	// One that ends at once must not be started all the time.
	select {
	case <-ctx.Done():
	case <-time.After(keeperPause):
	}
	return true
}

// keeperPause is between two starts of a keeper.
const keeperPause = time.Second

// serveAgain puts back what a keeper that has ended had of a container, with the
// same ports.
func (m *Manager) serveAgain(ctx context.Context, b *sandbox) {
	id := b.Spec.ContainerID
	_, err := m.serve(ctx, id, func(old *sandbox) (SandboxSpec, []PortSpec, error) {
		if old != b { // the container has ended or changed meanwhile, and is served anew if it runs
			return SandboxSpec{}, nil, errReplaced
		}
		spec, forwards := b.again()
		return spec, forwards, nil
	})
	switch {
	case err == nil:
		m.log.Info("ports and names of a container restored", "container", id)
	case !errors.Is(err, errReplaced):
		m.log.Error("ports and names of a container were not restored", "container", id, "err", err)
	}
}

// errReplaced ends the work for a sandbox that is not the container's any more.
var errReplaced = errors.New("there is another sandbox")

// again is what b came from, with the ports that it got.
func (b *sandbox) again() (SandboxSpec, []PortSpec) {
	left := slices.Clone(b.Published)
	same := func(list []PortSpec) []PortSpec {
		list = slices.Clone(list)
		for i := range list {
			fits := func(p Published) bool {
				return p.Container == list[i].Container && p.Forward == list[i].Forward &&
					(list[i].First == 0 || (list[i].First <= p.HostPort && p.HostPort <= list[i].Last))
			}
			at := slices.IndexFunc(left, fits)
			if at < 0 {
				continue
			}
			number := left[at].HostPort
			list[i].First, list[i].Last = number, number
			left = slices.DeleteFunc(left, func(p Published) bool { return fits(p) && p.HostPort == number })
		}
		return list
	}
	spec := b.Spec
	spec.Ports = same(spec.Ports)
	return spec, same(b.Forwards)
}

// keyed is a lock for each key.
type keyed struct {
	mu   sync.Mutex
	held map[string]chan struct{}
}

// lock waits for the key; the result gives it back.
func (k *keyed) lock(key string) (unlock func()) {
	for {
		k.mu.Lock()
		wait := k.held[key]
		if wait == nil {
			if k.held == nil {
				k.held = map[string]chan struct{}{}
			}
			mine := make(chan struct{})
			k.held[key] = mine
			k.mu.Unlock()
			return func() {
				k.mu.Lock()
				delete(k.held, key)
				k.mu.Unlock()
				close(mine)
			}
		}
		k.mu.Unlock()
		<-wait
	}
}
