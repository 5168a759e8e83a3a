package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/network/nft"
)

// CheckSpec is a way that is to be walked.
type CheckSpec struct {
	// From is where it begins; nil: at the host.
	From *CheckEnd
	// Resolver and Hosts are the files of From that tell how it finds names.
	Resolver, Hosts string
	// Name is the target: a container, a host's name or an address.
	Name string
	Port uint16 // of TCP
	// To is the container that Name names; nil: it names none.
	To *CheckEnd
	// Container opens a container by its id; nil if it does not run. The caller
	// closes its NetNS.
	Container func(id string) *CheckEnd
}

// CheckEnd is a container.
type CheckEnd struct {
	ID, Name string
	State    string   // if it does not run
	NetNS    *os.File // nil: it does not run
	IsHost   bool     // it is in the host's network
}

// Hop is a station of the way and what was found there.
type Hop struct {
	Name   string `json:"Name"`
	State  string `json:"State"` // ok, failed, warning or skipped
	Detail string `json:"Detail"`
	Hint   string `json:"Hint,omitempty"`
}

// The states of a hop.
const (
	HopOK      = "ok"
	HopFailed  = "failed"
	HopWarning = "warning"
	HopSkipped = "skipped"
)

// walk is a Check under way.
type walk struct {
	m    *Manager
	spec CheckSpec
	ns   *os.File // where it begins
	hops []Hop

	addr netip.Addr // of the target, once it is known
	end  *CheckEnd  // the container that serves the target; nil: none of ours
	port uint16     // at end
	own  bool       // end was opened by us
	// suspects tells that there are chains of others that drop some packets.
	suspects bool
	// published tells that the way goes through a published port.
	published bool
}

// Check walks from one end to the other: name, route, interface, bridge,
// firewall, listener, and at last a real connection. It goes on after a failure
// as far as there is something to look at. It changes nothing, but for a table that
// is there while a connection that failed is traced.
func (m *Manager) Check(ctx context.Context, spec CheckSpec) []Hop {
	w := &walk{m: m, spec: spec, ns: m.netns, port: spec.Port}
	if spec.From != nil {
		w.ns = spec.From.NetNS
	}
	defer func() {
		if w.own {
			w.end.NetNS.Close()
		}
	}()
	if !w.resolve(ctx) {
		return w.hops
	}
	w.route()
	w.locate()
	w.firewall()
	w.listener()
	w.connect(ctx)
	return w.hops
}

func (w *walk) add(name, state, format string, args ...any) *Hop {
	w.hops = append(w.hops, Hop{Name: name, State: state, Detail: fmt.Sprintf(format, args...)})
	return &w.hops[len(w.hops)-1]
}

// resolve finds the target's address as the beginning of the way would.
func (w *walk) resolve(ctx context.Context) bool {
	name := w.spec.Name
	if a, err := netip.ParseAddr(name); err == nil {
		w.addr = a
		w.add("name", HopSkipped, "%s is an address", a)
		return true
	}
	if w.spec.To != nil && w.spec.To.NetNS == nil {
		h := w.add("container", HopFailed, "container %s is %s", w.spec.To.Name, w.spec.To.State)
		h.Hint = "start it with: porthole start " + w.spec.To.Name + "; see why it ended with: porthole logs " + w.spec.To.Name
		return false
	}
	if w.spec.From == nil {
		return w.resolveAtHost(ctx)
	}
	if a, ok := inHosts(w.spec.Hosts, name); ok {
		w.addr = a
		w.add("name", HopOK, "%s is %s, says /etc/hosts of %s", name, a, w.spec.From.Name)
		return true
	}
	servers := nameserversOf(w.spec.Resolver)
	if len(servers) == 0 {
		w.add("name", HopFailed, "resolv.conf of %s has no name servers", w.spec.From.Name).Hint = "give it some with --dns"
		return w.fallback()
	}
	a, server, err := w.ask(ctx, servers, name)
	if err == nil {
		w.addr = a
		w.add("name", HopOK, "%s is %s, says %s", name, a, server)
		return true
	}
	h := w.add("name", HopFailed, "%s cannot find %s: %v", w.spec.From.Name, name, err)
	h.Hint = w.unknownHint()
	return w.fallback()
}

