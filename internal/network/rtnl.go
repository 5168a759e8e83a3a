package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// portGroup is the interface group (IFLA_GROUP) of the host's ends of all
// pairs. It tells our interfaces from others that somebody put on the bridge.
const portGroup = 0x70680001

// doomedGroup collects the interfaces that are removed by one request.
const doomedGroup = 0x70680002

// The kernel's IN6_ADDR_GEN_MODE_NONE: no link-local address by itself.
const addrGenModeNone = 1

// rtnl is a route netlink socket that belongs to one network namespace, whoever
// uses it. It serves the hot path of Attach and Detach with batches; what is
// done once at the start goes through the friendlier vishvananda/netlink.
type rtnl struct {
	// mu keeps the answers of one batch together.
	mu   sync.Mutex
	conn *netlink.Conn
}

// dialRTNL opens a socket in ns. The caller must Close it.
func dialRTNL(ns *os.File) (*rtnl, error) {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{NetNS: int(ns.Fd())})
	if err != nil {
		return nil, fmt.Errorf("open route netlink socket: %w", err)
	}
	return &rtnl{conn: conn}, nil
}

func (r *rtnl) Close() error { return r.conn.Close() }

// A request is one netlink message with the words for its failure.
type request struct {
	what  string
	typ   uint16
	flags netlink.HeaderFlags
	head  []byte
	attrs func(*netlink.AttributeEncoder)
	// fine is an answer that is no failure; 0: there is none.
	fine unix.Errno
}

// batch sends all requests at once and waits for all answers. The kernel works
// through all of them even if one fails; the answer is one error per request.
func (r *rtnl) batch(reqs ...request) []error {
	errs := make([]error, len(reqs))
	msgs := make([]netlink.Message, len(reqs))
	for i, q := range reqs {
		ae := netlink.NewAttributeEncoder()
		if q.attrs != nil {
			q.attrs(ae)
		}
		attrs, err := ae.Encode()
		if err != nil {
			return fill(errs, fmt.Errorf("%s: %w", q.what, err))
		}
		msgs[i] = netlink.Message{
			Header: netlink.Header{Type: netlink.HeaderType(q.typ), Flags: netlink.Request | netlink.Acknowledge | q.flags},
			Data:   append(q.head[:len(q.head):len(q.head)], attrs...),
		}
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := r.conn.SendMessages(msgs); err != nil {
		return fill(errs, fmt.Errorf("%s: %w", reqs[0].what, err))
	}
	for i, q := range reqs {
		if _, err := r.conn.Receive(); err != nil && (q.fine == 0 || !isErrno(err, q.fine)) {
			errs[i] = fmt.Errorf("%s: %w", q.what, err)
		}
	}
	return errs
}

// do is batch for callers that give up at the first error.
func (r *rtnl) do(reqs ...request) error {
	return errors.Join(r.batch(reqs...)...)
}

func fill(errs []error, err error) []error {
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// linkIndex returns the index of the interface called name.
func (r *rtnl) linkIndex(name string) (uint32, error) {
	ae := netlink.NewAttributeEncoder()
	ae.String(unix.IFLA_IFNAME, name)
	ae.Uint32(unix.IFLA_EXT_MASK, 1<<3) // RTEXT_FILTER_SKIP_STATS
	attrs, err := ae.Encode()
	if err != nil {
		return 0, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	msgs, err := r.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETLINK, Flags: netlink.Request},
		Data:   append(ifinfo(0, 0), attrs...),
	})
	if err != nil {
		return 0, fmt.Errorf("find interface %q: %w", name, err)
	}
	if len(msgs) != 1 || len(msgs[0].Data) < unix.SizeofIfInfomsg {
		return 0, fmt.Errorf("find interface %q: unexpected answer of the kernel", name)
	}
	return binary.NativeEndian.Uint32(msgs[0].Data[4:]), nil
}

// vethSpec says what a pair should be.
type vethSpec struct {
	Host, Peer string
	PeerMAC    net.HardwareAddr
	PeerNS     *os.File
	MTU        uint32
}

