package nft

import (
	"net/netip"
	"slices"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Registers of 32 bits, see NFT_REG32_00 in the kernel's
// include/uapi/linux/netfilter/nf_tables.h. An address or a name fills four.
const (
	reg0 = 8
	reg1 = 9
	reg2 = 10
	reg4 = 12
	reg5 = 13
	reg8 = 16
)

type exprs = []expr.Any

// rules are those of a chain, in their order.
func rules(chain string, r Ruleset) []exprs {
	switch chain {
	case "publish":
		return []exprs{dnatByAddress(4), dnatByAddress(6), dnatByPort(4), dnatByPort(6)}
	case "prerouting":
		return []exprs{slices.Concat(nameIn(expr.MetaKeyIIFNAME, setBridges, true), toLocal(), verdict(expr.VerdictJump, "publish"))}
	case "output":
		return []exprs{
			slices.Concat(family(unix.NFPROTO_IPV4), addressIn(netip.MustParsePrefix("127.0.0.0/8"), false), verdict(expr.VerdictReturn, "")),
			slices.Concat(family(unix.NFPROTO_IPV6), addressIn(netip.MustParsePrefix("::1/128"), false), verdict(expr.VerdictReturn, "")),
			slices.Concat(toLocal(), verdict(expr.VerdictJump, "publish")),
		}
	case "forward":
		return forwardRules()
	case "postrouting":
		var all []exprs
		for _, n := range r.Networks {
			for _, subnet := range n.Masquerade {
				all = append(all, masquerade(subnet, n.Bridge))
			}
		}
		return all
	}
	return nil
}

func forwardRules() []exprs {
	accept, drop := verdict(expr.VerdictAccept, ""), verdict(expr.VerdictDrop, "")
	from := func(set string) exprs { return nameIn(expr.MetaKeyIIFNAME, set, false) }
	to := func(set string) exprs { return nameIn(expr.MetaKeyOIFNAME, set, false) }
	const dnatDone = 1 << 5 // IPS_DST_NAT
	return []exprs{
		slices.Concat(ctBits(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), accept),
		slices.Concat(exprs{
			&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg0},
			&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg4},
			&expr.Lookup{SourceRegister: reg0, SetName: setSame},
		}, accept),
		slices.Concat(from(setInternal), drop),
		slices.Concat(to(setInternal), drop),
		slices.Concat(family(unix.NFPROTO_IPV4), to(setOpen4), accept),
		slices.Concat(family(unix.NFPROTO_IPV6), to(setOpen6), accept),
		slices.Concat(from(setBridges), to(setBridges), drop),
		slices.Concat(to(setBridges), ctBits(expr.CtKeySTATUS, dnatDone), accept),
		slices.Concat(destination(4), exprs{&expr.Lookup{SourceRegister: reg0, SetName: setRouted4}}, accept),
		slices.Concat(destination(6), exprs{&expr.Lookup{SourceRegister: reg0, SetName: setRouted6}}, accept),
		slices.Concat(to(setBridges), drop),
	}
}

// dnatByAddress is "dnat ip to ip daddr . meta l4proto . th dport map @addr4".
func dnatByAddress(version int) exprs {
	set, target, port, fam := mapAddr4, uint32(reg4), uint32(reg5), uint32(unix.NFPROTO_IPV4)
	if version == 6 {
		set, target, port, fam = mapAddr6, reg8, reg8+4, unix.NFPROTO_IPV6
	}
	return append(destination(version),
		&expr.Lookup{SourceRegister: reg0, DestRegister: target, IsDestRegSet: true, SetName: set},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: fam, RegAddrMin: target, RegProtoMin: port, Specified: true})
}

// dnatByPort is "dnat ip to meta l4proto . th dport map @any4".
func dnatByPort(version int) exprs {
	set, port, fam := mapAny4, uint32(reg5), uint32(unix.NFPROTO_IPV4)
	if version == 6 {
		set, port, fam = mapAny6, reg8, unix.NFPROTO_IPV6
	}
	return append(family(byte(fam)),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg0},
		dport(reg1),
		&expr.Lookup{SourceRegister: reg0, DestRegister: reg4, IsDestRegSet: true, SetName: set},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: fam, RegAddrMin: reg4, RegProtoMin: port, Specified: true})
}

// destination loads "ip daddr . meta l4proto . th dport" from reg0 on.
func destination(version int) exprs {
	if version == 4 {
		return append(family(unix.NFPROTO_IPV4),
			&expr.Payload{DestRegister: reg0, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg1}, dport(reg2))
	}
	return append(family(unix.NFPROTO_IPV6),
		&expr.Payload{DestRegister: reg0, Base: expr.PayloadBaseNetworkHeader, Offset: 24, Len: 16},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg4}, dport(reg5))
}

// dport loads the destination port, which TCP, UDP and SCTP have in one place.
func dport(reg uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}
}

func family(proto byte) exprs {
	return exprs{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
	}
}

func nameIn(key expr.MetaKey, set string, not bool) exprs {
	return exprs{&expr.Meta{Key: key, Register: 1}, &expr.Lookup{SourceRegister: 1, SetName: set, Invert: not}}
}

// toLocal is "fib daddr type local".
func toLocal() exprs {
	return exprs{
		&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

// ctBits tells that one of the bits is set.
func ctBits(key expr.CtKey, bits uint32) exprs {
	return exprs{
		&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

func verdict(kind expr.VerdictKind, chain string) exprs {
	return exprs{&expr.Verdict{Kind: kind, Chain: chain}}
}

// addressIn compares the packet's source or destination with a subnet. The
// family was looked at before.
func addressIn(p netip.Prefix, source bool) exprs {
	offset, size := uint32(16), uint32(4)
	if p.Addr().Is6() {
		offset, size = 24, 16
	}
	if source {
		offset -= size
	}
	mask := make([]byte, size)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return exprs{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: mask, Xor: make([]byte, size)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}

// masquerade is "ip saddr SUBNET oifname != BRIDGE masquerade".
func masquerade(subnet netip.Prefix, bridge string) exprs {
	proto := byte(unix.NFPROTO_IPV4)
	if subnet.Addr().Is6() {
		proto = unix.NFPROTO_IPV6
	}
	return slices.Concat(family(proto), addressIn(subnet, true), exprs{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: ifName(bridge)},
		&expr.Masq{},
	})
}
