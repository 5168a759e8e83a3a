package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Flow is a connection of TCP, by the addresses that its first packet has.
type Flow struct{ Src, Dst netip.AddrPort }

// Drop tells which rule, or which chain by its policy, has dropped a packet.
type Drop struct {
	Family, Table, Chain string
	// Handle is that of the rule, for `nft delete rule`; 0: it was the policy.
	Handle uint64
	// Rule is the rule as nft(8) writes it, nearly; empty if it is gone.
	Rule string
	// Answer tells that it was a packet of the way back.
	Answer bool
}

// Where is the chain in words.
func (d Drop) Where() string { return fmt.Sprintf("%s %s %s", d.Family, d.Table, d.Chain) }

// Tracer has the kernel tell what each rule does with the packets of one flow.
// While there is one, there is a table more in the namespace. One that a process
// has left that was killed is removed by the next tracer.
type Tracer struct {
	ns     *os.File
	table  string // empty: it was not made
	events *netlink.Conn
	flow   Flow
}

// tracePrefix is how the tables' names begin; the process and the port follow.
const tracePrefix = "porthole_trace_"

// Trace begins to trace. The caller has to close the result. It returns a
// NotImplemented error where the kernel has no nftables.
func Trace(ns *os.File, f Flow) (*Tracer, error) {
	t := &Tracer{ns: ns, flow: f}
	var err error
	if t.events, err = netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: int(ns.Fd())}); err != nil {
		return nil, fmt.Errorf("trace nftables: %w", explain(err))
	}
	err = t.events.JoinGroup(unix.NFNLGRP_NFTRACE)
	if err == nil {
		err = transaction(ns, "write", tracePrefix, t.install)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("trace nftables: %w", explain(err)), t.Close())
	}
	return t, nil
}

// Close removes the table.
func (t *Tracer) Close() error {
	var err error
	if t.table != "" {
		err = Remove(t.ns, t.table)
	}
	return errors.Join(err, t.events.Close())
}

// beforeAll is in front of connection tracking and of all that people use:
// behind defragmentation (-400).
const beforeAll = -350

// install makes a table that marks the flow's packets, both ways, at the two
// places where packets enter.
func (t *Tracer) install(conn *nftables.Conn) error {
	if err := removeStale(conn); err != nil {
		return err
	}
	t.table = fmt.Sprintf("%s%d_%d", tracePrefix, os.Getpid(), t.flow.Src.Port())
	table := conn.AddTable(tableOf(t.table))
	for name, hook := range map[string]*nftables.ChainHook{"prerouting": nftables.ChainHookPrerouting, "output": nftables.ChainHookOutput} {
		priority := nftables.ChainPriority(beforeAll)
		chain := conn.AddChain(&nftables.Chain{Name: name, Table: table, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: &priority})
		for _, answer := range []bool{false, true} {
			conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: t.marks(answer)})
		}
	}
	return nil
}

// removeStale removes the tables of processes that are gone.
func removeStale(conn *nftables.Conn) error {
	all, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return err
	}
	for _, table := range all {
		rest, ours := strings.CutPrefix(table.Name, tracePrefix)
		pid, _, _ := strings.Cut(rest, "_")
		if n, err := strconv.Atoi(pid); ours && err == nil && errors.Is(unix.Kill(n, 0), unix.ESRCH) {
			conn.DelTable(table)
		}
	}
	return nil
}

// marks are a rule for the packets of one direction. Of the way back only the
// connecting end is known: the other may have been translated.
func (t *Tracer) marks(answer bool) exprs {
	f := byte(unix.NFPROTO_IPV4)
	if t.flow.Src.Addr().Is6() {
		f = unix.NFPROTO_IPV6
	}
	host := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
	port := func(offset uint32, p uint16) exprs {
		return exprs{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, p)},
		}
	}
	tcp := exprs{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}}}
	set := exprs{
		&expr.Immediate{Register: 1, Data: []byte{1}},
		&expr.Meta{Key: expr.MetaKeyNFTRACE, SourceRegister: true, Register: 1},
	}
	const source, destination = 0, 2
	if answer {
		return slices.Concat(family(f), addressIn(host(t.flow.Src.Addr()), false), tcp, port(destination, t.flow.Src.Port()), set)
	}
	return slices.Concat(family(f), addressIn(host(t.flow.Src.Addr()), true), tcp, port(source, t.flow.Src.Port()), port(destination, t.flow.Dst.Port()), set)
}

