// Package packet reads the packets of network interfaces, as tcpdump does: by a
// socket of the family AF_PACKET, see packet(7).
//
// [Open] makes the socket in a network namespace and lets in what the filter
// passes, of one interface or of all of them, those too that come later.
// [Socket.Read] returns one packet after the other. What nobody reads waits in the
// socket's buffer, whose size is bounded; what does not fit in is dropped by the
// kernel and counted, see [Socket.Stats]. Nothing is ever held up for a reader.
package packet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/ns"
)

// Options say what a socket gets.
type Options struct {
	// NetNS is the network namespace; nil: that of the calling thread. It may be
	// closed afterwards.
	NetNS *os.File
	// Interface is the only one that is looked at; empty: all.
	Interface string
	// Filter is what packets have to pass, see package filter; nil: all do.
	Filter []bpf.RawInstruction
	// SnapLen is how many bytes of a packet are kept; 0: DefaultSnapLen.
	SnapLen int
	// Buffer is how many bytes wait for the reader; 0: DefaultBuffer.
	Buffer int
}

// Defaults and bounds of Options.
const (
	DefaultSnapLen = 256 << 10
	MaxSnapLen     = 256 << 10
	DefaultBuffer  = 4 << 20
)

// LinkType is how a packet begins, by the numbers of pcap's LINKTYPE_.
type LinkType uint16

// The link types that packets have here: whatever has no Ethernet header is given
// without any.
const (
	Ethernet LinkType = 1
	Raw      LinkType = 101 // IPv4 or IPv6
)

// Packet is what was sent or received.
type Packet struct {
	Time      time.Time
	Interface int // its index
	LinkType  LinkType
	Outgoing  bool // sent by this namespace
	Length    int  // of the whole packet, in bytes
	// Data is its beginning; valid until the next Read.
	Data []byte
}

// Socket reads packets. Read is for one goroutine at a time.
type Socket struct {
	f       *os.File
	buf     []byte
	oob     []byte
	snapLen int
	names   map[int]string
	stats   Stats
}

// Stats count packets that have passed the filter, since Open.
type Stats struct {
	Received uint64 // read, waiting to be read, or dropped
	Dropped  uint64 // since nobody had read in time
}

// Open makes a socket that packets come in at from now on. An interface that is
// not there gives unix.ENODEV.
func Open(o Options) (*Socket, error) {
	if o.SnapLen <= 0 || o.SnapLen > MaxSnapLen {
		o.SnapLen = DefaultSnapLen
	}
	if o.Buffer <= 0 {
		o.Buffer = DefaultBuffer
	}
	fd := -1
	dial := func() (err error) {
		// Protocol 0: nothing comes in before bind.
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return os.NewSyscallError("socket", err)
	}
	var err error
	if o.NetNS == nil {
		err = dial()
	} else {
		err = ns.Do([]ns.Entry{{File: o.NetNS, Kind: ns.Net}}, dial)
	}
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	if err := prepare(fd, o); err != nil {
		return nil, errors.Join(fmt.Errorf("open packet socket: %w", err), unix.Close(fd))
	}
	return &Socket{
		f: os.NewFile(uintptr(fd), "packet"), snapLen: o.SnapLen, names: map[int]string{},
		buf: make([]byte, o.SnapLen+linkHeader), oob: make([]byte, 256),
	}, nil
}

// linkHeader is more than any header that is not counted to a packet without
// Ethernet.
const linkHeader = 128

// prepare sets the options and binds, which lets packets in.
func prepare(fd int, o Options) error {
	if len(o.Filter) > 0 {
		program := make([]unix.SockFilter, len(o.Filter))
		for i, in := range o.Filter {
			program[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
		}
		fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
		if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &fprog); err != nil {
			return os.NewSyscallError("attach filter", err)
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, o.Buffer); err != nil {
		// Who may not exceed the system's bound gets as much as that.
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, o.Buffer); err != nil {
			return os.NewSyscallError("set buffer", err)
		}
	}
	for _, opt := range []struct{ level, name int }{{unix.SOL_SOCKET, unix.SO_TIMESTAMPNS}, {unix.SOL_PACKET, unix.PACKET_AUXDATA}} {
		if err := unix.SetsockoptInt(fd, opt.level, opt.name, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	index := 0
	if o.Interface != "" {
		req, err := unix.NewIfreq(o.Interface)
		if err != nil {
			return unix.ENODEV
		}
		if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req); err != nil {
			return err
		}
		index = int(req.Uint32())
	}
	err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ALL), Ifindex: index})
	return os.NewSyscallError("bind", err)
}

// bigEndian is htons(3).
func bigEndian(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}

// Close ends a Read that waits.
func (s *Socket) Close() error { return s.f.Close() }

// SetReadDeadline makes Read return os.ErrDeadlineExceeded from then on, also one
// that waits; the zero time: never.
func (s *Socket) SetReadDeadline(t time.Time) error { return s.f.SetReadDeadline(t) }

