package network

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/portholehq/porthole/internal/network/nft"
)

// ReachSpec names a container whose ports are looked at.
type ReachSpec struct {
	ID    string   // of the one whose network it has
	NetNS *os.File // of it
	// HostNet tells that it is in the host's network, where only the sockets of its
	// processes, by their ids on the host, are its own.
	HostNet bool
	Pids    []int
	// Port is the only one of interest; 0: all.
	Port uint16
}

// ReachPort is a port that a container listens on, or that leads to nobody.
type ReachPort struct {
	Proto   string
	Port    uint16
	Listens []netip.Addr // empty: nobody listens, though it is published
	Sockets []Socket
	From    []ReachFrom
}

// ReachFrom tells whether somebody can reach a port.
type ReachFrom struct {
	Who     string   // the host, containers of NETWORK, other containers, other hosts
	Reached bool     // as far as the rules of others let it
	By      []string // addresses with ports
	Why     string   // how, or why not
}

// Reach tells who can reach the ports of a container, from what is known: nobody
// is connected to.
func (m *Manager) Reach(spec ReachSpec) ([]ReachPort, error) {
	sockets, err := socketsIn(spec.NetNS)
	if err != nil {
		return nil, err
	}
	if spec.HostNet {
		own := inodesOf(spec.Pids)
		sockets = slices.DeleteFunc(sockets, func(s Socket) bool { return !own[s.Inode] })
	}
	r := &reach{m: m, spec: spec, ends: m.Endpoints(spec.ID)}
	m.mu.Lock()
	if b := m.sandboxes[spec.ID]; b != nil {
		r.published = slices.Clone(b.Published)
	}
	m.mu.Unlock()
	r.forwardDrops, r.inputDrops = m.dropping(nft.Forward), m.dropping(nft.Input)
	var list []ReachPort
	for _, p := range r.ports(sockets) {
		if spec.Port == 0 || spec.Port == p.Port {
			r.look(&p)
			list = append(list, p)
		}
	}
	return list, nil
}

// dropping lists chains of others that drop packets; a failure to list them is
// told in their place.
func (m *Manager) dropping(hook nft.Hook) []string {
	list, err := nft.Dropping(m.netns, hook, m.table())
	if err != nil {
		return []string{"not known: " + err.Error()}
	}
	return list
}

// reach is a Reach under way.
type reach struct {
	m                        *Manager
	spec                     ReachSpec
	ends                     []Endpoint
	published                []Published
	forwardDrops, inputDrops []string
}

// ports are those that are listened on, and those that are published though
// nobody listens.
func (r *reach) ports(sockets []Socket) (list []ReachPort) {
	at := func(proto string, port uint16) *ReachPort {
		i := slices.IndexFunc(list, func(p ReachPort) bool { return p.Proto == proto && p.Port == port })
		if i < 0 {
			list = append(list, ReachPort{Proto: proto, Port: port})
			i = len(list) - 1
		}
		return &list[i]
	}
	for _, s := range sockets {
		if r.spec.Port == 0 && r.ownSocket(s) {
			continue
		}
		p := at(s.Proto, s.Addr.Port())
		p.Sockets = append(p.Sockets, s)
		if !slices.Contains(p.Listens, s.Addr.Addr()) {
			p.Listens = append(p.Listens, s.Addr.Addr())
		}
	}
	for _, p := range r.published {
		at(string(p.Container.Proto()), p.Container.Num())
	}
	slices.SortFunc(list, func(a, b ReachPort) int {
		if a.Proto != b.Proto {
			return strings.Compare(a.Proto, b.Proto)
		}
		return int(a.Port) - int(b.Port)
	})
	return list
}

// ownSocket tells of the sockets of our name server, which the keeper has in the
// container's network.
func (r *reach) ownSocket(s Socket) bool {
	return s.Addr.Addr() == netip.AddrFrom4([4]byte{127, 0, 0, 11})
}

// look fills in who can reach a port.
func (r *reach) look(p *ReachPort) {
	if len(p.Listens) == 0 {
		p.From = append(p.From, ReachFrom{Who: "everybody", Why: "nobody listens on the port, though it is published as " + strings.Join(r.hostPorts(p, always), ", ")})
		return
	}
	if r.spec.HostNet {
		r.inHost(p)
		return
	}
	p.From = append(p.From, r.host(p))
	for _, e := range r.ends {
		p.From = append(p.From, r.network(p, e))
	}
	p.From = append(p.From, r.others(p), r.outside(p))
}

