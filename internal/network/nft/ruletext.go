package nft

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// kind is how a value in a register is written.
type kind int

const (
	kindBytes   kind = iota
	kindAddress      // of IPv4 or IPv6, or its first bytes
	kindPort         // and other numbers in network order
	kindNumber       // in the machine's order
	kindName         // of an interface
	kindProto        // of the transport layer
	kindFamily
	kindState // of a connection
)

// operand is what a register holds.
type operand struct {
	text string
	kind kind
	mask []byte // nil: the whole value
}

// ruleWriter puts the expressions of a rule into words, as nft(8) would. What it
// does not know it names by the kernel's name.
type ruleWriter struct {
	regs  map[uint32]operand
	words []string
	// proto is the transport protocol that was asked for, and at is where that
	// stands: "tcp dport 80" says it as well.
	proto string
	at    int
	// family is where the family stands: "ip saddr" says it as well. -1: nowhere.
	family int
	// least is the register that the word at leastAt has asked to be at least low; 0:
	// none.
	least   uint32
	leastAt int
	low     string
	set     func(name string) []nftables.SetElement // nil: elements are not known
}

// ruleText is a rule as nft(8) writes it, nearly.
func ruleText(r *nftables.Rule, set func(name string) []nftables.SetElement) string {
	w := &ruleWriter{regs: map[uint32]operand{}, proto: "th", at: -1, family: -1, set: set}
	for _, e := range r.Exprs {
		w.add(e)
	}
	words := slices.DeleteFunc(w.words, func(s string) bool { return s == "" })
	if c := comment(r.UserData); c != "" {
		words = append(words, "comment "+strconv.Quote(c))
	}
	return strings.Join(words, " ")
}

// comment is the comment in a rule's user data: type 0, length, text with a zero
// at its end. The kernel does not look at it, so it may hold anything.
func comment(b []byte) string {
	for len(b) >= 2 && len(b) >= 2+int(b[1]) {
		if b[0] == 0 {
			return strings.TrimRight(string(b[2:2+int(b[1])]), "\x00")
		}
		b = b[2+int(b[1]):]
	}
	return ""
}

func (w *ruleWriter) say(format string, args ...any) {
	w.words = append(w.words, fmt.Sprintf(format, args...))
}

func (w *ruleWriter) add(e expr.Any) {
	switch e := e.(type) {
	case *expr.Meta:
		w.meta(e)
	case *expr.Payload:
		w.regs[e.DestRegister] = w.payload(e)
	case *expr.Ct:
		w.regs[e.Register] = ctOperand(e)
	case *expr.Fib:
		w.regs[e.Register] = operand{text: "fib", kind: kindNumber}
	case *expr.Bitwise:
		o := w.regs[e.SourceRegister]
		o.mask = e.Mask
		w.regs[e.DestRegister] = o
	case *expr.Cmp:
		w.compare(e)
	case *expr.Range:
		o := w.regs[e.Register]
		w.say("%s %s%s-%s", w.use(o), negation(e.Op == expr.CmpOpNeq), value(o, e.FromData), value(o, e.ToData))
	case *expr.Lookup:
		o := w.regs[e.SourceRegister]
		w.say("%s %s%s", w.use(o), negation(e.Invert), w.elements(o, e.SetName))
	case *expr.Verdict:
		w.say("%s", verdictText(e))
	default:
		w.say("%s", statement(e))
	}
}

// statement is what an expression does that compares nothing.
func statement(e expr.Any) string {
	switch e := e.(type) {
	case *expr.Counter:
		return "counter"
	case *expr.Log:
		if len(e.Data) > 0 {
			return "log prefix " + strconv.Quote(strings.TrimRight(string(e.Data), "\x00"))
		}
		return "log"
	case *expr.Limit:
		return "limit"
	case *expr.Reject:
		return "reject"
	case *expr.Match:
		return "xt match " + e.Name
	case *expr.Target:
		return "xt target " + e.Name
	case *expr.Masq:
		return "masquerade"
	case *expr.NAT:
		return "nat"
	case *expr.Queue:
		return "queue"
	case *expr.Immediate:
		return ""
	}
	return strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", e), "*expr."))
}

func negation(not bool) string {
	if not {
		return "!= "
	}
	return ""
}

