package network

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/pcap/capture"
)

// Survey is all that is ours on the network, and the host's interfaces, at one
// moment. It is for those who ask whose something is.
type Survey struct {
	Members  []Member
	Networks []Surveyed
	Ports    []HostPort
	Links    []Link
}

// Member is a container, or a step of a build, on a network.
type Member struct {
	Container, Name string // its id; the name it had when it was attached
	Endpoint        Endpoint
	// Leaving tells that it is not on the network any more, and that its
	// interface is still being removed.
	Leaving bool
}

// Surveyed is a network with what it has on the host.
type Surveyed struct {
	ID, Name, Driver string
	// Interface is the bridge, or the parent of a macvlan or ipvlan network.
	Interface string
	Subnets   []Subnet
}

// HostPort is a port of the host that leads to a container.
type HostPort struct {
	Container string
	Published
}

// Link is an interface of the host.
type Link struct {
	Name, Kind, Alias, Master string // Kind as ip-link(8) has it: veth, bridge; device for hardware
	MAC                       net.HardwareAddr
	Addrs                     []netip.Prefix
}

// Survey looks at everything. It waits for nobody but the kernel.
func (m *Manager) Survey() (Survey, error) {
	var s Survey
	m.mu.Lock()
	for id, l := range m.leases {
		live := m.live[liveKey{l.Container, l.Endpoint.NetworkID}]
		s.Members = append(s.Members, Member{
			Container: l.Container, Name: l.Name, Endpoint: l.Endpoint, Leaving: live == nil || live.Endpoint.EndpointID != id,
		})
	}
	for _, n := range m.all() {
		s.Networks = append(s.Networks, Surveyed{ID: n.ID, Name: n.Name, Driver: n.Driver, Interface: n.Interface, Subnets: n.Subnets})
	}
	for id, b := range m.sandboxes {
		for _, p := range b.Published {
			s.Ports = append(s.Ports, HostPort{Container: id, Published: p})
		}
	}
	m.mu.Unlock()
	var err error
	s.Links, err = m.links()
	return s, err
}

// links are the host's interfaces with their addresses.
func (m *Manager) links() ([]Link, error) {
	h, err := m.handle()
	if err != nil {
		return nil, err
	}
	defer h.Close()
	all, err := dump(h.LinkList)
	if err != nil {
		return nil, err
	}
	addrs, err := dump(func() ([]netlink.Addr, error) { return h.AddrList(nil, unix.AF_UNSPEC) })
	if err != nil {
		return nil, err
	}
	names := map[int]string{}
	for _, l := range all {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	list := make([]Link, 0, len(all))
	for _, l := range all {
		a := l.Attrs()
		link := Link{Name: a.Name, Kind: l.Type(), Alias: a.Alias, Master: names[a.MasterIndex], MAC: a.HardwareAddr}
		for _, addr := range addrs {
			if ip, ok := netip.AddrFromSlice(addr.IP); ok && addr.LinkIndex == a.Index {
				ones, _ := addr.Mask.Size()
				link.Addrs = append(link.Addrs, netip.PrefixFrom(ip.Unmap(), ones))
			}
		}
		list = append(list, link)
	}
	return list, nil
}

// Socket is one that waits for connections, or, of UDP, for packets.
type Socket struct {
	Proto string // tcp or udp
	Addr  netip.AddrPort
	Inode uint32
}

// Sockets are those in the network namespace ns that others can send to; nil: in
// ours. Sockets of UDP that are connected to one peer are left out.
func (m *Manager) Sockets(ns *os.File) ([]Socket, error) {
	if ns == nil {
		ns = m.netns
	}
	return socketsIn(ns)
}

func socketsIn(ns *os.File) (list []Socket, err error) {
	// States of the kernel's include/net/tcp_states.h: a socket of UDP that is not
	// connected is "closed".
	const listening, unconnected = 10, 7
	err = inNetNS(ns, func() error {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			tcp, err := dump(func() ([]*netlink.Socket, error) { return netlink.SocketDiagTCP(family) })
			if err != nil {
				return err
			}
			udp, err := dump(func() ([]*netlink.Socket, error) { return netlink.SocketDiagUDP(family) })
			if err != nil {
				return err
			}
			list = append(list, choose("tcp", tcp, listening)...)
			list = append(list, choose("udp", udp, unconnected)...)
		}
		return nil
	})
	return list, err
}

func choose(proto string, all []*netlink.Socket, state uint8) (list []Socket) {
	for _, s := range all {
		a, ok := netip.AddrFromSlice(s.ID.Source)
		if ok && s.State == state && s.ID.SourcePort != 0 {
			list = append(list, Socket{Proto: proto, Addr: netip.AddrPortFrom(a.Unmap(), s.ID.SourcePort), Inode: s.INode})
		}
	}
	return list
}

// ProcessOf finds a process of the host that has one of the sockets; 0 if none can
// be seen. It looks at all processes, and waits for none of them.
func ProcessOf(list ...Socket) (pid int) {
	inodes := map[string]bool{}
	for _, s := range list {
		if s.Inode != 0 {
			inodes["socket:["+strconv.FormatUint(uint64(s.Inode), 10)+"]"] = true
		}
	}
	return processWith(inodes)
}

// Capture begins to take packets; without a namespace, of the host's interfaces.
func (m *Manager) Capture(spec capture.Spec) (*capture.Capture, error) {
	if spec.NetNS == nil {
		spec.NetNS = m.netns
	}
	return capture.Open(spec)
}

// inodesOf are the sockets that processes have open.
func inodesOf(pids []int) map[uint32]bool {
	inodes := map[uint32]bool{}
	for _, pid := range pids {
		links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, link := range links {
			target, err := os.Readlink(link)
			if err != nil {
				continue // closed meanwhile
			}
			number, isSocket := strings.CutPrefix(target, "socket:[")
			if n, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 32); isSocket && err == nil {
				inodes[uint32(n)] = true
			}
		}
	}
	return inodes
}

// SharePort tells whether a socket on one address has packets to the other.
func (s Socket) SharePort(proto string, addr netip.Addr, port uint16) bool {
	return s.Proto == proto && s.Addr.Port() == port &&
		(!addr.IsValid() || s.Addr.Addr() == addr || addr.IsUnspecified() || s.Addr.Addr().IsUnspecified())
}

// Contains tells whether an address is of one of the network's subnets.
func (n Surveyed) Contains(a netip.Addr) bool {
	return slices.ContainsFunc(n.Subnets, func(s Subnet) bool { return s.Prefix.Contains(a) })
}
