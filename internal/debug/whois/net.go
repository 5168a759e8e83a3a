package whois

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	mobynet "github.com/moby/moby/api/types/network"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/network"
)

// port tells who has a port: of the host, or of a container inside. An invalid
// addr means any, an empty proto both.
func (s *search) port(ctx context.Context, addr netip.Addr, number, proto string) error {
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n == 0 {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid port %q: it is not a number from 1 to 65535", number))
	}
	survey, err := s.src.NetworkSurvey()
	if err != nil {
		return err
	}
	protos := []string{"tcp", "udp"}
	if proto != "" {
		protos = []string{proto}
	}
	for _, p := range protos {
		s.published(survey, addr, p, uint16(n))
		s.hostSockets(ctx, addr, p, uint16(n))
		s.insideSockets(ctx, survey, addr, p, uint16(n))
		s.configured(addr, p, uint16(n))
	}
	at := ""
	if addr.IsValid() {
		at = " of " + addr.String()
	}
	return s.found("see all that are published with: porthole ps", "nobody has port %d/%s%s", n, strings.Join(protos, " or "), at)
}

// published are the ports of the host that lead to containers.
func (s *search) published(survey network.Survey, addr netip.Addr, proto string, port uint16) {
	byOwner := map[string][]string{}
	var order []string
	for _, p := range survey.Ports {
		if p.HostPort != port || string(p.Published.Container.Proto()) != proto || !hears(addr, p.HostIP) {
			continue
		}
		verb := "published"
		if p.Forward {
			verb = "forwarded"
		}
		key := p.Container + " " + verb + " " + fmt.Sprintf(", leads to port %s inside", p.Published.Container)
		if byOwner[key] == nil {
			order = append(order, key)
		}
		byOwner[key] = append(byOwner[key], net.JoinHostPort(p.HostIP.String(), strconv.Itoa(int(port))))
	}
	slices.Sort(order)
	for _, key := range order {
		f := strings.SplitN(key, " ", 3)
		s.add(s.owner(f[0], fmt.Sprintf("%s on %s%s", f[1], strings.Join(byOwner[key], " "), f[2])))
	}
}

// hears tells whether what listens on one address hears of who asks for another.
func hears(asked, on netip.Addr) bool {
	return !asked.IsValid() || asked == on || asked.IsUnspecified() || on.IsUnspecified()
}

// hostSockets are programs of the host, and containers in its network, that listen.
func (s *search) hostSockets(ctx context.Context, addr netip.Addr, proto string, port uint16) {
	all, err := s.src.Sockets(nil)
	if err != nil {
		s.add(host("sockets of the host cannot be listed: %v", err))
		return
	}
	on := slices.DeleteFunc(all, func(x network.Socket) bool { return !x.SharePort(proto, addr, port) })
	if len(on) == 0 {
		return
	}
	pid := network.ProcessOf(on...)
	if pid == 0 {
		s.add(host("%s/%s: a socket of no process that can be seen from here", addresses(on), proto))
		return
	}
	o, _ := s.processOwner(ctx, pid)
	if o.Kind == kindDaemon && len(s.out.Found) > 0 {
		return // the keeper's, for a port that was just told
	}
	o.Detail = fmt.Sprintf("listens on %s/%s: %s", addresses(on), proto, o.Detail)
	s.add(o)
}

func addresses(list []network.Socket) string {
	var out []string
	for _, x := range list {
		out = append(out, x.Addr.String())
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), " ")
}

// insideSockets are containers that listen on the port in a network of their own.
func (s *search) insideSockets(ctx context.Context, survey network.Survey, addr netip.Addr, proto string, port uint16) {
	for i := range s.residents {
		r := &s.residents[i]
		if r.Pid == 0 || r.HostNet || r.NetworkOf != r.ID || !s.mayBeAt(survey, r.ID, addr) {
			continue
		}
		ns, err := r.NetNS()
		if err != nil {
			continue // it has just ended
		}
		all, err := s.src.Sockets(ns)
		_ = ns.Close()
		if err != nil {
			s.add(ownerOf(r, fmt.Sprintf("its sockets cannot be listed: %v", err)))
			continue
		}
		on := slices.DeleteFunc(all, func(x network.Socket) bool { return !x.SharePort(proto, addr, port) })
		if len(on) == 0 {
			continue
		}
		who := r.ID
		what := fmt.Sprintf("listens inside on %s/%s", addresses(on), proto)
		pid := network.ProcessOf(on...)
		p, ok := s.processOwner(ctx, pid)
		if ok && p.ID != "" {
			who = p.ID // which may be another in the same network
			what += ": " + p.Detail
		}
		o := s.owner(who, what)
		o.Pid, o.PidInside, o.Command = p.Pid, p.PidInside, p.Command
		s.add(o)
	}
}

