// Package nft writes Porthole's own nftables table.
//
// There is one table, in the family inet. [Apply] replaces it as a whole in one
// transaction: at no time is there half of it, and tables of others are never
// touched. What comes and goes with containers, the published ports, are
// elements of maps, which a [Handle] changes in one small transaction each.
//
//	table inet porthole {
//	  set bridges  { type ifname; }               all bridges of ours
//	  set internal { type ifname; }               those without a way out
//	  set open4, open6 { type ifname; }           those that are not guarded
//	  set same { type ifname . ifname; }          a bridge and itself
//	  set routed4 { type ipv4_addr . inet_proto . inet_service; }
//	  map any4  { type inet_proto . inet_service : ipv4_addr . inet_service; }
//	  map addr4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
//	  ... routed6, any6 and addr6 likewise
//
//	  chain publish {
//	    dnat ip to ip daddr . meta l4proto . th dport map @addr4
//	    dnat ip to meta l4proto . th dport map @any4
//	    ... and for IPv6
//	  }
//	  chain prerouting {
//	    type nat hook prerouting priority dstnat; policy accept;
//	    iifname != @bridges fib daddr type local jump publish
//	  }
//	  chain output {
//	    type nat hook output priority -100; policy accept;
//	    ip daddr 127.0.0.0/8 return
//	    ip6 daddr ::1 return
//	    fib daddr type local jump publish
//	  }
//	  chain forward {
//	    type filter hook forward priority filter; policy accept;
//	    ct state established,related accept
//	    iifname . oifname @same accept
//	    iifname @internal drop
//	    oifname @internal drop
//	    meta nfproto ipv4 oifname @open4 accept    and for IPv6
//	    iifname @bridges oifname @bridges drop
//	    oifname @bridges ct status dnat accept
//	    ip daddr . meta l4proto . th dport @routed4 accept    and for IPv6
//	    oifname @bridges drop
//	  }
//	  chain postrouting {
//	    type nat hook postrouting priority srcnat; policy accept;
//	    ip saddr 172.30.0.0/16 oifname != "porthole0" masquerade
//	  }
//	}
//
// What containers send to published ports is not translated, and neither is
// what the host sends to a loopback address: it arrives at the socket that holds
// the port, see package keeper.
package nft

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/containerd/errdefs"
	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// DefaultTable is the name of the table.
const DefaultTable = "porthole"

// A Ruleset is the content of a table.
type Ruleset struct {
	Table    string
	Networks []Network
	Ports    []Port
}

// Network is a bridge with what is allowed on it.
type Network struct {
	Bridge string
	// Masquerade are the subnets whose packets that leave by another interface
	// get the address of that interface.
	Masquerade []netip.Prefix
	// Internal cuts the bridge off from everything but the host.
	Internal bool
	// Open4 and Open6 let others reach ports that were not published.
	Open4, Open6 bool
}

// Port is a port of the host that leads to a container.
type Port struct {
	Proto uint8 // unix.IPPROTO_TCP and so on
	// Host is an address of the host, or the unspecified one of its family for
	// all of them. Target is of the same family.
	Host, Target netip.AddrPort
	// Routed lets packets for Target through and translates nothing; Host is
	// not looked at.
	Routed bool
}

// Apply makes the table in the network namespace ns what r says. It returns a
// NotImplemented error when the kernel has no nftables.
func Apply(ns *os.File, r Ruleset) error {
	return transaction(ns, "write", r.Table, func(conn *nftables.Conn) error { return write(conn, r) })
}

// Remove deletes the table, if it is there.
func Remove(ns *os.File, table string) error {
	return transaction(ns, "remove", table, func(conn *nftables.Conn) error {
		t := tableOf(table)
		conn.AddTable(t) // so that deleting it cannot fail
		conn.DelTable(t)
		return nil
	})
}

// Handle is a socket for small changes that is kept open. To close one after
// something was deleted waits until no processor looks at that any more, some ten
// milliseconds. It is for one goroutine at a time.
type Handle struct{ conn *nftables.Conn }

// Dial opens a Handle in the network namespace ns.
func Dial(ns *os.File) (*Handle, error) {
	conn, err := nftables.New(nftables.WithNetNSFd(int(ns.Fd())), nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", explain(err))
	}
	return &Handle{conn}, nil
}

// Close closes the socket.
func (h *Handle) Close() error { return h.conn.CloseLasting() }

// Publish adds ports to a table that is there. After an error the Handle is of
// no use any more.
func (h *Handle) Publish(table string, ports []Port) error {
	return h.change("publish ports in", table, ports, h.conn.SetAddElements)
}

// Withdraw removes ports that were published. After an error the Handle is of no
// use any more.
func (h *Handle) Withdraw(table string, ports []Port) error {
	return h.change("withdraw ports from", table, ports, h.conn.SetDeleteElements)
}

func (h *Handle) change(verb, table string, ports []Port, fn func(*nftables.Set, []nftables.SetElement) error) error {
	err := eachSet(tableOf(table), ports, fn)
	if err == nil {
		err = h.conn.Flush()
	}
	if err != nil {
		return fmt.Errorf("%s nftables table %q: %w", verb, table, explain(err))
	}
	return nil
}

// transaction collects what fill says and sends it at once.
func transaction(ns *os.File, verb, table string, fill func(*nftables.Conn) error) error {
	conn, err := nftables.New(nftables.WithNetNSFd(int(ns.Fd())))
	if err != nil {
		return fmt.Errorf("open nftables: %w", explain(err))
	}
	err = fill(conn)
	if err == nil {
		err = conn.Flush()
	}
	if err != nil {
		return fmt.Errorf("%s nftables table %q: %w", verb, table, explain(err))
	}
	return nil
}

// explain turns the kernel's ways of saying "no nftables here" into words.
func explain(err error) error {
	for _, e := range []unix.Errno{unix.EPROTONOSUPPORT, unix.EOPNOTSUPP, unix.EAFNOSUPPORT} {
		if errors.Is(err, e) {
			return errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf(
				"the kernel has no nftables (modules nf_tables, nft_chain_nat, nft_masq, nft_fib_inet): %v", err))
		}
	}
	return err
}

func tableOf(name string) *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: name}
}

// write puts the whole table into a transaction.
func write(conn *nftables.Conn, r Ruleset) error {
	t := tableOf(r.Table)
	// Adding what may be there, deleting and adding again is the idiom for
	// "replace": the first line makes sure that the second cannot fail.
	conn.AddTable(t)
	conn.DelTable(t)
	conn.AddTable(t)
	for _, s := range sets(t) {
		if err := conn.AddSet(s, elements(s, r)); err != nil {
			return err
		}
	}
	all := chains(t)
	for _, c := range all {
		conn.AddChain(c)
	}
	for _, c := range all {
		for _, exprs := range rules(c.Name, r) {
			conn.AddRule(&nftables.Rule{Table: t, Chain: c, Exprs: exprs})
		}
	}
	return nil
}

// chains are those of the table, each after those that it jumps to.
func chains(t *nftables.Table) []*nftables.Chain {
	base := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority) *nftables.Chain {
		return &nftables.Chain{Name: name, Table: t, Type: kind, Hooknum: hook, Priority: priority}
	}
	return []*nftables.Chain{
		{Name: "publish", Table: t},
		base("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest),
		base("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest),
		base("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter),
		base("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource),
	}
}