// Dropped waits until a packet of the flow is dropped, and tells by what; nil when
// ctx ends before.
func (t *Tracer) Dropped(ctx context.Context) (*Drop, error) {
	stop := context.AfterFunc(ctx, func() { _ = t.events.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	ours := map[uint32]bool{} // by packet: whether it is of the way back
	for {
		list, err := t.events.Receive()
		if errors.Is(err, unix.ENOBUFS) {
			continue
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil, nil
			}
			return nil, fmt.Errorf("trace nftables: %w", err)
		}
		for _, m := range list {
			e, ok := parseTrace(m)
			if !ok {
				continue
			}
			// Packets that somebody else traces are told as well.
			if port := t.flow.Src.Port(); e.src == port || e.dst == port {
				ours[e.id] = e.dst == port
			}
			if answer, known := ours[e.id]; known && e.dropped() {
				return t.drop(e, answer), nil
			}
		}
	}
}

// traceEvent is what a rule, or a chain's policy, has done with a packet.
type traceEvent struct {
	family       uint8
	table, chain string
	handle       uint64
	kind         uint32
	verdict      uint32
	policy       uint32
	id           uint32 // of the packet
	src, dst     uint16 // ports; 0: the event has no headers
}

// Types of events: NFT_TRACETYPE_ of the kernel's
// include/uapi/linux/netfilter/nf_tables.h. A verdict of 0 is NF_DROP.
const (
	tracePolicy = 1
	traceRule   = 3
	drop        = 0
)

func (e traceEvent) dropped() bool {
	return e.kind == traceRule && e.verdict == drop || e.kind == tracePolicy && e.policy == drop
}

// parseTrace reads an event. The first one of a packet in each base chain has its
// headers.
func parseTrace(m netlink.Message) (e traceEvent, ok bool) {
	const header = 4 // struct nfgenmsg
	if m.Header.Type != netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_TRACE) || len(m.Data) < header {
		return e, false
	}
	ad, err := netlink.NewAttributeDecoder(m.Data[header:])
	if err != nil {
		return e, false
	}
	ad.ByteOrder = binary.BigEndian
	e.family, e.verdict, e.policy = m.Data[0], ^uint32(0), ^uint32(0)
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_TRACE_TABLE:
			e.table = ad.String()
		case unix.NFTA_TRACE_CHAIN:
			e.chain = ad.String()
		case unix.NFTA_TRACE_RULE_HANDLE:
			e.handle = ad.Uint64()
		case unix.NFTA_TRACE_TYPE:
			e.kind = ad.Uint32()
		case unix.NFTA_TRACE_POLICY:
			e.policy = ad.Uint32()
		case unix.NFTA_TRACE_VERDICT:
			ad.Nested(func(in *netlink.AttributeDecoder) error {
				for in.Next() {
					if in.Type() == unix.NFTA_VERDICT_CODE {
						e.verdict = in.Uint32()
					}
				}
				return nil
			})
		case unix.NFTA_TRACE_TRANSPORT_HEADER:
			if b := ad.Bytes(); len(b) >= 4 {
				e.src, e.dst = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
			}
		case unix.NFTA_TRACE_ID:
			e.id = ad.Uint32()
		}
	}
	return e, ad.Err() == nil && e.table != ""
}

// drop puts an event into words, with the rule as it is now.
func (t *Tracer) drop(e traceEvent, answer bool) *Drop {
	f := nftables.TableFamily(e.family)
	d := &Drop{Family: familyName(f), Table: e.table, Chain: e.chain, Answer: answer}
	if e.kind == tracePolicy {
		return d
	}
	d.Handle = e.handle
	conn, err := nftables.New(nftables.WithNetNSFd(int(t.ns.Fd())))
	if err != nil {
		return d
	}
	table := &nftables.Table{Family: f, Name: e.table}
	rules, err := conn.GetRules(table, &nftables.Chain{Name: e.chain, Table: table})
	if err != nil {
		return d
	}
	for _, r := range rules {
		if r.Handle == e.handle {
			d.Rule = ruleText(r, setOf(conn, table))
		}
	}
	return d
}

// setOf finds the elements of a set.
func setOf(conn *nftables.Conn, table *nftables.Table) func(name string) []nftables.SetElement {
	return func(name string) []nftables.SetElement {
		s, err := conn.GetSetByName(table, name)
		if err != nil {
			return nil
		}
		elements, err := conn.GetSetElements(s)
		if err != nil {
			return nil
		}
		return elements
	}
}
