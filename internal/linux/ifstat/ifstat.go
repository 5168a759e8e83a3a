// Package ifstat reads the counters of the network interfaces in a network
// namespace, again and again, without entering it each time.
//
// [Open] makes a netlink socket inside the namespace, which stays there whoever
// uses it; [Reader.Read] asks it for all interfaces by one request. That costs
// about as much as reading one small file, it counts as the container sees it
// (its "received" is received), and it sees every interface that there is, those
// too which the container made for itself. The host's ends of veth pairs would
// show the mirror image of some of them.
//
// A socket keeps its namespace alive: close the Reader when the last process of
// the namespace has ended.
package ifstat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/ns"
)

// Counters of an interface, or sums of several.
type Counters struct {
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// Add adds o to c.
func (c *Counters) Add(o Counters) {
	c.RxBytes += o.RxBytes
	c.RxPackets += o.RxPackets
	c.RxErrors += o.RxErrors
	c.RxDropped += o.RxDropped
	c.TxBytes += o.TxBytes
	c.TxPackets += o.TxPackets
	c.TxErrors += o.TxErrors
	c.TxDropped += o.TxDropped
}

// Interface is one network interface. An interface that changes its name keeps
// the old one here until others come or go.
type Interface struct {
	Index int
	Name  string
	Counters
}

// Reader reads one namespace. It is for one goroutine at a time.
type Reader struct {
	fd    int
	seq   uint32
	names map[int]string
}

// answerTimeout bounds the wait for an answer, which the kernel has ready when
// the request returns.
const answerTimeout = 2 * time.Second

// Open begins to read a namespace, to which the file may be closed afterwards.
func Open(netns *os.File) (*Reader, error) {
	r := &Reader{fd: -1, names: map[int]string{}}
	err := ns.Do([]ns.Entry{{File: netns, Kind: ns.Net}}, func() (err error) {
		r.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		return os.NewSyscallError("socket", err)
	})
	if err != nil {
		return nil, fmt.Errorf("read network counters: %w", err)
	}
	timeout := unix.NsecToTimeval(answerTimeout.Nanoseconds())
	if err := unix.SetsockoptTimeval(r.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		r.Close()
		return nil, fmt.Errorf("read network counters: %w", os.NewSyscallError("setsockopt", err))
	}
	return r, nil
}

// Close closes the socket. A Reader can be closed twice.
func (r *Reader) Close() error {
	if r.fd < 0 {
		return nil
	}
	err := unix.Close(r.fd)
	r.fd = -1
	return err
}

// Scratch is the memory that reading needs. One does for any number of readers
// that are used one after the other. The zero value is ready.
type Scratch struct{ buf []byte }

// Read appends all interfaces but the loopback to list and returns it. It
// allocates only if the list is too short or an interface is new.
func (r *Reader) Read(list []Interface, s *Scratch) ([]Interface, error) {
	if r.fd < 0 {
		return list, fmt.Errorf("read network counters: %w", os.ErrClosed)
	}
	begin, unknown := len(list), false
	var req [sizeofStatsMsg]byte
	req[8] = 1 << (unix.IFLA_STATS_LINK_64 - 1) // filter_mask
	err := r.dump(unix.RTM_GETSTATS, req[:], s, func(body []byte) {
		i, ok := parseStats(body)
		if !ok || i.Index == loopbackIndex {
			return
		}
		i.Name, ok = r.names[i.Index]
		unknown = unknown || !ok
		list = append(list, i)
	})
	if err == nil && unknown {
		err = r.nameAll(list[begin:], s)
	}
	if err != nil {
		return list[:begin], fmt.Errorf("read network counters: %w", err)
	}
	return list, nil
}

// loopbackIndex is that of the loopback in every namespace
// (LOOPBACK_IFINDEX in include/net/flow.h).
const loopbackIndex = 1

// nameAll asks for the names anew.
func (r *Reader) nameAll(list []Interface, s *Scratch) error {
	clear(r.names)
	var req [unix.SizeofIfInfomsg]byte
	err := r.dump(unix.RTM_GETLINK, req[:], s, func(body []byte) {
		if index, name, ok := parseLink(body); ok {
			r.names[index] = name
		}
	})
	for i := range list {
		list[i].Name = r.names[list[i].Index]
	}
	return err
}

// sizeofStatsMsg is that of struct if_stats_msg: family, padding, ifindex,
// filter_mask.
const sizeofStatsMsg = 12

// dump sends a request for everything and calls fn with the body of each answer.
func (r *Reader) dump(typ uint16, body []byte, s *Scratch, fn func(body []byte)) error {
	if s.buf == nil {
		s.buf = make([]byte, 32<<10) // the most that the kernel puts into one datagram
	}
	r.seq++
	req := s.buf[:unix.NLMSG_HDRLEN+len(body)]
	binary.NativeEndian.PutUint32(req[0:], uint32(len(req)))
	binary.NativeEndian.PutUint16(req[4:], typ)
	binary.NativeEndian.PutUint16(req[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	binary.NativeEndian.PutUint32(req[8:], r.seq)
	binary.NativeEndian.PutUint32(req[12:], 0)
	copy(req[unix.NLMSG_HDRLEN:], body)
	if _, err := unix.Write(r.fd, req); err != nil {
		return os.NewSyscallError("send", err)
	}
	for {
		n, err := unix.Read(r.fd, s.buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return os.NewSyscallError("receive", err)
		}
		if done, err := messages(s.buf[:n], r.seq, fn); done || err != nil {
			return err
		}
	}
}

var errMalformed = errors.New("malformed netlink message")

// messages goes through one datagram. done tells that the answer is complete.
// What belongs to an earlier request, which ran into a timeout, is passed over.
func messages(b []byte, seq uint32, fn func(body []byte)) (done bool, err error) {
	for len(b) >= unix.NLMSG_HDRLEN {
		length := int(binary.NativeEndian.Uint32(b))
		if length < unix.NLMSG_HDRLEN || length > len(b) {
			return false, errMalformed
		}
		body := b[unix.NLMSG_HDRLEN:length]
		if binary.NativeEndian.Uint32(b[8:]) == seq {
			switch binary.NativeEndian.Uint16(b[4:]) {
			case unix.NLMSG_DONE:
				return true, nil
			case unix.NLMSG_ERROR:
				if len(body) < 4 {
					return false, errMalformed
				}
				return true, unix.Errno(-int32(binary.NativeEndian.Uint32(body)))
			case unix.RTM_NEWSTATS, unix.RTM_NEWLINK:
				fn(body)
			}
		}
		b = b[min(align(length), len(b)):]
	}
	return false, nil
}

func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// attribute finds one attribute.
func attribute(b []byte, typ uint16) ([]byte, bool) {
	for len(b) >= unix.SizeofRtAttr {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofRtAttr || length > len(b) {
			return nil, false
		}
		if binary.NativeEndian.Uint16(b[2:]) == typ {
			return b[unix.SizeofRtAttr:length], true
		}
		b = b[min(align(length), len(b)):]
	}
	return nil, false
}

// parseStats reads an if_stats_msg with an rtnl_link_stats64.
func parseStats(body []byte) (Interface, bool) {
	if len(body) < sizeofStatsMsg {
		return Interface{}, false
	}
	stats, ok := attribute(body[sizeofStatsMsg:], unix.IFLA_STATS_LINK_64)
	if !ok || len(stats) < 8*8 {
		return Interface{}, false
	}
	n := func(i int) uint64 { return binary.NativeEndian.Uint64(stats[8*i:]) }
	return Interface{
		Index: int(binary.NativeEndian.Uint32(body[4:])),
		Counters: Counters{
			RxPackets: n(0), TxPackets: n(1), RxBytes: n(2), TxBytes: n(3),
			RxErrors: n(4), TxErrors: n(5), RxDropped: n(6), TxDropped: n(7),
		},
	}, true
}

// parseLink reads an ifinfomsg.
func parseLink(body []byte) (index int, name string, ok bool) {
	if len(body) < unix.SizeofIfInfomsg {
		return 0, "", false
	}
	text, ok := attribute(body[unix.SizeofIfInfomsg:], unix.IFLA_IFNAME)
	return int(binary.NativeEndian.Uint32(body[4:])), unix.ByteSliceToString(text), ok
}
