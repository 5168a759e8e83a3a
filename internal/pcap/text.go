package pcap

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// Link types that have text.
const (
	linkEthernet = 1
	linkRaw      = 101
)

// EtherTypes.
const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherVLAN = 0x8100
	etherIPv6 = 0x86dd
)

// Text tells of packets as tcpdump does. It knows the connections that it has seen
// begin, so that numbers of TCP count from their beginning.
type Text struct {
	// Absolute shows the numbers of TCP as they are.
	Absolute bool
	first    map[flow]uint32
}

type flow struct{ src, dst netip.AddrPort }

// mostFlows bounds what is remembered of connections.
const mostFlows = 4096

// Full is Line with time, interface and direction. A container may give its
// interfaces names that a terminal takes for commands.
func (t *Text) Full(i Interface, p *Packet) string {
	direction := "In "
	if p.Outgoing {
		direction = "Out"
	}
	return fmt.Sprintf("%s %-5s %s %s", p.Time.Local().Format("15:04:05.000000"), printable(i.Name), direction, t.Line(i.LinkType, p))
}

// Line tells of a packet in one line, without time and interface. Nothing in it
// moves a terminal's cursor.
func (t *Text) Line(linkType uint16, p *Packet) string {
	switch linkType {
	case linkEthernet:
		return t.ethernet(p.Data)
	case linkRaw:
		if len(p.Data) > 0 && p.Data[0]>>4 == 6 {
			return t.network(etherIPv6, p.Data)
		}
		return t.network(etherIPv4, p.Data)
	}
	return fmt.Sprintf("link type %d, length %d", linkType, p.Length)
}

func (t *Text) ethernet(b []byte) string {
	if len(b) < 14 {
		return cutShort("Ethernet")
	}
	src, dst, typ, rest := net.HardwareAddr(b[6:12]), net.HardwareAddr(b[:6]), binary.BigEndian.Uint16(b[12:]), b[14:]
	vlan := ""
	if typ == etherVLAN && len(rest) >= 4 {
		vlan = fmt.Sprintf("vlan %d, ", binary.BigEndian.Uint16(rest)&0xfff)
		typ, rest = binary.BigEndian.Uint16(rest[2:]), rest[4:]
	}
	switch typ {
	case etherIPv4, etherIPv6, etherARP:
		return vlan + t.network(typ, rest)
	}
	return fmt.Sprintf("%s%s > %s, ethertype 0x%04x, length %d", vlan, src, dst, typ, len(rest))
}

func (t *Text) network(typ uint16, b []byte) string {
	switch typ {
	case etherARP:
		return arpText(b)
	case etherIPv6:
		return t.ipv6(b)
	}
	return t.ipv4(b)
}

func cutShort(what string) string { return what + ", cut short" }

func arpText(b []byte) string {
	if len(b) < 28 {
		return cutShort("ARP")
	}
	sender, target := netip.AddrFrom4([4]byte(b[14:18])), netip.AddrFrom4([4]byte(b[24:28]))
	switch binary.BigEndian.Uint16(b[6:]) {
	case 1:
		return fmt.Sprintf("ARP, Request who-has %s tell %s, length %d", target, sender, len(b))
	case 2:
		return fmt.Sprintf("ARP, Reply %s is-at %s, length %d", sender, net.HardwareAddr(b[8:14]), len(b))
	}
	return fmt.Sprintf("ARP, operation %d, length %d", binary.BigEndian.Uint16(b[6:]), len(b))
}

func (t *Text) ipv4(b []byte) string {
	if len(b) < 20 {
		return cutShort("IP")
	}
	head, total := int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:]))
	src, dst := netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	if head < 20 || head > len(b) {
		return fmt.Sprintf("IP %s > %s: header is damaged", src, dst)
	}
	if total == 0 { // segmented by the card
		total = len(b)
	}
	if offset := binary.BigEndian.Uint16(b[6:]) & 0x1fff; offset != 0 {
		return fmt.Sprintf("IP %s > %s: fragment at %d, length %d", src, dst, int(offset)*8, total-head)
	}
	end := max(min(total, len(b)), head)
	return "IP " + t.transport(b[9], src, dst, b[head:end], total-head)
}

