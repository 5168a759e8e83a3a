package filter

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	protoTCP  = unix.IPPROTO_TCP
	protoUDP  = unix.IPPROTO_UDP
	protoSCTP = unix.IPPROTO_SCTP
)

var protocolNumbers = map[string]uint8{
	"tcp": protoTCP, "udp": protoUDP, "sctp": protoSCTP, "icmp": unix.IPPROTO_ICMP, "icmp6": unix.IPPROTO_ICMPV6,
	"igmp": unix.IPPROTO_IGMP, "esp": unix.IPPROTO_ESP, "ah": unix.IPPROTO_AH, "gre": unix.IPPROTO_GRE,
}

// generator writes a program whose jumps lead to labels. A conditional jump can
// skip 255 instructions only, so each is followed by two that lead anywhere.
type generator struct {
	layout
	code   []bpf.Instruction
	jumps  map[int]int // index of an instruction that leads to a label
	places []int       // of labels
}

func (g *generator) emit(i ...bpf.Instruction) { g.code = append(g.code, i...) }

func (g *generator) label() int {
	g.places = append(g.places, -1)
	return len(g.places) - 1
}

func (g *generator) place(label int) { g.places[label] = len(g.code) }

// jump goes to a label.
func (g *generator) jump(label int) {
	if g.jumps == nil {
		g.jumps = map[int]int{}
	}
	g.jumps[len(g.code)] = label
	g.emit(bpf.Jump{})
}

// branch compares what was loaded, and goes to yes or no.
func (g *generator) branch(cond bpf.JumpTest, val uint32, yes, no int) {
	g.emit(bpf.JumpIf{Cond: cond, Val: val, SkipTrue: 0, SkipFalse: 1})
	g.jump(yes)
	g.jump(no)
}

// need goes on if what was loaded has a value, else to no.
func (g *generator) need(val uint32, no int) {
	next := g.label()
	g.branch(bpf.JumpEqual, val, next, no)
	g.place(next)
}

// resolve makes jumps of labels, all of which lead forward.
func (g *generator) resolve() []bpf.Instruction {
	for at, label := range g.jumps {
		g.code[at] = bpf.Jump{Skip: uint32(g.places[label] - at - 1)}
	}
	return g.code
}

// load loads from behind the beginning of the network header.
func (g *generator) load(offset uint32, size int) {
	g.emit(bpf.LoadAbsolute{Off: g.network + offset, Size: size})
}

// etherType goes on if the packet has an EtherType, else to no.
func (g *generator) etherType(t uint32, no int) {
	g.emit(g.protocol)
	g.need(t, no)
}

// node is a part of an expression.
type node interface {
	// generate writes code that goes to yes or no.
	generate(g *generator, yes, no int)
}

type both struct{ a, b node }

func (n both) generate(g *generator, yes, no int) {
	next := g.label()
	n.a.generate(g, next, no)
	g.place(next)
	n.b.generate(g, yes, no)
}

type either struct{ a, b node }

func (n either) generate(g *generator, yes, no int) {
	next := g.label()
	n.a.generate(g, yes, next)
	g.place(next)
	n.b.generate(g, yes, no)
}

type negated struct{ a node }

func (n negated) generate(g *generator, yes, no int) { n.a.generate(g, no, yes) }

// protocol is a protocol alone.
func protocol(name string) node {
	switch name {
	case "ip":
		return etherType(unix.ETH_P_IP)
	case "ip6":
		return etherType(unix.ETH_P_IPV6)
	case "arp":
		return etherType(unix.ETH_P_ARP)
	case "icmp":
		return transport{4, unix.IPPROTO_ICMP}
	case "icmp6":
		return transport{6, unix.IPPROTO_ICMPV6}
	}
	n := protocolNumbers[name]
	return either{transport{4, n}, transport{6, n}}
}

type etherType uint32

func (n etherType) generate(g *generator, yes, no int) {
	g.emit(g.protocol)
	g.branch(bpf.JumpEqual, uint32(n), yes, no)
}

// transport is a protocol in packets of IP.
type transport struct {
	version int
	proto   uint8
}

func (n transport) generate(g *generator, yes, no int) {
	if n.version == 4 {
		g.etherType(unix.ETH_P_IP, no)
		g.load(9, 1)
		g.branch(bpf.JumpEqual, uint32(n.proto), yes, no)
		return
	}
	g.etherType(unix.ETH_P_IPV6, no)
	g.load(6, 1)
	fragment := g.label()
	g.branch(bpf.JumpEqual, uint32(n.proto), yes, fragment)
	g.place(fragment)
	g.need(unix.IPPROTO_FRAGMENT, no)
	g.load(40, 1)
	g.branch(bpf.JumpEqual, uint32(n.proto), yes, no)
}

// address compares addresses, source and destination of which lie at two places
// of a packet of one type.
type address struct {
	etherType uint32
	at        uint32
	prefix    netip.Prefix
}

func (n address) generate(g *generator, yes, no int) {
	g.etherType(n.etherType, no)
	b := n.prefix.Addr().AsSlice()
	for i := 0; i < len(b) && i*8 < n.prefix.Bits(); i += 4 {
		g.load(n.at+uint32(i), 4)
		mask := ^uint32(0)
		if left := n.prefix.Bits() - i*8; left < 32 {
			mask <<= 32 - left
			g.emit(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask})
		}
		g.need(binary.BigEndian.Uint32(b[i:])&mask, no)
	}
	g.jump(yes)
}

