// Package sockdiag lists the sockets of a network namespace, as ss(8) does, by
// sock_diag(7): the kernel answers, and no process of the namespace is asked.
//
//	list, err := sockdiag.Dump(netns, sockdiag.TCP6)
package sockdiag

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Kind is a family of sockets that the kernel lists by one request.
type Kind struct {
	Name             string
	family, protocol uint8
}

// The kinds.
var (
	TCP4 = Kind{"tcp", unix.AF_INET, unix.IPPROTO_TCP}
	TCP6 = Kind{"tcp6", unix.AF_INET6, unix.IPPROTO_TCP}
	UDP4 = Kind{"udp", unix.AF_INET, unix.IPPROTO_UDP}
	UDP6 = Kind{"udp6", unix.AF_INET6, unix.IPPROTO_UDP}
	Unix = Kind{"unix", unix.AF_UNIX, 0}
)

// State is a state of TCP (include/net/tcp_states.h); other protocols use some.
type State uint8

// The states that tell how to read a socket.
const (
	Unconnected State = 7 // TCP_CLOSE
	Listening   State = 10
)

var names = []string{
	1: "ESTAB", 2: "SYN-SENT", 3: "SYN-RECV", 4: "FIN-WAIT-1", 5: "FIN-WAIT-2", 6: "TIME-WAIT", Unconnected: "UNCONN",
	8: "CLOSE-WAIT", 9: "LAST-ACK", Listening: "LISTEN", 11: "CLOSING", 12: "NEW-SYN-RECV",
}

// String is the name that ss(8) has for it.
func (s State) String() string {
	if int(s) < len(names) && names[s] != "" {
		return names[s]
	}
	return strconv.Itoa(int(s))
}

// Socket is one socket.
type Socket struct {
	State State
	// Local and Remote are for internet sockets.
	Local, Remote netip.AddrPort
	// Type is SOCK_*, Name the path or, behind an @, the abstract name, and Peer the
	// inode of the other end: of unix sockets. Peer is 0 if there is none.
	Type uint8
	Name string
	Peer uint32
	// RecvQueue is bytes not read yet, or, of one that listens, connections not
	// accepted yet; SendQueue bytes not acknowledged yet, or how many connections may
	// wait.
	RecvQueue, SendQueue uint32
	UID                  uint32 // as this process's user namespace counts
	Inode                uint32 // 0: it has no file any more
	// RTT is the smoothed round trip time in microseconds and Retransmits how many
	// segments were sent again: of TCP, 0 for one that listens.
	RTT, Retransmits uint32
}

// The requests and answers of linux/sock_diag.h, linux/inet_diag.h and
// linux/unix_diag.h.
const (
	byFamily = 20 // SOCK_DIAG_BY_FAMILY

	inetRequest, inetMessage = 56, 72
	unixRequest, unixMessage = 24, 16

	inetInfo = 2 // INET_DIAG_INFO

	unixName, unixPeer, unixQueues, unixUID        = 0, 2, 4, 7   // UNIX_DIAG_*
	showName, showPeer, showQueues, showUID uint32 = 1, 4, 16, 64 // UDIAG_SHOW_*

	allStates = 0xffffffff
)

// Dump lists the sockets of a kind in a network namespace. A kernel that cannot
// tell of the kind gives an error.
func Dump(netns *os.File, k Kind) ([]Socket, error) {
	conn, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, &netlink.Config{NetNS: int(netns.Fd())})
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	defer conn.Close()
	answers, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: byFamily, Flags: netlink.Request | netlink.Dump}, Data: k.request(),
	})
	if err != nil {
		return nil, fmt.Errorf("list %s sockets: %w", k.Name, err)
	}
	list := make([]Socket, 0, len(answers))
	for _, m := range answers {
		s, err := k.parse(m.Data)
		if err != nil {
			return nil, fmt.Errorf("list %s sockets: %w", k.Name, err)
		}
		list = append(list, s)
	}
	return list, nil
}

func (k Kind) request() []byte {
	if k.family == unix.AF_UNIX {
		b := make([]byte, unixRequest)
		b[0] = k.family
		binary.NativeEndian.PutUint32(b[4:], allStates)
		binary.NativeEndian.PutUint32(b[12:], showName|showPeer|showQueues|showUID)
		return b
	}
	b := make([]byte, inetRequest)
	b[0], b[1], b[2] = k.family, k.protocol, 1<<(inetInfo-1)
	binary.NativeEndian.PutUint32(b[4:], allStates)
	return b
}

var errShort = errors.New("the kernel's answer is too short")

func (k Kind) parse(b []byte) (Socket, error) {
	if k.family == unix.AF_UNIX {
		return parseUnix(b)
	}
	return parseInet(b)
}

// parseInet reads struct inet_diag_msg and its attributes.
func parseInet(b []byte) (s Socket, err error) {
	if len(b) < inetMessage {
		return s, errShort
	}
	s.State = State(b[1])
	s.Local = address(b[0], b[8:24], b[4:6])
	if s.State != Listening && s.State != Unconnected {
		s.Remote = address(b[0], b[24:40], b[6:8])
	}
	s.RecvQueue, s.SendQueue = binary.NativeEndian.Uint32(b[56:]), binary.NativeEndian.Uint32(b[60:])
	s.UID, s.Inode = binary.NativeEndian.Uint32(b[64:]), binary.NativeEndian.Uint32(b[68:])
	if s.State == Listening {
		return s, nil
	}
	return s, attributes(b[inetMessage:], func(kind uint16, v []byte) {
		const rtt, retransmits = 68, 100 // in struct tcp_info
		if kind == inetInfo && len(v) >= retransmits+4 {
			s.RTT, s.Retransmits = binary.NativeEndian.Uint32(v[rtt:]), binary.NativeEndian.Uint32(v[retransmits:])
		}
	})
}

// address keeps ::ffff:10.0.0.1 as it is: it tells that the socket is one of IPv6.
func address(family uint8, ip, port []byte) netip.AddrPort {
	if family == unix.AF_INET {
		ip = ip[:4]
	}
	a, _ := netip.AddrFromSlice(ip) // 4 or 16 bytes
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(port))
}

// parseUnix reads struct unix_diag_msg and its attributes.
func parseUnix(b []byte) (s Socket, err error) {
	if len(b) < unixMessage {
		return s, errShort
	}
	s.Type, s.State, s.Inode = b[1], State(b[2]), binary.NativeEndian.Uint32(b[4:])
	return s, attributes(b[unixMessage:], func(kind uint16, v []byte) {
		switch {
		case kind == unixName:
			s.Name = socketName(string(v))
		case kind == unixPeer && len(v) >= 4:
			s.Peer = binary.NativeEndian.Uint32(v)
		case kind == unixQueues && len(v) >= 8:
			s.RecvQueue, s.SendQueue = binary.NativeEndian.Uint32(v), binary.NativeEndian.Uint32(v[4:])
		case kind == unixUID && len(v) >= 4:
			s.UID = binary.NativeEndian.Uint32(v)
		}
	})
}

// socketName shows an abstract name, which begins with a zero byte and may hold
// more of them, as ss(8) does.
func socketName(name string) string {
	if strings.HasPrefix(name, "\x00") {
		return strings.ReplaceAll(name, "\x00", "@")
	}
	return strings.TrimRight(name, "\x00")
}

func attributes(b []byte, fn func(kind uint16, value []byte)) error {
	d, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return err
	}
	for d.Next() {
		fn(d.Type(), d.Bytes())
	}
	return d.Err()
}