func (t *Text) ipv6(b []byte) string {
	if len(b) < 40 {
		return cutShort("IP6")
	}
	src, dst := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	next, length, rest := b[6], int(binary.BigEndian.Uint16(b[4:])), b[40:]
	// Hop-by-hop options, routing header and destination options.
	for (next == 0 || next == 43 || next == 60) && len(rest) >= 8 {
		n := (int(rest[1]) + 1) * 8
		if n > len(rest) {
			break
		}
		next, rest, length = rest[0], rest[n:], length-n
	}
	if length <= 0 { // segmented by the card
		length = len(rest)
	}
	rest = rest[:min(length, len(rest))]
	return "IP6 " + t.transport(next, src, dst, rest, length)
}

// Protocols of IP.
const (
	ipICMP   = 1
	ipIGMP   = 2
	ipTCP    = 6
	ipUDP    = 17
	ipICMPv6 = 58
	ipSCTP   = 132
)

// transport tells of what IP carries. b may be cut short; length is the whole of it.
func (t *Text) transport(proto byte, src, dst netip.Addr, b []byte, length int) string {
	switch proto {
	case ipTCP:
		return t.tcp(src, dst, b, length)
	case ipUDP:
		return udpText(src, dst, b)
	case ipICMP:
		return fmt.Sprintf("%s > %s: ICMP %s, length %d", src, dst, icmpText(b), length)
	case ipICMPv6:
		return fmt.Sprintf("%s > %s: ICMP6, %s, length %d", src, dst, icmp6Text(b), length)
	case ipIGMP:
		return fmt.Sprintf("%s > %s: IGMP, length %d", src, dst, length)
	case ipSCTP:
		return fmt.Sprintf("%s > %s: SCTP, length %d", src, dst, length)
	}
	return fmt.Sprintf("%s > %s: protocol %d, length %d", src, dst, proto, length)
}

// endpoint is an address with its port, as tcpdump writes it.
func endpoint(a netip.Addr, port uint16) string { return a.String() + "." + strconv.Itoa(int(port)) }

func (t *Text) tcp(src, dst netip.Addr, b []byte, length int) string {
	if len(b) < 20 {
		return fmt.Sprintf("%s > %s: %s", src, dst, cutShort("tcp"))
	}
	sport, dport := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	seq, ack := binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
	head, flags := int(b[12]>>4)*4, b[13]
	text := fmt.Sprintf("%s > %s: Flags [%s]", endpoint(src, sport), endpoint(dst, dport), flagText(flags))
	if head < 20 || head > length {
		return text + ", header is damaged"
	}
	payload := length - head
	ours := flow{netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport)}
	const syn, fin, rst, hasAck = 0x02, 0x01, 0x04, 0x10
	shown, shownAck := t.relative(ours, seq, ack, flags&syn != 0)
	if payload > 0 {
		text += fmt.Sprintf(", seq %d:%d", shown, shown+uint32(payload))
	} else if flags&(syn|fin|rst) != 0 {
		text += fmt.Sprintf(", seq %d", shown)
	}
	if flags&hasAck != 0 {
		text += fmt.Sprintf(", ack %d", shownAck)
	}
	text += fmt.Sprintf(", win %d", binary.BigEndian.Uint16(b[14:]))
	if o := tcpOptions(b[20:min(head, len(b))]); o != "" {
		text += ", options [" + o + "]"
	}
	text += fmt.Sprintf(", length %d", payload)
	if line := httpLine(b[min(head, len(b)):]); line != "" {
		text += ": HTTP: " + line
	}
	return text
}

