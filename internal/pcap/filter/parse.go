package filter

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// split makes words of an expression; signs are words of their own.
func split(s string) (words []string) {
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case strings.IndexByte(" \t\r\n", c) >= 0:
			i++
		case i+1 < len(s) && slices.Contains([]string{"&&", "||", "!=", "=="}, s[i:i+2]):
			words = append(words, s[i:i+2])
			i += 2
		case strings.IndexByte("()!&|[]=", c) >= 0:
			words = append(words, s[i:i+1])
			i++
		default:
			end := i + 1
			for end < len(s) && strings.IndexByte(" \t\r\n()!&|[]=", s[end]) < 0 {
				end++
			}
			words = append(words, s[i:end])
			i = end
		}
	}
	return words
}

type parser struct {
	words   []string
	resolve Resolver
	depth   int
	last    primitive // whose qualifiers a bare value inherits
}

// primitive is one condition: a protocol, a direction, a kind and a value.
type primitive struct{ proto, dir, kind string }

func (p *parser) peek() string {
	if len(p.words) == 0 {
		return ""
	}
	return p.words[0]
}

func (p *parser) next() string {
	w := p.peek()
	if len(p.words) > 0 {
		p.words = p.words[1:]
	}
	return w
}

// take consumes the next word if it is one of those.
func (p *parser) take(words ...string) bool {
	if slices.Contains(words, p.peek()) && len(p.words) > 0 {
		p.next()
		return true
	}
	return false
}

func (p *parser) parse() (node, error) {
	n, err := p.or()
	if err == nil && len(p.words) > 0 {
		err = fmt.Errorf("%q is out of place", p.peek())
	}
	return n, err
}

func (p *parser) or() (node, error) {
	n, err := p.and()
	for err == nil && p.take("or", "||") {
		var m node
		m, err = p.and()
		n = either{n, m}
	}
	return n, err
}

func (p *parser) and() (node, error) {
	n, err := p.not()
	for err == nil && p.take("and", "&&") {
		var m node
		m, err = p.not()
		n = both{n, m}
	}
	return n, err
}

// deepest bounds brackets and nots within one another.
const deepest = 100

func (p *parser) not() (node, error) {
	if p.depth++; p.depth > deepest {
		return nil, errors.New("it is nested too deep")
	}
	defer func() { p.depth-- }()
	switch {
	case p.take("not", "!"):
		n, err := p.not()
		return negated{n}, err
	case p.take("("):
		n, err := p.or()
		if err == nil && !p.take(")") {
			err = errors.New("a closing bracket is missing")
		}
		return n, err
	}
	return p.primitive()
}

var (
	protocols = []string{"ip", "ip6", "arp", "tcp", "udp", "sctp", "icmp", "icmp6"}
	kinds     = []string{"host", "net", "port", "portrange", "proto"}
	// others are words of pcap-filter(7) that there are no programs for here.
	others = []string{
		"ether", "vlan", "mpls", "pppoed", "pppoes", "geneve", "vxlan", "broadcast", "multicast", "gateway", "link", "wlan", "rarp",
		"decnet", "iso", "inbound", "outbound", "ifname", "protochain", "ah", "esp", "vrrp", "igmp", "pim", "type", "subtype",
	}
)

func (p *parser) primitive() (node, error) {
	if len(p.words) == 0 {
		return nil, errors.New("it ends where a condition should be")
	}
	if w := p.peek(); w == "greater" || w == "less" {
		return p.length()
	}
	if len(p.words) > 1 && p.words[1] == "[" {
		return p.flags()
	}
	var q primitive
	if slices.Contains(protocols, p.peek()) {
		q.proto = p.next()
	}
	if w := p.peek(); w == "src" || w == "dst" {
		q.dir = p.direction()
	}
	if slices.Contains(kinds, p.peek()) {
		q.kind = p.next()
	}
	if q.kind == "" && q.dir == "" && q.proto != "" {
		// A protocol alone, unless an address stands behind it.
		if !p.valueFollows() {
			return protocol(q.proto), nil
		}
		q.kind = "host"
	}
	if q == (primitive{}) {
		if w := p.peek(); slices.Contains(others, w) {
			return nil, fmt.Errorf("%q is not supported here", w)
		}
		q = p.last // as in "port 80 or 443"
	}
	if q == (primitive{}) && !p.valueFollows() {
		return nil, fmt.Errorf("%q is no condition", p.peek())
	}
	if q.kind == "" {
		q.kind = "host"
	}
	p.last = q
	return p.value(q)
}

// direction reads src, dst, "src or dst" or "src and dst"; empty is either.
func (p *parser) direction() string {
	first := p.next()
	if len(p.words) < 2 || p.words[1] != "src" && p.words[1] != "dst" || p.words[1] == first {
		return first
	}
	switch {
	case p.take("or"):
		p.next()
		return ""
	case p.take("and"):
		p.next()
		return "both"
	}
	return first
}

// valueFollows tells whether the next word can be a value.
func (p *parser) valueFollows() bool {
	w := p.peek()
	return w != "" && !slices.Contains([]string{"and", "or", "not", "&&", "||", "!", "(", ")", "&", "|", "[", "]", "=", "==", "!="}, w)
}

