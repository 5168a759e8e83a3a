// Package filter compiles filters for packets, in the language of pcap-filter(7),
// to programs that the kernel runs.
//
//	host 10.91.0.2 and tcp port 80
//	udp port 53 or icmp
//	not arp and (src net 10.0.0.0/8 or ip6)
//	tcp portrange 8000-8999 and greater 100
//	tcp[tcpflags] & (tcp-syn|tcp-fin) != 0
//
// What there is: the protocols ip, ip6, arp, tcp, udp, sctp, icmp and icmp6, alone
// or before the rest; src and dst; host, net, port, portrange and proto; greater
// and less; the flags of TCP as above; and, or, not and brackets. What of
// pcap-filter there is not, is refused by name.
//
// A program looks for the network header where the kernel says it is
// (SKF_NET_OFF), so it does for interfaces with and without Ethernet.
package filter

import (
	"fmt"
	"net/netip"

	"golang.org/x/net/bpf"
)

// Resolver finds the addresses of a name; none: it is not known.
type Resolver func(name string) []netip.Addr

// MaxLength bounds an expression, in bytes.
const MaxLength = 4 << 10

// Compile compiles an expression. An empty one passes everything and gives nil.
// resolve, which may be nil, finds hosts that are not named by an address.
func Compile(expression string, resolve Resolver) ([]bpf.RawInstruction, error) {
	program, err := compile(expression, resolve, kernel)
	if err != nil || program == nil {
		return nil, err
	}
	raw, err := bpf.Assemble(program)
	if err != nil {
		return nil, fmt.Errorf("filter %q: %w", expression, err)
	}

	if len(raw) > maxInstructions {
		return nil, fmt.Errorf("filter %q is too long for the kernel", expression)
	}
	return raw, nil
}

// maxInstructions is BPF_MAXINSNS of the kernel's include/uapi/linux/bpf_common.h.
const maxInstructions = 4096

// layout is where a program finds things.
type layout struct {
	protocol bpf.Instruction // loads the EtherType
	network  uint32          // offset of the network header
}

// kernel is the layout for sockets: SKF_NET_OFF of the kernel's
// include/uapi/linux/filter.h.
var kernel = layout{bpf.LoadExtension{Num: bpf.ExtProto}, 0xfff00000}

// passed is as much of a packet as a program lets through: all of it.
const passed = 256 << 10

func compile(expression string, resolve Resolver, l layout) ([]bpf.Instruction, error) {
	if len(expression) > MaxLength {
		return nil, fmt.Errorf("the filter is longer than %d bytes", MaxLength)
	}
	p := &parser{words: split(expression), resolve: resolve}
	if len(p.words) == 0 {
		return nil, nil
	}
	n, err := p.parse()
	if err != nil {
		return nil, fmt.Errorf("filter %q: %w", expression, err)
	}
	g := &generator{layout: l}
	yes, no := g.label(), g.label()
	n.generate(g, yes, no)
	g.place(yes)
	g.emit(bpf.RetConstant{Val: passed})
	g.place(no)
	g.emit(bpf.RetConstant{Val: 0})
	return g.resolve(), nil
}