// hears tells whether the port is listened on at an address.
func (p *ReachPort) hears(a netip.Addr) bool {
	return slices.ContainsFunc(p.Listens, func(l netip.Addr) bool { return l == a || l.IsUnspecified() && (l.Is6() || a.Is4()) })
}

// onlyLoopback tells that nobody but the container itself is heard.
func (p *ReachPort) onlyLoopback() bool {
	return !slices.ContainsFunc(p.Listens, func(a netip.Addr) bool { return !a.IsLoopback() })
}

func (p *ReachPort) deaf() string {
	var list []string
	for _, a := range p.Listens {
		list = append(list, a.String())
	}
	if p.onlyLoopback() {
		return "the server listens on " + strings.Join(list, ", ") + " only, its loopback address"
	}
	return "the server listens on " + strings.Join(list, ", ") + " only"
}

// own are the container's addresses on a network that the port is heard at.
func (r *reach) own(p *ReachPort, e Endpoint) (by []string) {
	for _, prefix := range []netip.Prefix{e.IPv4, e.IPv6} {
		if prefix.IsValid() && p.hears(prefix.Addr()) {
			by = append(by, net.JoinHostPort(prefix.Addr().String(), strconv.Itoa(int(p.Port))))
		}
	}
	return by
}

func always(Published) bool { return true }

// hostPorts are the ports of the host that lead to a port and of which fits is
// true.
func (r *reach) hostPorts(p *ReachPort, fits func(Published) bool) (by []string) {
	for _, h := range r.published {
		if string(h.Container.Proto()) == p.Proto && h.Container.Num() == p.Port && fits(h) {
			by = append(by, net.JoinHostPort(h.HostIP.String(), strconv.Itoa(int(h.HostPort))))
		}
	}
	return by
}

// host is the host itself.
func (r *reach) host(p *ReachPort) ReachFrom {
	f := ReachFrom{Who: "the host"}
	var how []string
	direct := len(f.By)
	for _, e := range r.ends {
		if e.Driver == DriverBridge && e.Host.IsValid() {
			f.By = append(f.By, r.own(p, e)...)
		}
	}
	if len(f.By) > direct {
		how = append(how, "directly")
	}
	if !p.onlyLoopback() {
		if by := r.hostPorts(p, func(h Published) bool { return !h.Forward }); len(by) > 0 {
			f.By, how = append(f.By, by...), append(how, "published")
		}
	}
	if by := r.hostPorts(p, func(h Published) bool { return h.Forward }); len(by) > 0 {
		f.By, how = append(f.By, by...), append(how, "forwarded")
	}
	f.Reached, f.Why = len(f.By) > 0, strings.Join(how, ", ")
	switch {
	case f.Reached:
	case len(r.ends) == 0:
		f.Why = "the container has no network"
	case p.onlyLoopback():
		f.Why = p.deaf()
	case !slices.ContainsFunc(r.ends, func(e Endpoint) bool { return e.Driver == DriverBridge }):
		f.Why = "a host does not reach containers on its own " + r.ends[0].Driver + " interfaces"
	default:
		f.Why = p.deaf()
	}
	return f
}

// network are the other containers of a network.
func (r *reach) network(p *ReachPort, e Endpoint) ReachFrom {
	f := ReachFrom{Who: "containers of " + e.Network, By: r.own(p, e)}
	n, err := r.m.find(e.NetworkID)
	switch {
	case len(f.By) == 0:
		f.Why = p.deaf()
	case err == nil && !n.opts.icc:
		f.By, f.Why = nil, "the network keeps its containers apart (com.docker.network.bridge.enable_icc=false)"
	default:
		f.Reached, f.Why = true, "directly"
	}
	return f
}

// others are containers of networks that this one is not on.
func (r *reach) others(p *ReachPort) ReachFrom {
	f := ReachFrom{Who: "other containers"}
	for _, e := range r.ends {
		if by := r.open(p, e, modeUnprotected); len(by) > 0 {
			f.By, f.Why = append(f.By, by...), "the network "+e.Network+" lets everything in (nat-unprotected)"
		}
	}
	onHost := func(h Published) bool { return !h.HostIP.IsLoopback() }
	if by := r.hostPorts(p, onHost); len(by) > 0 && (!p.onlyLoopback() || r.forwarded(p, onHost)) {
		f.By = append(f.By, by...)
		f.Why = strings.TrimPrefix(f.Why+"; by an address of the host"+r.unless(r.inputDrops), "; ")
	}
	f.Reached = len(f.By) > 0
	if !f.Reached {
		f.Why = r.closed(p, "networks are kept apart")
	}
	return f
}

