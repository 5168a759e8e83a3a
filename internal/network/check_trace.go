package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/network/nft"
)

// traceTimeout is how long a traced connection is waited for. The kernel tells of
// each rule as it decides; the first packet comes at once, the second after one
// second.
const traceTimeout = 1500 * time.Millisecond

// blame finds the rule that has dropped or refused a connection, by trying it
// again with a trace, and writes it to the hop "firewall". A refusal is looked
// into only where somebody listens: else it was nobody's rule.
func (w *walk) blame(ctx context.Context, at netip.AddrPort, refused bool) {
	listens := slices.ContainsFunc(w.hops, func(h Hop) bool { return h.Name == "listener" && h.State == HopOK })
	hop := slices.IndexFunc(w.hops, func(h Hop) bool { return h.Name == "firewall" })
	if hop < 0 || w.hops[hop].State == HopFailed || refused && !listens {
		return
	}
	d, err := w.traced(ctx, at)
	switch {
	case err != nil:
		w.m.log.Debug("a connection cannot be traced", "to", at.String(), "err", err)
	case d != nil:
		w.hops[hop] = ruleHop(d)
	case w.hops[hop].State == HopWarning && w.suspects:
		w.hops[hop] = Hop{
			Name: "firewall", State: HopOK, Detail: "a trace shows that no rule of nftables on this host drops the packets",
		}
	}
}

// ruleHop tells of a rule, and how to see and to remove it.
func ruleHop(d *nft.Drop) Hop {
	h := Hop{Name: "firewall", State: HopFailed}
	what := "the packet"
	if d.Answer {
		what = "the answer"
	}
	if d.Handle == 0 {
		h.Detail = fmt.Sprintf("chain %s drops %s by its policy: no rule of it accepts it", d.Where(), what)
		h.Hint = "see its rules with: nft list chain " + d.Where()
		return h
	}
	verb := "drops"
	if strings.Contains(d.Rule, "reject") {
		verb = "rejects"
	}
	h.Detail = fmt.Sprintf("chain %s %s %s by its rule with handle %d: %s", d.Where(), verb, what, d.Handle, d.Rule)
	h.Hint = fmt.Sprintf("if it is not wanted: nft delete rule %s handle %d; and in the configuration of who has made it", d.Where(), d.Handle)
	return h
}

// silence tells where a packet may have been dropped that nobody answered.
func (w *walk) silence() string {
	if slices.ContainsFunc(w.hops, func(h Hop) bool { return h.Name == "firewall" && h.State == HopFailed }) {
		return "a packet is dropped on the way, see firewall"
	}
	if w.end == nil && !w.isHostAddress() {
		return "a packet is dropped on the way, outside of this host or by a rule of iptables-legacy or eBPF"
	}
	return "a packet is dropped on the way, by a rule of iptables-legacy, eBPF or in the container's own network"
}

// traced connects once more while the kernel tells what it does with the packets.
// nil: they were not dropped by a rule of the host's.
func (w *walk) traced(ctx context.Context, at netip.AddrPort) (d *nft.Drop, err error) {
	ctx, cancel := context.WithTimeout(ctx, traceTimeout)
	defer cancel()
	var tracer *nft.Tracer
	failed := inNetNS(w.ns, func() error {
		dialer := net.Dialer{ControlContext: func(_ context.Context, _, _ string, c syscall.RawConn) error {
			src, err := bindTowards(c, at)
			if err == nil {
				tracer, err = nft.Trace(w.m.netns, nft.Flow{Src: src, Dst: at})
			}
			return err
		}}
		dialer.SetMultipathTCP(false)
		conn, err := dialer.DialContext(ctx, "tcp", at.String())
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	if tracer == nil {
		return nil, failed
	}
	defer func() {
		if closing := tracer.Close(); closing != nil {
			w.m.log.Warn("a trace was not taken back", "err", closing)
		}
	}()
	// What the kernel has told is there by now.
	reading, stop := context.WithTimeout(context.WithoutCancel(ctx), traceSettle)
	defer stop()
	return tracer.Dropped(reading)
}

// traceSettle is how long events are read that the kernel has sent before.
const traceSettle = 300 * time.Millisecond

// bindTowards gives a socket the address and port by which it will connect, so
// that they are known before.
func bindTowards(c syscall.RawConn, to netip.AddrPort) (src netip.AddrPort, err error) {
	var failed error
	err = c.Control(func(fd uintptr) {
		// Connecting a socket of UDP sends nothing and asks the kernel for the way.
		a, e := sourceFor(to)
		if e == nil {
			e = unix.Bind(int(fd), sockaddr(a))
		}
		if e == nil {
			src, e = nameOfSocket(int(fd))
		}
		failed = e
	})
	if err == nil {
		err = failed
	}
	return src, err
}

// sourceFor is the address that this thread's network namespace would send from.
func sourceFor(to netip.AddrPort) (netip.Addr, error) {
	family := unix.AF_INET
	if to.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return netip.Addr{}, err
	}
	defer unix.Close(fd)
	target := sockaddr(to.Addr())
	switch t := target.(type) {
	case *unix.SockaddrInet4:
		t.Port = int(to.Port())
	case *unix.SockaddrInet6:
		t.Port = int(to.Port())
	}
	if err := unix.Connect(fd, target); err != nil {
		return netip.Addr{}, err
	}
	a, err := nameOfSocket(fd)
	return a.Addr(), err
}

func sockaddr(a netip.Addr) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4()}
	}
	return &unix.SockaddrInet6{Addr: a.As16()}
}

func nameOfSocket(fd int) (netip.AddrPort, error) {
	name, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, err
	}
	switch n := name.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(n.Addr), uint16(n.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(n.Addr), uint16(n.Port)), nil
	}
	return netip.AddrPort{}, fmt.Errorf("unexpected address %T", name)
}