// resolveAtHost is resolve for the host, where names of containers mean nothing.
func (w *walk) resolveAtHost(ctx context.Context) bool {
	if w.spec.To != nil {
		return w.fallback()
	}
	list, err := net.DefaultResolver.LookupNetIP(ctx, "ip", w.spec.Name)
	if err != nil || len(list) == 0 {
		w.add("name", HopFailed, "the host cannot find %s: %v", w.spec.Name, err)
		return false
	}
	w.addr = list[0].Unmap()
	w.add("name", HopOK, "%s is %s, says the host's resolver", w.spec.Name, w.addr)
	return true
}

// fallback goes on with an address that we know of the target.
func (w *walk) fallback() bool {
	to := w.spec.To
	if to == nil {
		return false
	}
	if to.IsHost {
		w.addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	for _, ep := range w.m.Endpoints(to.ID) {
		a := ep.IPv4.Addr()
		if !a.IsValid() {
			a = ep.IPv6.Addr()
		}
		if !w.addr.IsValid() || (w.spec.From != nil && w.shares(ep.NetworkID)) {
			w.addr = a
		}
	}
	if w.addr.IsValid() {
		w.add("address", HopOK, "%s has the address %s, which is tried", to.Name, w.addr)
	} else {
		w.add("address", HopFailed, "%s has no address", to.Name)
	}
	return w.addr.IsValid()
}

// shares tells whether the way begins on a network.
func (w *walk) shares(network string) bool {
	return slices.ContainsFunc(w.m.Endpoints(w.spec.From.ID), func(ep Endpoint) bool { return ep.NetworkID == network })
}

// unknownHint tells why a name of a container cannot be found.
func (w *walk) unknownHint() string {
	if w.spec.To == nil {
		return "see whom it asks, and what they say, with: porthole net dns " + w.spec.From.Name
	}
	theirs := w.m.Endpoints(w.spec.To.ID)
	for _, ep := range theirs {
		if w.shares(ep.NetworkID) && ep.Network == BridgeNetwork {
			return "on the default network containers have no names: connect both to one of your own, see: porthole network create --help"
		}
	}
	for _, ep := range theirs {
		if !w.shares(ep.NetworkID) && ep.Network != BridgeNetwork {
			return fmt.Sprintf("%s is on network %s and %s is not: porthole network connect %s %s", w.spec.To.Name, ep.Network, w.spec.From.Name, ep.Network, w.spec.From.Name)
		}
	}
	return ""
}

// ask asks the servers from where the way begins.
func (w *walk) ask(ctx context.Context, servers []netip.Addr, name string) (a netip.Addr, server string, err error) {
	for _, s := range servers {
		at := netip.AddrPortFrom(s, 53).String()
		for _, typ := range []uint16{dns.TypeA, dns.TypeAAAA} {
			var resp *dns.Msg
			q := new(dns.Msg).SetQuestion(dns.Fqdn(name), typ)
			inside := inNetNS(w.ns, func() error {
				ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
				defer cancel()
				var err error
				resp, _, err = new(dns.Client).ExchangeContext(ctx, q, at)
				return err
			})
			if inside != nil {
				err = fmt.Errorf("%s does not answer: %w", at, inside)
				break
			}
			if resp.Rcode != dns.RcodeSuccess {
				err = fmt.Errorf("%s says %s", at, dns.RcodeToString[resp.Rcode])
				break
			}
			if a, ok := addressIn(resp.Answer); ok {
				return a, at, nil
			}
			err = fmt.Errorf("%s knows no address of it", at)
		}
	}
	return netip.Addr{}, "", err
}

// addressIn is the first address of an answer. A record may be without one: whom a
// container asks says what it likes.
func addressIn(answer []dns.RR) (a netip.Addr, ok bool) {
	for _, rr := range answer {
		switch rr := rr.(type) {
		case *dns.A:
			a, ok = netip.AddrFromSlice(rr.A.To4())
		case *dns.AAAA:
			a, ok = netip.AddrFromSlice(rr.AAAA)
		}
		if ok {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// longestFile is more than anybody has in a hosts file.
const longestFile = 4 << 20

// readLines reads a file that a container may write to, and make as long as it
// likes: no more than longestFile of it.
func readLines(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, longestFile))
}

// inHosts looks a name up in a hosts file.
func inHosts(path, name string) (netip.Addr, bool) {
	text, err := readLines(path)
	if err != nil {
		return netip.Addr{}, false
	}
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) > 1 && slices.ContainsFunc(f[1:], func(n string) bool { return strings.EqualFold(n, name) }) {
			if a, err := netip.ParseAddr(f[0]); err == nil {
				return a, true
			}
		}
	}
	return netip.Addr{}, false
}