// mayBeAt tells whether a container has an address, or any is asked for.
func (s *search) mayBeAt(survey network.Survey, id string, addr netip.Addr) bool {
	if !addr.IsValid() || addr.IsUnspecified() || addr.IsLoopback() {
		return true
	}
	return slices.ContainsFunc(survey.Members, func(m network.Member) bool {
		return m.Container == id && !m.Leaving && (m.Endpoint.IPv4.Addr() == addr || m.Endpoint.IPv6.Addr() == addr)
	})
}

// configured are containers that do not run and will ask for the port when they
// are started.
func (s *search) configured(addr netip.Addr, proto string, port uint16) {
	for i := range s.residents {
		r := &s.residents[i]
		if r.Pid > 0 || r.HostConfig == nil {
			continue
		}
		for inside, list := range r.HostConfig.PortBindings {
			wants := slices.ContainsFunc(list, func(b mobynet.PortBinding) bool {
				return b.HostPort == strconv.Itoa(int(port)) && (!b.HostIP.IsValid() || hears(addr, b.HostIP))
			})
			if wants && string(inside.Proto()) == proto {
				s.add(ownerOf(r, fmt.Sprintf("publishes %d/%s when it runs, for port %s inside", port, proto, inside)))
			}
		}
	}
}

// address tells who has an IP address.
func (s *search) address(a netip.Addr) error {
	survey, err := s.src.NetworkSurvey()
	if err != nil {
		return err
	}
	if a.IsLoopback() {
		s.add(host("a loopback address: it is the host's own, and each container's own inside of it"))
		return nil
	}
	for _, m := range survey.Members {
		if m.Endpoint.IPv4.Addr() == a || m.Endpoint.IPv6.Addr() == a {
			s.add(s.member(m))
		}
	}
	s.hostAddress(survey, a)
	if len(s.out.Found) == 0 {
		s.free(survey, a)
	}
	return s.found("ask the host which way it would take: ip route get "+a.String(),
		"nobody here has the address %s, and no network of ours contains it", a)
}

// member describes a container's end of a network.
func (s *search) member(m network.Member) api.Owner {
	e := m.Endpoint
	what := fmt.Sprintf("interface %s in network %s", e.Interface, e.Network)
	for _, p := range []netip.Prefix{e.IPv4, e.IPv6} {
		if p.IsValid() {
			what += ", " + p.Addr().String()
		}
	}
	if len(e.MAC) > 0 {
		what += ", " + e.MAC.String()
	}
	if e.HostInterface != "" {
		what += ", on the host " + e.HostInterface
	}
	if m.Leaving {
		what = "was until just now " + what
	}
	return s.owner(m.Container, what+s.sharing(m.Container))
}

// hostAddress finds an interface of the host with the address: a bridge of ours
// or another.
func (s *search) hostAddress(survey network.Survey, a netip.Addr) {
	for _, l := range survey.Links {
		if !slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Addr() == a }) {
			continue
		}
		if n := networkOn(survey, l.Name); n != nil && n.Driver == network.DriverBridge {
			s.add(api.Owner{Kind: kindNetwork, ID: n.ID, Name: n.Name, Detail: "the host's address on bridge " + l.Name})
			continue
		}
		s.add(host("the host's own address, of interface %s", l.Name))
	}
}

// free tells that an address is nobody's, but of one of our networks.
func (s *search) free(survey network.Survey, a netip.Addr) {
	for i := range s.residents {
		r := &s.residents[i]
		for name, ep := range r.Networks {
			if c := ep.IPAMConfig; c != nil && (c.IPv4Address == a || c.IPv6Address == a) {
				s.add(ownerOf(r, fmt.Sprintf("asks for it in network %s when it runs", name)))
			}
		}
	}
	for _, n := range survey.Networks {
		if n.Contains(a) {
			s.add(api.Owner{Kind: kindNetwork, ID: n.ID, Name: n.Name, Detail: "an address of this network that no container has"})
		}
	}
}