// newVeth makes a pair, both ends down: the kernel makes the peer directly in
// its namespace, so that no interface has to be moved (which waits for RCU).
// See veth_newlink in the kernel's drivers/net/veth.c.
func newVeth(s vethSpec) request {
	return request{
		what: fmt.Sprintf("create veth pair %q", s.Host), typ: unix.RTM_NEWLINK,
		flags: netlink.Create | netlink.Excl, head: ifinfo(0, 0),
		attrs: func(ae *netlink.AttributeEncoder) {
			ae.String(unix.IFLA_IFNAME, s.Host)
			ae.Uint32(unix.IFLA_MTU, s.MTU)
			ae.Uint32(unix.IFLA_GROUP, portGroup)
			oneQueue(ae)
			ae.Nested(unix.IFLA_LINKINFO, func(info *netlink.AttributeEncoder) error {
				info.String(unix.IFLA_INFO_KIND, "veth")
				info.Nested(unix.IFLA_INFO_DATA, func(data *netlink.AttributeEncoder) error {
					data.Do(1 /* VETH_INFO_PEER */, func() ([]byte, error) { return encodePeer(s) })
					return nil
				})
				return nil
			})
		},
	}
}

func encodePeer(s vethSpec) ([]byte, error) {
	ae := netlink.NewAttributeEncoder()
	ae.String(unix.IFLA_IFNAME, s.Peer)
	ae.Uint32(unix.IFLA_MTU, s.MTU)
	ae.Bytes(unix.IFLA_ADDRESS, s.PeerMAC)
	oneQueue(ae)
	ae.Uint32(unix.IFLA_NET_NS_FD, uint32(s.PeerNS.Fd()))
	attrs, err := ae.Encode()
	return append(ifinfo(0, 0), attrs...), err
}

// oneQueue keeps the kernel from making a queue for each processor, with entries
// in sysfs and events for all of them: a third of what making a pair costs.
func oneQueue(ae *netlink.AttributeEncoder) {
	ae.Uint32(unix.IFLA_NUM_TX_QUEUES, 1)
	ae.Uint32(unix.IFLA_NUM_RX_QUEUES, 1)
}

// upOnBridge makes the interface called name a port of the bridge with that
// index and sets it up.
// The alias, which may be empty, tells people whose it is.
func upOnBridge(name string, bridge uint32, alias string) request {
	return request{
		what: fmt.Sprintf("set up %q on its bridge", name), typ: unix.RTM_SETLINK, head: ifinfo(0, unix.IFF_UP),
		attrs: func(ae *netlink.AttributeEncoder) {
			ae.String(unix.IFLA_IFNAME, name)
			ae.Uint32(unix.IFLA_MASTER, bridge)
			if alias != "" {
				ae.String(unix.IFLA_IFALIAS, alias)
			}
		},
	}
}

// upByIndex sets an interface up.
func upByIndex(index uint32) request {
	return request{what: "set up interface in container", typ: unix.RTM_SETLINK, head: ifinfo(index, unix.IFF_UP)}
}

// noIPv6Address keeps an interface, known by its index or its name, from giving
// itself a link-local address. It has to come in a message before the one that
// sets it up: within one message the kernel sets up first. Where IPv6 does not
// serve the interface there is nothing to do.
func noIPv6Address(index uint32, name string) request {
	return request{
		what: "keep IPv6 address away", typ: unix.RTM_SETLINK, head: ifinfo(index, 0), fine: unix.EAFNOSUPPORT,
		attrs: func(ae *netlink.AttributeEncoder) {
			if index == 0 {
				ae.String(unix.IFLA_IFNAME, name)
			}
			ae.Nested(unix.IFLA_AF_SPEC, func(spec *netlink.AttributeEncoder) error {
				spec.Nested(unix.AF_INET6, func(inet6 *netlink.AttributeEncoder) error {
					inet6.Uint8(unix.IFLA_INET6_ADDR_GEN_MODE, addrGenModeNone)
					return nil
				})
				return nil
			})
		},
	}
}