// mostServers is how many name servers of a resolv.conf programs ask (MAXNS of
// resolv.conf(5)).
const mostServers = 3

func nameserversOf(path string) (list []netip.Addr) {
	text, err := readLines(path)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" && len(list) < mostServers {
			if a, err := netip.ParseAddr(f[1]); err == nil {
				list = append(list, a)
			}
		}
	}
	return list
}

// route asks the kernel which way it would take, and looks at the interface.
func (w *walk) route() {
	h, err := handleAt(w.ns)
	if err != nil {
		w.add("route", HopWarning, "%v", err)
		return
	}
	defer h.Close()
	routes, err := h.RouteGet(w.addr.AsSlice())
	if err != nil || len(routes) == 0 {
		hop := w.add("route", HopFailed, "no route to %s: %v", w.addr, err)
		if w.spec.From != nil {
			hop.Hint = w.routeHint()
		}
		return
	}
	r := routes[0]
	link, err := h.LinkByIndex(r.LinkIndex)
	if err != nil {
		w.add("route", HopWarning, "interface %d: %v", r.LinkIndex, err)
		return
	}
	text := "directly"
	if r.Gw != nil {
		text = "by " + r.Gw.String()
	}
	w.add("route", HopOK, "%s, interface %s, from %s", text, link.Attrs().Name, r.Src)
	a := link.Attrs()
	switch {
	case a.Flags&net.FlagUp == 0:
		w.add("interface", HopFailed, "%s is down", a.Name)
	case a.OperState == netlink.OperDown || a.OperState == netlink.OperLowerLayerDown:
		w.add("interface", HopFailed, "%s has no other end", a.Name)
	default:
		w.add("interface", HopOK, "%s is up, MTU %d", a.Name, a.MTU)
		w.bottleneck(a.MTU)
	}
}

// bottleneck looks whether packets leave the host by an interface with a smaller
// MTU than they have in the container. Somebody has to tell the container so by
// ICMP, which many networks drop: then small packets pass, and large ones vanish.
func (w *walk) bottleneck(inside int) {
	if w.spec.From == nil || w.spec.From.IsHost || w.addr.IsLoopback() || w.m.leaseOf(w.addr) != nil || w.isHostAddress() {
		return
	}
	h, err := w.m.handle()
	if err != nil {
		return
	}
	defer h.Close()
	routes, err := h.RouteGet(w.addr.AsSlice())
	if err != nil || len(routes) == 0 {
		return // which the connection will tell
	}
	link, err := h.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return
	}
	mtu := link.Attrs().MTU
	if routes[0].MTU > 0 && routes[0].MTU < mtu {
		mtu = routes[0].MTU
	}
	if mtu >= inside {
		w.add("mtu", HopOK, "packets leave the host by %s, MTU %d", link.Attrs().Name, mtu)
		return
	}
	hop := w.add("mtu", HopWarning, "packets leave the host by %s, whose MTU of %d is smaller than the container's %d: large ones may vanish", link.Attrs().Name, mtu, inside)
	hop.Hint = fmt.Sprintf("make its network with: porthole network create -o com.docker.network.driver.mtu=%d; or start the daemon with --mtu %d", mtu, mtu)
}