// networkOn is the network that has an interface of the host; nil: none.
func networkOn(survey network.Survey, name string) *network.Surveyed {
	i := slices.IndexFunc(survey.Networks, func(n network.Surveyed) bool { return n.Interface == name && name != "" })
	if i < 0 {
		return nil
	}
	return &survey.Networks[i]
}

// mac tells who has a hardware address.
func (s *search) mac(a net.HardwareAddr) error {
	survey, err := s.src.NetworkSurvey()
	if err != nil {
		return err
	}
	for _, m := range survey.Members {
		if bytes.Equal(m.Endpoint.MAC, a) {
			s.add(s.member(m))
		}
	}
	for _, l := range survey.Links {
		if bytes.Equal(l.MAC, a) {
			s.add(s.link(survey, l))
		}
	}
	return s.found("", "no container and no interface of the host has the address %s", a)
}

// link describes an interface of the host.
func (s *search) link(survey network.Survey, l network.Link) api.Owner {
	for _, m := range survey.Members {
		if m.Endpoint.HostInterface == l.Name {
			return s.member(m)
		}
	}
	if n := networkOn(survey, l.Name); n != nil {
		what := "its bridge"
		if n.Driver != network.DriverBridge {
			what = "the parent interface of its containers' ones"
		}
		return api.Owner{Kind: kindNetwork, ID: n.ID, Name: n.Name, Detail: what + addrsText(l)}
	}
	what := fmt.Sprintf("interface %s of the host (%s)", l.Name, l.Kind)
	if l.Master != "" {
		what += ", a port of " + l.Master
	}
	if l.Alias != "" {
		what += ", alias " + strconv.Quote(l.Alias)
	}
	return host("%s%s", what, addrsText(l))
}

func addrsText(l network.Link) string {
	var b strings.Builder
	for _, p := range l.Addrs {
		b.WriteString(", " + p.String())
	}
	return b.String()
}

// name tells what an interface is, or the beginning of a container's id.
func (s *search) name(asked string) error {
	survey, err := s.src.NetworkSurvey()
	if err != nil {
		return err
	}
	if front, _, _ := strings.Cut(asked, "@"); front != "" {
		asked = front // as ip-link(8) prints it: veth3c9a@if2
	}
	for _, l := range survey.Links {
		if l.Name == asked {
			s.add(s.link(survey, l))
		}
	}
	if len(s.out.Found) > 0 {
		return nil
	}
	for _, m := range survey.Members {
		if m.Endpoint.Interface == asked && !m.Leaving {
			s.add(s.member(m))
		}
	}
	if len(s.out.Found) > 0 {
		return nil
	}
	s.out.As = "name"
	s.containers(asked)
	for _, n := range survey.Networks {
		if n.Name == asked || len(asked) >= 4 && strings.HasPrefix(n.ID, asked) {
			s.add(api.Owner{Kind: kindNetwork, ID: n.ID, Name: n.Name, Detail: "a network, driver " + n.Driver})
		}
	}
	return s.found("whois takes a pid, :PORT, ADDRESS, INTERFACE or /PATH; see: porthole whois --help",
		"%q is no interface, no container and no network here", asked)
}

// containers finds containers and steps by name or the beginning of an id, also
// removed ones.
func (s *search) containers(asked string) {
	for i := range s.residents {
		r := &s.residents[i]
		if r.Name != asked && !(len(asked) >= 4 && strings.HasPrefix(r.ID, asked)) {
			continue
		}
		what := "created from image " + ownerOf(r, "").Image
		if r.Pid > 0 {
			what += fmt.Sprintf(", first process %d", r.Pid)
		}
		s.add(ownerOf(r, what))
	}
	if len(s.out.Found) > 0 {
		return
	}
	if list, err := s.src.Deaths(engine.DeathsOptions{Container: asked}); err == nil && len(list) > 0 {
		s.add(s.owner(list[0].Container, "see why it ended with: porthole why "+list[0].Name))
	}
}