// newAddress gives the interface an address. An IPv6 address is used at once,
// without asking whether somebody else has it: we are the ones who give them.
func newAddress(index uint32, p netip.Prefix) request {
	addr := p.Addr().AsSlice()
	return request{
		what: fmt.Sprintf("add address %s", p), typ: unix.RTM_NEWADDR,
		flags: netlink.Create | netlink.Replace,
		head:  ifaddr(index, p),
		attrs: func(ae *netlink.AttributeEncoder) {
			ae.Bytes(unix.IFA_LOCAL, addr)
			ae.Bytes(unix.IFA_ADDRESS, addr)
			if p.Addr().Is4() {
				ae.Bytes(unix.IFA_BROADCAST, broadcast(p))
			}
		},
	}
}

// newDefaultRoute sends everything else through gw, instead of whatever did so.
func newDefaultRoute(index uint32, gw netip.Addr) request {
	head := make([]byte, unix.SizeofRtMsg)
	head[0] = family(gw)
	head[4] = unix.RT_TABLE_MAIN
	head[5] = unix.RTPROT_BOOT
	head[6] = unix.RT_SCOPE_UNIVERSE
	head[7] = unix.RTN_UNICAST
	return request{
		what: fmt.Sprintf("add default route by %s", gw), typ: unix.RTM_NEWROUTE,
		flags: netlink.Create | netlink.Replace, head: head,
		attrs: func(ae *netlink.AttributeEncoder) {
			ae.Bytes(unix.RTA_GATEWAY, gw.AsSlice())
			ae.Uint32(unix.RTA_OIF, index)
		},
	}
}

func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// delLink removes the interface called name, and with it its peer.
func delLink(name string) request {
	return request{
		what: fmt.Sprintf("remove interface %q", name), typ: unix.RTM_DELLINK, head: ifinfo(0, 0),
		attrs: func(ae *netlink.AttributeEncoder) { ae.String(unix.IFLA_IFNAME, name) },
	}
}

// setGroup moves the interface called name to an interface group.
func setGroup(name string, group uint32) request {
	return request{
		what: fmt.Sprintf("mark interface %q", name), typ: unix.RTM_SETLINK, head: ifinfo(0, 0),
		attrs: func(ae *netlink.AttributeEncoder) {
			ae.String(unix.IFLA_IFNAME, name)
			ae.Uint32(unix.IFLA_GROUP, group)
		},
	}
}

// delGroup removes all interfaces of a group, waiting for RCU only once. See
// rtnl_group_dellink in the kernel's net/core/rtnetlink.c.
func delGroup(group uint32) request {
	return request{
		what: "remove a group of interfaces", typ: unix.RTM_DELLINK, head: ifinfo(0, 0),
		attrs: func(ae *netlink.AttributeEncoder) { ae.Uint32(unix.IFLA_GROUP, group) },
	}
}

// ifinfo is the kernel's struct ifinfomsg. flags are set, none is cleared.
func ifinfo(index, flags uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], index)
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], flags)
	return b
}

// ifaddr is the kernel's struct ifaddrmsg.
func ifaddr(index uint32, p netip.Prefix) []byte {
	b := make([]byte, unix.SizeofIfAddrmsg)
	b[0] = family(p.Addr())
	b[1] = byte(p.Bits())
	if p.Addr().Is6() {
		b[2] = unix.IFA_F_NODAD
	}
	b[3] = unix.RT_SCOPE_UNIVERSE
	binary.NativeEndian.PutUint32(b[4:], index)
	return b
}

// broadcast returns the last address of p's subnet.
func broadcast(p netip.Prefix) []byte {
	a := p.Addr().As4()
	v := binary.BigEndian.Uint32(a[:]) | (1<<(32-p.Bits()) - 1)
	return binary.BigEndian.AppendUint32(nil, v)
}