func (w *walk) routeHint() string {
	for _, ep := range w.m.Endpoints(w.spec.From.ID) {
		if !ep.Gateway.IsValid() && !ep.Gateway6.IsValid() {
			return "network " + ep.Network + " is internal: it has no way out. Connect the container to another one as well"
		}
	}
	return "the container has no network that leads there: porthole network connect NETWORK " + w.spec.From.Name
}

// locate finds the container behind the address, and its port on the bridge.
func (w *walk) locate() {
	if l := w.m.leaseOf(w.addr); l != nil {
		w.serve(l.Container)
		w.bridge(l)
		return
	}
	if w.spec.To != nil && w.spec.To.IsHost && w.addr.IsLoopback() {
		w.end = w.spec.To
		return
	}
	if w.addr.IsLoopback() && w.spec.From != nil {
		w.end = w.spec.From
		w.add("bridge", HopSkipped, "%s is the container's own loopback address", w.addr)
		return
	}
	if !w.isHostAddress() {
		w.add("bridge", HopSkipped, "%s is outside", w.addr)
		return
	}
	w.m.mu.Lock()
	var id string
	var found Published
	for c, b := range w.m.sandboxes {
		for _, p := range b.Published {
			if p.HostPort == w.port && p.Container.Proto() == "tcp" && (p.HostIP.IsUnspecified() || p.HostIP == w.addr) {
				id, found = c, p
			}
		}
	}
	w.m.mu.Unlock()
	if id == "" {
		if list, err := listeners(w.m.netns); err == nil && slices.ContainsFunc(list, func(a netip.AddrPort) bool { return a.Port() == w.port }) {
			w.add("published", HopSkipped, "port %d of the host is published by no container: it is a program's of the host", w.port)
			return
		}
		w.add("published", HopWarning, "port %d of the host is published by no container: a program of the host has to serve it", w.port).Hint = w.unpublishedHint()
		return
	}
	w.serve(id)
	w.port, w.published = found.Container.Num(), true
	w.add("published", HopOK, "port %d of the host leads to %s of container %s", found.HostPort, found.Container, w.m.nameOf(id))
}

// serve notes that a container is at the end of the way.
func (w *walk) serve(id string) {
	if w.spec.To != nil && w.spec.To.ID == id {
		w.end = w.spec.To
		return
	}
	if w.spec.Container == nil {
		return
	}
	if w.end = w.spec.Container(id); w.end != nil {
		w.own = true
	}
}

func (m *Manager) nameOf(container string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b := m.sandboxes[container]; b != nil && b.Spec.Name != "" {
		return b.Spec.Name
	}
	return container[:min(12, len(container))]
}

// leaseOf finds who has an address.
func (m *Manager) leaseOf(a netip.Addr) *lease {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.live {
		if slices.Contains(l.addresses(), a) {
			return l
		}
	}
	return nil
}

func (w *walk) isHostAddress() bool {
	h, err := w.m.handle()
	if err != nil {
		return false
	}
	defer h.Close()
	addrs, err := dump(func() ([]netlink.Addr, error) { return h.AddrList(nil, unix.AF_UNSPEC) })
	if err != nil {
		return false
	}
	return slices.ContainsFunc(addrs, func(a netlink.Addr) bool {
		have, ok := netip.AddrFromSlice(a.IP)
		return ok && have.Unmap() == w.addr
	})
}

