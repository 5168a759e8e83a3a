package nft

import (
	"fmt"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Hook is a place where chains look at packets.
type Hook uint32

// The hooks that [Dropping] knows.
const (
	Input   Hook = 1 // NF_INET_LOCAL_IN
	Forward Hook = 2 // NF_INET_FORWARD
)

// Dropping lists the chains of others at a hook that drop packets by their
// policy or by a rule of their own, as "ip filter FORWARD (policy drop)" or
// "inet theirs input (tcp dport 80 drop)". It does not follow them into other
// chains.
func Dropping(ns *os.File, hook Hook, ours string) (list []string, err error) {
	conn, err := nftables.New(nftables.WithNetNSFd(int(ns.Fd())))
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", explain(err))
	}
	chains, err := conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list nftables chains: %w", explain(err))
	}
	for _, c := range chains {
		if c.Hooknum == nil || uint32(*c.Hooknum) != uint32(hook) || c.Table.Name == ours || !isIP(c.Table.Family) {
			continue
		}
		name := fmt.Sprintf("%s %s %s", familyName(c.Table.Family), c.Table.Name, c.Name)
		if c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
			list = append(list, name+" (policy drop)")
			continue
		}
		rules, err := conn.GetRules(c.Table, c)
		if err != nil {
			return nil, fmt.Errorf("read nftables chain %s: %w", name, explain(err))
		}
		for _, r := range rules {
			if drops(r) {
				list = append(list, fmt.Sprintf("%s (%s)", name, ruleText(r, setOf(conn, c.Table))))
			}
		}
	}
	return list, nil
}

func drops(r *nftables.Rule) bool {
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Verdict:
			if e.Kind == expr.VerdictDrop {
				return true
			}
		case *expr.Reject:
			return true
		}
	}
	return false
}

func isIP(f nftables.TableFamily) bool {
	return f == nftables.TableFamilyIPv4 || f == nftables.TableFamilyIPv6 || f == nftables.TableFamilyINet
}

func familyName(f nftables.TableFamily) string {
	switch f {
	case nftables.TableFamilyIPv4:
		return "ip"
	case nftables.TableFamilyIPv6:
		return "ip6"
	default:
		return "inet"
	}
}
