package queries

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/packet"
)

// segment is what a packet of UDP or TCP carries, or what one of ICMP says about
// another.
type segment struct {
	proto    byte // unix.IPPROTO_
	src, dst netip.AddrPort
	data     []byte
	seq      uint32 // of TCP
	flags    byte
	// refused tells that this one, from src to dst, was refused by from.
	refused bool
	from    netip.Addr
}

// Flags of TCP.
const (
	fin = 0x01
	syn = 0x02
	rst = 0x04
)

// decode takes a packet apart. ok is false for what is of no interest, or damaged.
func decode(p packet.Packet) (s segment, ok bool) {
	b := p.Data
	if p.LinkType == packet.Ethernet {
		const header = 14
		if len(b) < header {
			return s, false
		}
		typ := binary.BigEndian.Uint16(b[12:])
		b = b[header:]
		if typ == unix.ETH_P_8021Q && len(b) >= 4 {
			typ, b = binary.BigEndian.Uint16(b[2:]), b[4:]
		}
		if typ != unix.ETH_P_IP && typ != unix.ETH_P_IPV6 {
			return s, false
		}
	}
	return network(b)
}

// network takes a packet of IP apart.
func network(b []byte) (s segment, ok bool) {
	if len(b) > 0 && b[0]>>4 == 6 {
		return ipv6(b)
	}
	if len(b) < 20 || b[0]>>4 != 4 {
		return s, false
	}
	head, total := int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:]))
	if head < 20 || head > len(b) || binary.BigEndian.Uint16(b[6:])&0x1fff != 0 { // not the first fragment
		return s, false
	}
	src, dst := netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	end := len(b)
	if total >= head && total < end { // the rest is filling
		end = total
	}
	return transport(b[9], src, dst, b[head:end])
}

func ipv6(b []byte) (s segment, ok bool) {
	const header = 40
	if len(b) < header {
		return s, false
	}
	src, dst := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	next, length, rest := b[6], int(binary.BigEndian.Uint16(b[4:])), b[header:]
	if length > 0 && length < len(rest) {
		rest = rest[:length]
	}
	for len(rest) >= 8 {
		n := 8
		switch next {
		case unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS:
			n = (int(rest[1]) + 1) * 8
		case unix.IPPROTO_FRAGMENT:
			if binary.BigEndian.Uint16(rest[2:])&^7 != 0 { // not the first
				return s, false
			}
		default:
			return transport(next, src, dst, rest)
		}
		if n > len(rest) {
			return s, false
		}
		next, rest = rest[0], rest[n:]
	}
	return s, false
}

func transport(proto byte, src, dst netip.Addr, b []byte) (s segment, ok bool) {
	const ports, udpHeader, tcpHeader, icmpHeader = 4, 8, 20, 8
	s.proto = proto
	switch proto {
	case unix.IPPROTO_UDP, unix.IPPROTO_TCP:
		if len(b) < ports {
			return s, false
		}
		s.src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(b))
		s.dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:]))
		if proto == unix.IPPROTO_UDP {
			s.data = b[min(udpHeader, len(b)):]
			return s, true
		}
		if len(b) < tcpHeader {
			return s, true // of a packet within one of ICMP
		}
		s.seq, s.flags = binary.BigEndian.Uint32(b[4:]), b[13]
		s.data = b[min(max(int(b[12]>>4)*4, tcpHeader), len(b)):]
		return s, true
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		const unreachable4, unreachable6 = 3, 1
		of := byte(unreachable4)
		if proto == unix.IPPROTO_ICMPV6 {
			of = unreachable6
		}
		if len(b) < icmpHeader || b[0] != of {
			return s, false
		}
		s, ok = network(b[icmpHeader:])
		if !ok || s.refused {
			return s, false
		}
		s.refused, s.from = true, src
		return s, true
	}
	return s, false
}
