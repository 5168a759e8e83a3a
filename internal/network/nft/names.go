package nft

import (
	"errors"
	"net/netip"
	"os"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// namesTable is the table in a container's network namespace.
const namesTable = "porthole_names"

// RedirectNames makes questions for names that a container sends to addr, port
// 53, arrive at the given ports of the same address:
//
//	table ip porthole_names {
//	  chain output {
//	    type nat hook output priority -100; policy accept;
//	    ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:40001
//	    ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:40002
//	  }
//	}
func RedirectNames(ns *os.File, addr netip.Addr, udp, tcp uint16) error {
	write := func(begin func(*nftables.Conn, *nftables.Table)) error {
		return transaction(ns, "write", namesTable, func(conn *nftables.Conn) error {
			t := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: namesTable}
			begin(conn, t)
			redirect(conn, t, addr, udp, tcp)
			return nil
		})
	}
	// A new container has no such table. To replace one costs ten milliseconds,
	// for which the kernel waits until nobody looks at the old one any more.
	err := write(func(conn *nftables.Conn, t *nftables.Table) { conn.CreateTable(t) })
	if errors.Is(err, unix.EEXIST) {
		err = write(func(conn *nftables.Conn, t *nftables.Table) {
			conn.DelTable(t)
			conn.AddTable(t)
		})
	}
	return err
}

// redirect puts the chain and its rules into a transaction.
func redirect(conn *nftables.Conn, t *nftables.Table, addr netip.Addr, udp, tcp uint16) {
	c := conn.AddChain(&nftables.Chain{
		Name: "output", Table: t, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest,
	})
	for _, r := range []struct {
		proto byte
		port  uint16
	}{{unix.IPPROTO_UDP, udp}, {unix.IPPROTO_TCP, tcp}} {
		conn.AddRule(&nftables.Rule{Table: t, Chain: c, Exprs: slices.Concat(
			addressIn(netip.PrefixFrom(addr, 32), false),
			exprs{
				&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{r.proto}},
				dport(1),
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0, 53}},
				&expr.Immediate{Register: 1, Data: addr.AsSlice()},
				&expr.Immediate{Register: 2, Data: word16(r.port)[:2]},
				&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2, Specified: true},
			},
		)})
	}
}