// Read waits for the next packet. Of what a loopback interface sends and receives
// at once it returns the receipt only. It returns unix.ENETDOWN once when an
// interface goes down; more may come.
func (s *Socket) Read() (Packet, error) { return s.read(true) }

// Waiting is Read for a packet that is there already; unix.EAGAIN: there is none.
// It does not mind the deadline.
func (s *Socket) Waiting() (Packet, error) { return s.read(false) }

func (s *Socket) read(wait bool) (Packet, error) {
	raw, err := s.f.SyscallConn()
	if err != nil {
		return Packet{}, err
	}
	for {
		var n, oobn int
		var from unix.Sockaddr
		var failed error
		receive := func(fd uintptr) bool {
			for {
				n, oobn, _, from, failed = unix.Recvmsg(int(fd), s.buf, s.oob, unix.MSG_TRUNC)
				if !errors.Is(failed, unix.EINTR) {
					return !errors.Is(failed, unix.EAGAIN)
				}
			}
		}
		if wait {
			err = raw.Read(receive)
		} else {
			err = raw.Control(func(fd uintptr) { receive(fd) })
		}
		if err == nil {
			err = failed
		}
		if err != nil {
			return Packet{}, err
		}
		if p, ok := s.packet(n, oobn, from); ok {
			return p, nil
		}
	}
}

// packet makes one of what was received: n bytes, of which the buffer has the
// beginning.
func (s *Socket) packet(n, oobn int, from unix.Sockaddr) (p Packet, ok bool) {
	ll, ok := from.(*unix.SockaddrLinklayer)
	if !ok || ll.Hatype == unix.ARPHRD_LOOPBACK && ll.Pkttype == unix.PACKET_OUTGOING {
		return p, false
	}
	p = Packet{
		Interface: ll.Ifindex, Outgoing: ll.Pkttype == unix.PACKET_OUTGOING, Length: n, LinkType: Ethernet,
		Data: s.buf[:min(n, len(s.buf))],
	}
	network, vlan := s.control(&p, s.oob[:oobn])
	switch {
	case ll.Hatype != unix.ARPHRD_ETHER && ll.Hatype != unix.ARPHRD_LOOPBACK:
		p.LinkType = Raw
		p.Data, p.Length = p.Data[min(network, len(p.Data)):], max(p.Length-network, 0)
	case len(vlan) > 0 && len(p.Data) >= 12:
		// The kernel has taken the tag out.
		tagged := append(make([]byte, 0, len(p.Data)+len(vlan)), p.Data[:12]...)
		p.Data, p.Length = append(append(tagged, vlan...), p.Data[12:]...), p.Length+len(vlan)
	}
	p.Data = p.Data[:min(len(p.Data), s.snapLen)]
	return p, true
}

// control reads the time of a packet, where its network header is, and its VLAN
// tag, if it has one, as it was on the wire.
func (s *Socket) control(p *Packet, oob []byte) (network int, vlan []byte) {
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0, nil
	}
	for _, m := range list {
		switch {
		case m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= 16:
			p.Time = time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
		case m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA && len(m.Data) >= 20:
			// struct tpacket_auxdata of the kernel's include/uapi/linux/if_packet.h.
			status, net := binary.NativeEndian.Uint32(m.Data), binary.NativeEndian.Uint16(m.Data[14:])
			network = int(net)
			if status&unix.TP_STATUS_VLAN_VALID != 0 {
				tci, tpid := binary.NativeEndian.Uint16(m.Data[16:]), uint16(unix.ETH_P_8021Q)
				if status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
					tpid = binary.NativeEndian.Uint16(m.Data[18:])
				}
				vlan = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, tpid), tci)
			}
		}
	}
	if p.Time.IsZero() {
		p.Time = time.Now()
	}
	return network, vlan
}

// Name is the name of an interface, as it was when it was first asked for.
func (s *Socket) Name(index int) string {
	if name, known := s.names[index]; known {
		return name
	}
	name := fmt.Sprintf("if%d", index) // gone already
	if raw, err := s.f.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			req, err := unix.NewIfreq("")
			if err != nil {
				return
			}
			req.SetUint32(uint32(index))
			if unix.IoctlIfreq(int(fd), unix.SIOCGIFNAME, req) == nil {
				name = req.Name()
			}
		})
	}
	s.names[index] = name
	return name
}

// Stats counts up to now.
func (s *Socket) Stats() (Stats, error) {
	raw, err := s.f.SyscallConn()
	if err != nil {
		return s.stats, err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		// Reading sets the kernel's counters to zero.
		var now *unix.TpacketStats
		if now, failed = unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); failed == nil {
			s.stats.Received += uint64(now.Packets)
			s.stats.Dropped += uint64(now.Drops)
		}
	})
	return s.stats, errors.Join(err, failed)
}