// relative are the numbers counted from the beginning of the connection, if that
// was seen.
func (t *Text) relative(f flow, seq, ack uint32, begins bool) (uint32, uint32) {
	if t.Absolute {
		return seq, ack
	}
	if begins {
		if t.first == nil || len(t.first) >= mostFlows {
			t.first = map[flow]uint32{}
		}
		t.first[f] = seq
		if peer, known := t.first[flow{f.dst, f.src}]; known {
			return seq, ack - peer
		}
		return seq, ack
	}
	if first, known := t.first[f]; known {
		seq -= first
	}
	if first, known := t.first[flow{f.dst, f.src}]; known {
		ack -= first
	}
	return seq, ack
}

func flagText(flags byte) string {
	var b strings.Builder
	for _, f := range []struct {
		bit  byte
		name byte
	}{{0x01, 'F'}, {0x02, 'S'}, {0x04, 'R'}, {0x08, 'P'}, {0x20, 'U'}, {0x80, 'W'}, {0x40, 'E'}, {0x10, '.'}} {
		if flags&f.bit != 0 {
			b.WriteByte(f.name)
		}
	}
	if b.Len() == 0 {
		return "none"
	}
	return b.String()
}

func tcpOptions(b []byte) string {
	var list []string
	for len(b) > 0 {
		kind := b[0]
		if kind == 0 {
			break
		}
		if kind == 1 {
			list, b = append(list, "nop"), b[1:]
			continue
		}
		if len(b) < 2 || int(b[1]) < 2 || int(b[1]) > len(b) {
			break
		}
		v := b[2:b[1]]
		b = b[b[1]:]
		switch {
		case kind == 2 && len(v) == 2:
			list = append(list, fmt.Sprintf("mss %d", binary.BigEndian.Uint16(v)))
		case kind == 3 && len(v) == 1:
			list = append(list, fmt.Sprintf("wscale %d", v[0]))
		case kind == 4:
			list = append(list, "sackOK")
		case kind == 5:
			list = append(list, fmt.Sprintf("sack %d", len(v)/8))
		case kind == 8 && len(v) == 8:
			list = append(list, fmt.Sprintf("TS val %d ecr %d", binary.BigEndian.Uint32(v), binary.BigEndian.Uint32(v[4:])))
		default:
			list = append(list, fmt.Sprintf("option %d", kind))
		}
	}
	return strings.Join(list, ",")
}

// httpLine is the first line of a request or an answer of HTTP; empty: it is none.
func httpLine(b []byte) string {
	line, _, _ := strings.Cut(string(b[:min(len(b), 256)]), "\r\n")
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "CONNECT":
		if !strings.Contains(rest, " HTTP/1.") {
			return ""
		}
	case "HTTP/1.1", "HTTP/1.0":
	default:
		return ""
	}
	return printable(line)
}

// printable makes what comes from the network harmless for a terminal.
func printable(s string) string {
	q := strconv.QuoteToASCII(s)
	return q[1 : len(q)-1]
}

func udpText(src, dst netip.Addr, b []byte) string {
	if len(b) < 8 {
		return fmt.Sprintf("%s > %s: %s", src, dst, cutShort("UDP"))
	}
	sport, dport, length := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]), int(binary.BigEndian.Uint16(b[4:]))-8
	head := fmt.Sprintf("%s > %s: ", endpoint(src, sport), endpoint(dst, dport))
	const domain = 53
	if sport == domain || dport == domain {
		if text := dnsText(b[8:], length); text != "" {
			return head + text
		}
	}
	return head + fmt.Sprintf("UDP, length %d", length)
}

// dnsText tells of a question for a name or its answer; empty: it is none.
func dnsText(b []byte, length int) string {
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil {
		return ""
	}
	var asked []string
	for range 4 {
		q, err := p.Question()
		if err != nil {
			break
		}
		asked = append(asked, strings.TrimPrefix(q.Type.String(), "Type")+"? "+printable(q.Name.String()))
	}
	_ = p.SkipAllQuestions()
	id := strconv.Itoa(int(h.ID))
	if !h.Response {
		if h.RecursionDesired {
			id += "+"
		}
		return fmt.Sprintf("%s %s (%d)", id, strings.Join(asked, ", "), length)
	}
	text := id
	if h.RCode != dnsmessage.RCodeSuccess {
		text += " " + strings.TrimPrefix(h.RCode.String(), "RCode")
	}
	return fmt.Sprintf("%s %s %s (%d)", text, strings.Join(asked, ", "), dnsAnswers(&p), length)
}