// bridge looks at the host's ends of the interfaces.
func (w *walk) bridge(l *lease) {
	if l.Endpoint.HostInterface == "" {
		w.add("bridge", HopSkipped, "network %s is %s: it has no bridge", l.Endpoint.Network, l.Endpoint.Driver)
		return
	}
	h, err := w.m.handle()
	if err != nil {
		w.add("bridge", HopWarning, "%v", err)
		return
	}
	defer h.Close()
	n, err := w.m.find(l.Endpoint.NetworkID)
	if err != nil {
		w.add("bridge", HopFailed, "%v", err)
		return
	}
	link, err := h.LinkByName(l.Endpoint.HostInterface)
	switch {
	case err != nil:
		w.add("bridge", HopFailed, "interface %s of %s is not there: %v", l.Endpoint.HostInterface, l.Name, err)
	case link.Attrs().MasterIndex != int(n.link.Index):
		w.add("bridge", HopFailed, "interface %s of %s is not on bridge %s", l.Endpoint.HostInterface, l.Name, n.Interface)
	case link.Attrs().Flags&net.FlagUp == 0:
		w.add("bridge", HopFailed, "interface %s of %s is down", l.Endpoint.HostInterface, l.Name)
	default:
		w.add("bridge", HopOK, "%s is on bridge %s of network %s, by %s", l.Name, n.Interface, n.Name, l.Endpoint.HostInterface)
	}
}

// firewall tells what our rules do with the packets, and names chains of others
// that may drop them.
func (w *walk) firewall() {
	switch {
	case w.addr.IsLoopback():
		w.add("firewall", HopSkipped, "loopback")
		return
	case w.spec.From != nil && !w.spec.From.IsHost:
		if w.apart() {
			return
		}
	}
	hook := nft.Input
	if !w.isHostAddress() {
		hook = nft.Forward
		if l := w.m.leaseOf(w.addr); l != nil && (w.spec.From == nil || w.shares(l.Endpoint.NetworkID)) {
			w.add("firewall", HopOK, "packets stay on one bridge")
			return
		}
	}
	chains, err := nft.Dropping(w.m.netns, hook, w.m.table())
	switch {
	case err != nil:
		w.add("firewall", HopWarning, "chains of others cannot be listed: %v", err)
	case len(chains) > 0:
		w.suspects = true
		w.add("firewall", HopWarning, "these chains of others drop packets: %s", strings.Join(chains, ", ")).Hint = "if the connection below fails by timeout, it is one of them: see the rules with: nft list ruleset"
	default:
		w.add("firewall", HopOK, "no chain drops packets on this way")
	}
}

// apart tells of networks that our own rules keep apart.
func (w *walk) apart() bool {
	l := w.m.leaseOf(w.addr)
	eps := w.m.Endpoints(w.spec.From.ID)
	if l == nil {
		if !w.isHostAddress() && len(eps) > 0 && !slices.ContainsFunc(eps, func(ep Endpoint) bool { return ep.Gateway.IsValid() || ep.Gateway6.IsValid() }) {
			w.add("firewall", HopFailed, "network %s is internal: nothing outside of it is reached", eps[0].Network)
			return true
		}
		return false
	}
	n, err := w.m.find(l.Endpoint.NetworkID)
	if err != nil {
		return false
	}
	if w.shares(n.ID) {
		if !n.opts.icc {
			w.add("firewall", HopFailed, "network %s keeps its containers apart (com.docker.network.bridge.enable_icc=false)", n.Name)
			return true
		}
		return false
	}
	if n.Driver == DriverBridge && len(eps) > 0 && n.mode(w.addr.Is6()) != modeUnprotected {
		h := w.add("firewall", HopFailed, "networks %s and %s are kept apart (table %s, chain forward)", eps[0].Network, n.Name, w.m.table())
		h.Hint = fmt.Sprintf("porthole network connect %s %s; or publish the port and use the host's address", n.Name, w.spec.From.Name)
		return true
	}
	return false
}