// forwarded tells whether the host's ports are forwarded ones, which servers on a
// loopback address are reached by.
func (r *reach) forwarded(p *ReachPort, fits func(Published) bool) bool {
	return len(r.hostPorts(p, func(h Published) bool { return h.Forward && fits(h) })) > 0
}

// open are the addresses of a container on a network whose mode is the one.
func (r *reach) open(p *ReachPort, e Endpoint, mode string) (by []string) {
	n, err := r.m.find(e.NetworkID)
	if err != nil || e.Driver != DriverBridge {
		return nil
	}
	for _, prefix := range []netip.Prefix{e.IPv4, e.IPv6} {
		if prefix.IsValid() && n.mode(prefix.Addr().Is6()) == mode && p.hears(prefix.Addr()) {
			by = append(by, net.JoinHostPort(prefix.Addr().String(), strconv.Itoa(int(p.Port))))
		}
	}
	return by
}

// outside are other hosts.
func (r *reach) outside(p *ReachPort) ReachFrom {
	f := ReachFrom{Who: "other hosts"}
	var how []string
	for _, e := range r.ends {
		if by := r.open(p, e, modeUnprotected); len(by) > 0 {
			f.By, how = append(f.By, by...), append(how, "by a route to network "+e.Network+", which lets everything in")
		}
		if by := r.open(p, e, modeRouted); len(by) > 0 && len(r.hostPorts(p, always)) > 0 {
			f.By, how = append(f.By, by...), append(how, "by a route to network "+e.Network+", since the port is published")
		}
		if e.Driver == DriverMacvlan || e.Driver == DriverIPvlan {
			if by := r.own(p, e); len(by) > 0 {
				f.By, how = append(f.By, by...), append(how, "on the network of the parent interface")
			}
		}
	}
	onHost := func(h Published) bool { return !h.HostIP.IsLoopback() }
	if by := r.hostPorts(p, onHost); len(by) > 0 && (!p.onlyLoopback() || r.forwarded(p, onHost)) {
		f.By, how = append(f.By, by...), append(how, "published"+r.unless(slices.Concat(r.forwardDrops, r.inputDrops)))
	}
	f.Reached, f.Why = len(f.By) > 0, strings.Join(how, "; ")
	if !f.Reached {
		f.Why = r.closed(p, "the port is not published")
	}
	return f
}

// closed tells why nobody comes in from elsewhere.
func (r *reach) closed(p *ReachPort, otherwise string) string {
	switch by := r.hostPorts(p, always); {
	case len(r.ends) == 0:
		return "the container has no network"
	case p.onlyLoopback():
		return p.deaf()
	case len(by) > 0:
		return "it is published on a loopback address of the host only: " + strings.Join(by, ", ")
	}
	return otherwise
}

// unless names chains of others that may drop packets all the same.
func (r *reach) unless(chains []string) string {
	if len(chains) == 0 {
		return ""
	}
	return ", unless these drop it: " + strings.Join(slices.Compact(slices.Sorted(slices.Values(chains))), "; ")
}

// inHost is a container in the host's network: its ports are the host's.
func (r *reach) inHost(p *ReachPort) {
	by := func(fits func(netip.Addr) bool) (list []string) {
		for _, a := range p.Listens {
			if fits(a) {
				list = append(list, net.JoinHostPort(a.String(), strconv.Itoa(int(p.Port))))
			}
		}
		return list
	}
	p.From = append(p.From, ReachFrom{Who: "the host", Reached: true, By: by(func(netip.Addr) bool { return true }), Why: "the container is in its network"})
	for _, who := range []string{"other containers", "other hosts"} {
		f := ReachFrom{Who: who, By: by(func(a netip.Addr) bool { return !a.IsLoopback() })}
		if f.Reached = len(f.By) > 0; f.Reached {
			f.Why = "by an address of the host" + r.unless(r.inputDrops)
		} else {
			f.Why = p.deaf()
		}
		p.From = append(p.From, f)
	}
}