func dnsAnswers(p *dnsmessage.Parser) string {
	var list []string
	for range 8 {
		h, err := p.AnswerHeader()
		if err != nil {
			break
		}
		typ := strings.TrimPrefix(h.Type.String(), "Type")
		switch h.Type { //nolint:exhaustive // the others are told by their type alone
		case dnsmessage.TypeA:
			if r, err := p.AResource(); err == nil {
				list = append(list, "A "+netip.AddrFrom4(r.A).String())
				continue
			}
		case dnsmessage.TypeAAAA:
			if r, err := p.AAAAResource(); err == nil {
				list = append(list, "AAAA "+netip.AddrFrom16(r.AAAA).String())
				continue
			}
		case dnsmessage.TypeCNAME:
			if r, err := p.CNAMEResource(); err == nil {
				list = append(list, "CNAME "+printable(r.CNAME.String()))
				continue
			}
		}
		list = append(list, typ)
		if p.SkipAnswer() != nil {
			break
		}
	}
	if len(list) == 0 {
		return "-> nothing"
	}
	return "-> " + strings.Join(list, ", ")
}

func icmpText(b []byte) string {
	if len(b) < 8 {
		return "cut short"
	}
	switch b[0] {
	case 0:
		return fmt.Sprintf("echo reply, id %d, seq %d", binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:]))
	case 8:
		return fmt.Sprintf("echo request, id %d, seq %d", binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:]))
	case 3:
		what := map[byte]string{
			0: "net unreachable", 1: "host unreachable", 2: "protocol unreachable", 3: "port unreachable",
			4: "unreachable, need to fragment (mtu " + strconv.Itoa(int(binary.BigEndian.Uint16(b[6:]))) + ")",
			9: "net prohibited by a filter", 10: "host prohibited by a filter", 13: "prohibited by a filter",
		}[b[1]]
		if what == "" {
			what = fmt.Sprintf("unreachable, code %d", b[1])
		}
		return what + about(b[8:])
	case 5:
		return "redirect" + about(b[8:])
	case 11:
		return "time exceeded" + about(b[8:])
	}
	return fmt.Sprintf("type %d code %d", b[0], b[1])
}

// about tells of the packet that an error is about.
func about(b []byte) string {
	if len(b) < 20 || b[0]>>4 != 4 {
		return ""
	}
	dst, head := netip.AddrFrom4([4]byte(b[16:20])), int(b[0]&0xf)*4
	name := map[byte]string{ipTCP: "tcp", ipUDP: "udp"}[b[9]]
	if name == "" || len(b) < head+4 || head < 20 {
		return " for " + dst.String()
	}
	return fmt.Sprintf(" for %s %s", name, endpoint(dst, binary.BigEndian.Uint16(b[head+2:])))
}

func icmp6Text(b []byte) string {
	if len(b) < 8 {
		return "cut short"
	}
	target := func() string {
		if len(b) < 24 {
			return ""
		}
		return " " + netip.AddrFrom16([16]byte(b[8:24])).String()
	}
	switch b[0] {
	case 1:
		return fmt.Sprintf("destination unreachable, code %d", b[1])
	case 2:
		return fmt.Sprintf("packet too big, mtu %d", binary.BigEndian.Uint32(b[4:]))
	case 3:
		return "time exceeded"
	case 128:
		return fmt.Sprintf("echo request, id %d, seq %d", binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:]))
	case 129:
		return fmt.Sprintf("echo reply, id %d, seq %d", binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:]))
	case 130, 131, 132, 143:
		return "multicast listener report"
	case 133:
		return "router solicitation"
	case 134:
		return "router advertisement"
	case 135:
		return "neighbor solicitation, who has" + target()
	case 136:
		return "neighbor advertisement, tgt is" + target()
	}
	return fmt.Sprintf("type %d code %d", b[0], b[1])
}