// value reads what a primitive is compared with.
func (p *parser) value(q primitive) (node, error) {
	if !p.valueFollows() {
		return nil, fmt.Errorf("a value is missing behind %q", q.kind)
	}
	w := p.next()
	switch q.kind {
	case "host":
		return p.host(q, w)
	case "net":
		prefix, err := parseNet(w)
		if err != nil {
			return nil, err
		}
		return addressNode(q, prefix)
	case "port", "portrange":
		return portNode(q, w)
	}
	return protoNode(q, w)
}

func (p *parser) host(q primitive, w string) (node, error) {
	if a, err := netip.ParseAddr(w); err == nil {
		a = a.Unmap().WithZone("")
		return addressNode(q, netip.PrefixFrom(a, a.BitLen()))
	}
	var list []netip.Addr
	if p.resolve != nil {
		list = p.resolve(w)
	}
	var n node
	for _, a := range list {
		m, err := addressNode(q, netip.PrefixFrom(a, a.BitLen()))
		if err != nil {
			continue // of the other family
		}
		if n == nil {
			n = m
		} else {
			n = either{n, m}
		}
	}
	if n == nil {
		return nil, fmt.Errorf("%q is neither an address nor a container that has one", w)
	}
	return n, nil
}

func parseNet(w string) (netip.Prefix, error) {
	if prefix, err := netip.ParsePrefix(w); err == nil {
		return prefix.Masked(), nil
	}
	if a, err := netip.ParseAddr(w); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.Prefix{}, fmt.Errorf("%q is no network: write it as 10.0.0.0/8", w)
}

func parsePort(w string) (uint16, error) {
	n, err := strconv.ParseUint(w, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%q is no port", w)
	}
	return uint16(n), nil
}

func portNode(q primitive, w string) (node, error) {
	var protos []uint8
	switch q.proto {
	case "":
		protos = []uint8{protoTCP, protoUDP, protoSCTP}
	case "tcp", "udp", "sctp":
		protos = []uint8{protocolNumbers[q.proto]}
	default:
		return nil, fmt.Errorf("%s has no ports", q.proto)
	}
	first, last, ranged := strings.Cut(w, "-")
	if ranged != (q.kind == "portrange") {
		return nil, fmt.Errorf("%q does not fit %s", w, q.kind)
	}
	low, err := parsePort(first)
	if err != nil {
		return nil, err
	}
	high := low
	if ranged {
		if high, err = parsePort(last); err != nil {
			return nil, err
		}
	}
	if low > high {
		return nil, fmt.Errorf("%q is no range", w)
	}
	return ports{protos, q.dir, low, high}, nil
}

func protoNode(q primitive, w string) (node, error) {
	n, known := protocolNumbers[strings.TrimPrefix(w, `\`)]
	if !known {
		number, err := strconv.ParseUint(w, 10, 8)
		if err != nil {
			return nil, fmt.Errorf("%q is no protocol", w)
		}
		n = uint8(number)
	}
	switch q.proto {
	case "":
		return either{transport{4, n}, transport{6, n}}, nil
	case "ip":
		return transport{4, n}, nil
	case "ip6":
		return transport{6, n}, nil
	}
	return nil, fmt.Errorf("%s carries no other protocols", q.proto)
}

// length reads "greater N" and "less N".
func (p *parser) length() (node, error) {
	greater := p.next() == "greater"
	n, err := strconv.ParseUint(p.next(), 10, 32)
	if err != nil {
		return nil, errors.New("a length is missing behind greater or less")
	}
	return size{greater, uint32(n)}, nil
}

// tcpFlags are the names of the flags, as in pcap-filter(7).
var tcpFlags = map[string]uint32{
	"tcp-fin": 0x01, "tcp-syn": 0x02, "tcp-rst": 0x04, "tcp-push": 0x08, "tcp-ack": 0x10, "tcp-urg": 0x20, "tcp-ece": 0x40, "tcp-cwr": 0x80,
}

// flags reads "tcp[tcpflags] & FLAGS != 0" and such.
func (p *parser) flags() (node, error) {
	of := p.next()
	form := of + strings.Join(p.words[:min(3, len(p.words))], "")
	if form != "tcp[tcpflags]" && form != "tcp[13]" {
		return nil, fmt.Errorf("of bytes by their place only tcp[tcpflags] is supported here, not %q", form)
	}
	p.words = p.words[3:]
	f := tcpFlag{mask: 0xff}
	var err error
	if p.take("&") {
		if f.mask, err = p.flagBits(); err != nil {
			return nil, err
		}
	}
	switch {
	case p.take("=", "=="):
	case p.take("!="):
		f.not = true
	default:
		return nil, errors.New("behind tcp[tcpflags] there is neither = nor !=")
	}
	f.value, err = p.flagBits()
	return f, err
}

// flagBits reads a number, a flag, or flags with | between them in brackets.
func (p *parser) flagBits() (bits uint32, err error) {
	bracket := p.take("(")
	for {
		w := p.next()
		b, known := tcpFlags[w]
		if !known {
			n, err := strconv.ParseUint(w, 0, 8)
			if err != nil {
				return 0, fmt.Errorf("%q is no flag of TCP", w)
			}
			b = uint32(n)
		}
		bits |= b
		if !p.take("|") {
			break
		}
	}
	if bracket && !p.take(")") {
		return 0, errors.New("a closing bracket is missing")
	}
	return bits, nil
}