// listener looks for a server at the end of the way.
func (w *walk) listener() {
	ns, who, hint := w.m.netns, "the host", ""
	switch {
	case w.end != nil && w.end.NetNS != nil:
		ns, who = w.end.NetNS, w.end.Name
		hint = fmt.Sprintf("have the server listen on 0.0.0.0, or reach it as it is by: porthole forward %s %d", who, w.port)
	case w.end == nil && w.isHostAddress():
		hint = "have the server listen on 0.0.0.0, or on the address of the bridge"
	default:
		w.add("listener", HopSkipped, "the other end is not on this host")
		return
	}
	list, err := listeners(ns)
	if err != nil {
		w.add("listener", HopWarning, "sockets of %s cannot be listed: %v", who, err)
		return
	}
	var on, others []string
	good := false
	for _, l := range list {
		if l.Port() != w.port {
			others = append(others, l.String())
			continue
		}
		on = append(on, l.Addr().String())
		a := l.Addr()
		good = good || a.IsUnspecified() || (a == w.addr && !w.published) || (!a.IsLoopback() && w.end != nil)
	}
	switch {
	case good:
		w.add("listener", HopOK, "%s listens on port %d of %s", who, w.port, strings.Join(on, ", "))
	case len(on) > 0:
		w.add("listener", HopFailed, "%s listens on port %d of %s only, which nobody else reaches", who, w.port, strings.Join(on, ", ")).Hint = hint
	default:
		text := "nothing at all"
		if len(others) > 0 {
			slices.Sort(others)
			text = strings.Join(slices.Compact(others), ", ")
		}
		h := w.add("listener", HopFailed, "nobody listens on port %d of %s; there is: %s", w.port, who, text)
		if w.end != nil {
			h.Hint = fmt.Sprintf("see whether the server has begun with: porthole logs %s; or reach another port of it by: porthole forward %s PORT", who, who)
		}
	}
}

// listeners are the TCP sockets that wait for connections.
func listeners(ns *os.File) (list []netip.AddrPort, err error) {
	err = inNetNS(ns, func() error {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			all, err := netlink.SocketDiagTCP(family)
			if err != nil {
				return err
			}
			const listening = 10 // TCP_LISTEN of the kernel's include/net/tcp_states.h
			for _, s := range all {
				a, ok := netip.AddrFromSlice(s.ID.Source)
				if ok && s.State == listening {
					list = append(list, netip.AddrPortFrom(a.Unmap(), s.ID.SourcePort))
				}
			}
		}
		return nil
	})
	return list, err
}

// connectTimeout is for a packet that somebody drops.
const connectTimeout = 3 * time.Second

// cutOff is how long a connection to a published port has to last to be good.
const cutOff = 300 * time.Millisecond

var errCutOff = errors.New("the connection was cut off at once: the container does not take it")

// connect tries it.
func (w *walk) connect(ctx context.Context) {
	at := netip.AddrPortFrom(w.addr, w.spec.Port)
	begin := time.Now()
	err := inNetNS(w.ns, func() error {
		d := net.Dialer{Timeout: connectTimeout}
		d.SetMultipathTCP(false)
		conn, err := d.DialContext(ctx, "tcp", at.String())
		if err != nil {
			return err
		}
		defer conn.Close()
		if !w.published {
			return nil
		}
		// The socket that holds the port takes all connections, and cuts off those
		// that nobody behind it wants.
		if err := conn.SetReadDeadline(time.Now().Add(cutOff)); err != nil {
			return err
		}
		if _, err := conn.Read(make([]byte, 1)); errors.Is(err, unix.ECONNRESET) {
			return errCutOff
		}
		return nil
	})
	if err != nil && !errors.Is(err, errCutOff) && !errors.Is(err, unix.ECONNRESET) {
		w.blame(ctx, at, errors.Is(err, unix.ECONNREFUSED))
	}
	var timeout net.Error
	switch {
	case err == nil:
		w.add("connect", HopOK, "connected to %s in %v", at, time.Since(begin).Round(10*time.Microsecond))
	case errors.Is(err, errCutOff), w.published && errors.Is(err, unix.ECONNRESET):
		w.add("connect", HopFailed, "%v", errCutOff)
	case errors.Is(err, unix.ECONNREFUSED):
		w.add("connect", HopFailed, "%s refuses: nobody listens on that address and port", at)
	case errors.As(err, &timeout) && timeout.Timeout():
		w.add("connect", HopFailed, "no answer of %s in %v: %s", at, connectTimeout, w.silence())
	default:
		w.add("connect", HopFailed, "%v", err)
	}
}