func verdictText(v *expr.Verdict) string {
	switch v.Kind {
	case expr.VerdictDrop:
		return "drop"
	case expr.VerdictAccept:
		return "accept"
	case expr.VerdictReturn:
		return "return"
	case expr.VerdictJump:
		return "jump " + v.Chain
	case expr.VerdictGoto:
		return "goto " + v.Chain
	case expr.VerdictStolen, expr.VerdictQueue, expr.VerdictRepeat, expr.VerdictStop, expr.VerdictBreak, expr.VerdictContinue:
	}
	return fmt.Sprintf("verdict %d", v.Kind)
}

func (w *ruleWriter) meta(e *expr.Meta) {
	if e.SourceRegister {
		w.say("meta set")
		return
	}
	o := operand{text: fmt.Sprintf("meta %d", e.Key), kind: kindNumber}
	switch e.Key { //nolint:exhaustive // the others are named by their number
	case expr.MetaKeyIIFNAME:
		o = operand{text: "iifname", kind: kindName}
	case expr.MetaKeyOIFNAME:
		o = operand{text: "oifname", kind: kindName}
	case expr.MetaKeyIIF:
		o.text = "iif"
	case expr.MetaKeyOIF:
		o.text = "oif"
	case expr.MetaKeyMARK:
		o.text = "meta mark"
	case expr.MetaKeySKUID:
		o.text = "meta skuid"
	case expr.MetaKeyL4PROTO:
		o = operand{text: "meta l4proto", kind: kindProto}
	case expr.MetaKeyNFPROTO:
		o = operand{text: "meta nfproto", kind: kindFamily}
	}
	w.regs[e.Register] = o
}

// payload names a part of a packet.
func (w *ruleWriter) payload(e *expr.Payload) operand {
	switch {
	case e.Base == expr.PayloadBaseNetworkHeader && e.Offset == 12 && e.Len <= 4:
		return operand{text: "ip saddr", kind: kindAddress}
	case e.Base == expr.PayloadBaseNetworkHeader && e.Offset == 16 && e.Len <= 4:
		return operand{text: "ip daddr", kind: kindAddress}
	case e.Base == expr.PayloadBaseNetworkHeader && e.Offset == 9 && e.Len == 1:
		return operand{text: "ip protocol", kind: kindProto}
	case e.Base == expr.PayloadBaseNetworkHeader && e.Offset == 8 && e.Len > 4:
		return operand{text: "ip6 saddr", kind: kindAddress}
	case e.Base == expr.PayloadBaseNetworkHeader && e.Offset == 24:
		return operand{text: "ip6 daddr", kind: kindAddress}
	case e.Base == expr.PayloadBaseTransportHeader && e.Offset == 0 && e.Len == 2:
		return operand{text: "sport", kind: kindPort}
	case e.Base == expr.PayloadBaseTransportHeader && e.Offset == 2 && e.Len == 2:
		return operand{text: "dport", kind: kindPort}
	case e.Base == expr.PayloadBaseTransportHeader && e.Offset == 13 && e.Len == 1:
		return operand{text: "flags", kind: kindBytes}
	}
	return operand{text: fmt.Sprintf("@%d,%d,%d", e.Base, e.Offset*8, e.Len*8)}
}

func ctOperand(e *expr.Ct) operand {
	switch e.Key { //nolint:exhaustive // the others are named by their number
	case expr.CtKeySTATE:
		return operand{text: "ct state", kind: kindState}
	case expr.CtKeySTATUS:
		return operand{text: "ct status", kind: kindNumber}
	case expr.CtKeyMARK:
		return operand{text: "ct mark", kind: kindNumber}
	}
	return operand{text: fmt.Sprintf("ct %d", e.Key), kind: kindNumber}
}

// use is an operand that is compared: one of the transport header says which
// protocol it is of.
func (w *ruleWriter) use(o operand) string {
	switch o.text {
	case "sport", "dport", "flags":
		if w.at >= 0 {
			w.words[w.at] = ""
		}
		return w.proto + " " + o.text
	}
	if o.kind == kindAddress && w.family >= 0 {
		w.words[w.family] = ""
	}
	return o.text
}