// addressNode is a host or a network.
func addressNode(q primitive, p netip.Prefix) (node, error) {
	is4 := p.Addr().Is4()
	type place struct{ etherType, src, dst uint32 }
	var places []place
	switch q.proto {
	case "", "tcp", "udp", "sctp", "icmp", "icmp6":
		if is4 {
			places = []place{{unix.ETH_P_IP, 12, 16}}
			if q.proto == "" {
				places = append(places, place{unix.ETH_P_ARP, 14, 24})
			}
		} else {
			places = []place{{unix.ETH_P_IPV6, 8, 24}}
		}
	case "ip":
		places = []place{{unix.ETH_P_IP, 12, 16}}
	case "arp":
		places = []place{{unix.ETH_P_ARP, 14, 24}}
	case "ip6":
		places = []place{{unix.ETH_P_IPV6, 8, 24}}
	}
	if is4 && (q.proto == "ip6" || q.proto == "icmp6") || !is4 && (q.proto == "ip" || q.proto == "arp" || q.proto == "icmp") {
		return nil, fmt.Errorf("%s has no address %s", q.proto, p.Addr())
	}
	var n node
	for _, at := range places {
		src, dst := node(address{at.etherType, at.src, p}), node(address{at.etherType, at.dst, p})
		m := src
		switch q.dir {
		case "":
			m = either{src, dst}
		case "dst":
			m = dst
		case "both":
			m = both{src, dst}
		}
		if n == nil {
			n = m
		} else {
			n = either{n, m}
		}
	}
	if _, carried := protocolNumbers[q.proto]; carried {
		n = both{protocol(q.proto), n}
	}
	return n, nil
}

// ports compares ports.
type ports struct {
	protos    []uint8
	dir       string
	low, high uint16
}

func (n ports) generate(g *generator, yes, no int) {
	for _, proto := range n.protos {
		other, fits := g.label(), g.label()
		transport{4, proto}.generate(g, fits, other)
		g.place(fits)
		// Only the first fragment has ports.
		g.load(6, 2)
		first := g.label()
		g.branch(bpf.JumpBitsSet, 0x1fff, no, first)
		g.place(first)
		g.emit(bpf.LoadMemShift{Off: g.network})
		n.compare(g, func(offset uint32) bpf.Instruction {
			return bpf.LoadIndirect{Off: g.network + offset, Size: 2}
		}, yes, no)
		g.place(other)
	}
	g.etherType(unix.ETH_P_IPV6, no)
	for _, proto := range n.protos {
		other, fits := g.label(), g.label()
		g.load(6, 1)
		g.branch(bpf.JumpEqual, uint32(proto), fits, other)
		g.place(fits)
		n.compare(g, func(offset uint32) bpf.Instruction {
			return bpf.LoadAbsolute{Off: g.network + 40 + offset, Size: 2}
		}, yes, no)
		g.place(other)
	}
	g.jump(no)
}

func (n ports) compare(g *generator, load func(offset uint32) bpf.Instruction, yes, no int) {
	const src, dst = 0, 2
	one := func(offset uint32, yes, no int) {
		g.emit(load(offset))
		above := g.label()
		g.branch(bpf.JumpGreaterOrEqual, uint32(n.low), above, no)
		g.place(above)
		g.branch(bpf.JumpLessOrEqual, uint32(n.high), yes, no)
	}
	next := g.label()
	switch n.dir {
	case "src":
		one(src, yes, no)
	case "dst":
		one(dst, yes, no)
	case "both":
		one(src, next, no)
		g.place(next)
		one(dst, yes, no)
	default:
		one(src, yes, next)
		g.place(next)
		one(dst, yes, no)
	}
}

// size compares the length of a packet, with its link header.
type size struct {
	greater bool
	n       uint32
}

func (n size) generate(g *generator, yes, no int) {
	g.emit(bpf.LoadExtension{Num: bpf.ExtLen})
	cond := bpf.JumpLessOrEqual
	if n.greater {
		cond = bpf.JumpGreaterOrEqual
	}
	g.branch(cond, n.n, yes, no)
}

// tcpFlag compares the flags of TCP.
type tcpFlag struct {
	mask, value uint32
	not         bool
}

func (n tcpFlag) generate(g *generator, yes, no int) {
	if n.not {
		// Of packets that are no TCP neither = nor != is true.
		n.not = false
		both{protocol("tcp"), negated{n}}.generate(g, yes, no)
		return
	}
	v6, fits := g.label(), g.label()
	transport{4, protoTCP}.generate(g, fits, v6)
	g.place(fits)
	g.load(6, 2)
	first := g.label()
	g.branch(bpf.JumpBitsSet, 0x1fff, no, first)
	g.place(first)
	g.emit(bpf.LoadMemShift{Off: g.network}, bpf.LoadIndirect{Off: g.network + 13, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: n.mask})
	g.branch(bpf.JumpEqual, n.value, yes, no)
	g.place(v6)
	g.etherType(unix.ETH_P_IPV6, no)
	g.load(6, 1)
	g.need(protoTCP, no)
	g.load(40+13, 1)
	g.emit(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: n.mask})
	g.branch(bpf.JumpEqual, n.value, yes, no)
}
