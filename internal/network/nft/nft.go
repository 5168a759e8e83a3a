// Package nft writes Porthole's own nftables table.
//
// There is one table, in the family inet, and [Apply] replaces it as a whole in
// one transaction: at no time is there half of it, and tables of others are
// never touched.
//
//	table inet porthole {
//	  chain postrouting {
//	    type nat hook postrouting priority srcnat; policy accept;
//	    ip saddr 172.30.0.0/16 oifname != "porthole0" masquerade
//	  }
//	}
package nft

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/containerd/errdefs"
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// DefaultTable is the name of the table.
const DefaultTable = "porthole"

// A Ruleset is the content of a table.
type Ruleset struct {
	Table      string
	Masquerade []Masquerade
}

// Masquerade gives packets from Subnet that leave by another interface than
// Bridge the address of that interface.
type Masquerade struct {
	Subnet netip.Prefix // IPv4
	Bridge string
}

// Apply makes the table in the network namespace ns what r says. It returns a
// NotImplemented error when the kernel has no nftables.
func Apply(ns *os.File, r Ruleset) error {
	conn, err := nftables.New(nftables.WithNetNSFd(int(ns.Fd())))
	if err != nil {
		return fmt.Errorf("open nftables: %w", explain(err))
	}
	if err := write(conn, r); err != nil {
		return fmt.Errorf("write nftables table %q: %w", r.Table, explain(err))
	}
	return nil
}

// Remove deletes the table, if it is there.
func Remove(ns *os.File, table string) error {
	conn, err := nftables.New(nftables.WithNetNSFd(int(ns.Fd())))
	if err != nil {
		return fmt.Errorf("open nftables: %w", explain(err))
	}
	t := &nftables.Table{Family: nftables.TableFamilyINet, Name: table}
	conn.AddTable(t) // so that deleting it cannot fail
	conn.DelTable(t)
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("remove nftables table %q: %w", table, explain(err))
	}
	return nil
}

// explain turns the kernel's ways of saying "no nftables here" into words.
func explain(err error) error {
	for _, e := range []unix.Errno{unix.EPROTONOSUPPORT, unix.EOPNOTSUPP, unix.EAFNOSUPPORT} {
		if errors.Is(err, e) {
			return errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf(
				"the kernel has no nftables (modules nf_tables, nft_chain_nat, nft_masq): %v", err))
		}
	}
	return err
}

// write sends the transaction.
func write(conn *nftables.Conn, r Ruleset) error {
	t, post := chains(r)
	// Adding what may be there, deleting and adding again is the idiom for
	// "replace": the first line makes sure that the second cannot fail.
	conn.AddTable(t)
	conn.DelTable(t)
	conn.AddTable(t)
	conn.AddChain(post)
	for _, m := range r.Masquerade {
		conn.AddRule(&nftables.Rule{Table: t, Chain: post, Exprs: m.exprs()})
	}
	return conn.Flush()
}

// chains are the table and its one chain.
func chains(r Ruleset) (*nftables.Table, *nftables.Chain) {
	t := &nftables.Table{Family: nftables.TableFamilyINet, Name: r.Table}
	return t, &nftables.Chain{
		Name: "postrouting", Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	}
}

// exprs is "ip saddr SUBNET oifname != BRIDGE masquerade" as the kernel reads it.
func (m Masquerade) exprs() []expr.Any {
	network := m.Subnet.Masked().Addr().As4()
	mask := binaryutil.BigEndian.PutUint32(^uint32(0) << (32 - m.Subnet.Bits()))
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, m.Bridge)
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.NFPROTO_IPV4}},
		// The source address is 12 bytes into the IPv4 header.
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: network[:]},
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: name},
		&expr.Masq{},
	}
}