func (w *ruleWriter) compare(e *expr.Cmp) {
	o := w.regs[e.Register]
	op := map[expr.CmpOp]string{expr.CmpOpLt: "< ", expr.CmpOpLte: "<= ", expr.CmpOpGt: "> ", expr.CmpOpGte: ">= ", expr.CmpOpNeq: "!= "}[e.Op]
	if o.mask != nil && o.kind != kindAddress {
		// "ct state & (new|established) != 0" is "ct state new,established".
		if e.Op == expr.CmpOpNeq && isZero(e.Data) {
			w.say("%s %s", w.use(o), value(o, o.mask))
			return
		}
		if op == "" {
			op = "== "
		}
		w.say("%s & %s %s%s", w.use(o), value(o, o.mask), op, value(o, e.Data))
		return
	}
	v := value(o, e.Data)
	if w.least == e.Register && w.leastAt == len(w.words)-1 && e.Op == expr.CmpOpLte {
		// Two comparisons are how nft(8) writes a range.
		w.words, w.least = w.words[:len(w.words)-1], 0
		w.say("%s %s-%s", w.use(o), w.low, v)
		return
	}
	w.say("%s %s%s", w.use(o), op, v)
	w.least = 0
	switch {
	case e.Op == expr.CmpOpGte:
		w.least, w.leastAt, w.low = e.Register, len(w.words)-1, v
	case o.kind == kindProto && e.Op == expr.CmpOpEq:
		w.proto, w.at = v, len(w.words)-1
	case o.kind == kindFamily && e.Op == expr.CmpOpEq:
		w.family = len(w.words) - 1
	}
}

func isZero(b []byte) bool { return !slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) }

var protoNames = map[byte]string{
	unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_ICMP: "icmp", unix.IPPROTO_ICMPV6: "icmpv6", unix.IPPROTO_SCTP: "sctp",
}

// value writes what is in a register, or what it is compared with.
func value(o operand, b []byte) string {
	switch o.kind {
	case kindAddress:
		return addressText(o, b)
	case kindPort:
		if len(b) == 2 {
			return strconv.Itoa(int(binary.BigEndian.Uint16(b)))
		}
	case kindNumber:
		if len(b) == 4 {
			return strconv.FormatUint(uint64(binary.NativeEndian.Uint32(b)), 10)
		}
	case kindName:
		name, _, ended := strings.Cut(string(b), "\x00")
		if !ended && len(b) < unix.IFNAMSIZ {
			name += "*"
		}
		return strconv.Quote(name)
	case kindProto:
		if len(b) == 1 && protoNames[b[0]] != "" {
			return protoNames[b[0]]
		}
	case kindFamily:
		if len(b) == 1 {
			return familyName(nftables.TableFamily(b[0]))
		}
	case kindState:
		if len(b) == 4 {
			return stateText(binary.NativeEndian.Uint32(b))
		}
	case kindBytes:
	}
	return fmt.Sprintf("0x%x", b)
}

func addressText(o operand, b []byte) string {
	bits := len(b) * 8
	whole := 4
	if strings.HasPrefix(o.text, "ip6") {
		whole = 16
	}
	if len(b) > whole {
		return fmt.Sprintf("0x%x", b)
	}
	if o.mask != nil {
		if ones, _ := net.IPMask(o.mask).Size(); ones > 0 || isZero(o.mask) {
			bits = ones
		}
	}
	a, _ := netip.AddrFromSlice(append(slices.Clone(b), make([]byte, whole-len(b))...))
	if bits == whole*8 {
		return a.String()
	}
	return netip.PrefixFrom(a, bits).String()
}

func stateText(bits uint32) string {
	var list []string
	for _, s := range []struct {
		bit  uint32
		name string
	}{
		{expr.CtStateBitINVALID, "invalid"},
		{expr.CtStateBitESTABLISHED, "established"},
		{expr.CtStateBitRELATED, "related"},
		{expr.CtStateBitNEW, "new"},
		{expr.CtStateBitUNTRACKED, "untracked"},
	} {
		if bits&s.bit != 0 {
			list = append(list, s.name)
		}
	}
	return strings.Join(list, ",")
}

// mostElements is how many elements of a set a rule is shown with.
const mostElements = 8

// elements is a set: one without a name by what is in it.
func (w *ruleWriter) elements(o operand, name string) string {
	if !strings.HasPrefix(name, "__") || w.set == nil {
		return "@" + name
	}
	all := w.set(name)
	if len(all) == 0 || len(all) > mostElements {
		return "@" + name
	}
	var list []string
	for _, e := range all {
		if e.IntervalEnd {
			continue
		}
		list = append(list, value(o, e.Key))
	}
	return "{ " + strings.Join(list, ", ") + " }"
}
