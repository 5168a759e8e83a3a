package network

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/network/nft"
)

// rules is the content of our nftables table. mu is held.
func (m *Manager) rules() nft.Ruleset {
	r := nft.Ruleset{Table: m.table()}
	for _, n := range m.all() {
		if n.Driver == DriverBridge && n.link.Index != 0 {
			r.Networks = append(r.Networks, n.rule())
		}
	}
	for _, s := range m.sandboxes {
		r.Ports = append(r.Ports, s.Rules...)
	}
	return r
}

// table is the name of our table.
func (m *Manager) table() string {
	if m.opts.Bridge != DefaultBridge {
		return nft.DefaultTable + "_" + m.opts.Bridge
	}
	return nft.DefaultTable
}

// rule is what the firewall has to know of a network.
func (n *netw) rule() nft.Network {
	open := func(mode string) bool { return mode == modeUnprotected }
	r := nft.Network{Bridge: n.Interface, Internal: n.Internal, Open4: open(n.opts.mode4), Open6: open(n.opts.mode6)}
	if n.Internal || !n.opts.masquerade {
		return r
	}
	for _, s := range n.Subnets {
		if mode := n.mode(s.Prefix.Addr().Is6()); mode == modeNAT || mode == modeUnprotected {
			r.Masquerade = append(r.Masquerade, s.Prefix)
		}
	}
	return r
}

// firewallNeeded tells whether the table has anything to say: where nothing is
// translated, and nobody has made a network, the kernel needs no nftables.
func (m *Manager) firewallNeeded(r nft.Ruleset) bool {
	return !m.opts.NoMasquerade || len(r.Networks) > 1 || len(r.Ports) > 0
}

// applyRules replaces our nftables table, or removes it when there is nothing
// to be in it. From the first time on it is watched.
func (m *Manager) applyRules() error {
	m.firewall.Lock()
	defer m.firewall.Unlock()
	m.mu.Lock()
	rules := m.rules()
	watched := m.watching != nil
	m.mu.Unlock()
	if !m.firewallNeeded(rules) {
		err := nft.Remove(m.netns, rules.Table)
		if errdefs.IsNotImplemented(err) { // then it cannot be there
			err = nil
		}
		m.tableThere = err != nil
		return err
	}
	if err := nft.Apply(m.netns, rules); err != nil {
		return err
	}
	m.tableThere = true
	if watched {
		return nil
	}
	w, err := nft.NewWatcher(m.netns)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unwatch, m.watching = cancel, make(chan struct{})
	go m.watchRules(ctx, w)
	return nil
}

// watchRules restores our table whenever somebody removes it or a part of it, as
// reloading a firewall does that flushes everything.
func (m *Manager) watchRules(ctx context.Context, w *nft.Watcher) {
	defer close(m.watching)
	if err := w.Run(ctx, m.restoreRules); err != nil {
		m.log.Error("nftables table is not watched any more", "err", err)
	}
}

func (m *Manager) restoreRules() {
	m.firewall.Lock()
	defer m.firewall.Unlock()
	m.mu.Lock()
	rules := m.rules()
	m.mu.Unlock()
	if !m.firewallNeeded(rules) {
		return
	}
	there, err := nft.Present(m.netns, rules)
	if err == nil && there {
		return
	}
	begin := time.Now()
	if err == nil {
		err = nft.Apply(m.netns, rules)
	}
	if err != nil {
		m.log.Error("cannot restore nftables table", "table", rules.Table, "err", err)
		return
	}
	m.log.Warn("nftables table was changed by somebody and has been restored", "table", rules.Table, "took", time.Since(begin))
	if m.opts.OnRestored != nil {
		m.opts.OnRestored(rules.Table)
	}
}

// publish adds a container's ports to the table.
func (m *Manager) publish(ports []nft.Port) error {
	if len(ports) == 0 {
		return nil
	}
	m.firewall.Lock()
	defer m.firewall.Unlock()
	if !m.tableThere {
		return errNoTable
	}
	return m.withHandle(func(h *nft.Handle) error { return h.Publish(m.table(), ports) })
}

// withHandle runs f with the socket for small changes. firewall is held.
func (m *Manager) withHandle(f func(*nft.Handle) error) error {
	if m.handleNFT == nil {
		h, err := nft.Dial(m.netns)
		if err != nil {
			return err
		}
		m.handleNFT = h
	}
	err := f(m.handleNFT)
	if err != nil {
		// It may have answers in it that are not for the next one.
		if closing := m.handleNFT.Close(); closing != nil {
			m.log.Debug("nftables socket was not closed", "err", closing)
		}
		m.handleNFT = nil
	}
	return err
}

// errNoTable asks for the whole table instead of a part.
var errNoTable = errors.New("the nftables table is not there")

// withdraw removes ports. What somebody has flushed meanwhile is no error.
func (m *Manager) withdraw(ports []nft.Port) {
	if len(ports) == 0 {
		return
	}
	m.firewall.Lock()
	defer m.firewall.Unlock()
	if !m.tableThere {
		return
	}
	err := m.withHandle(func(h *nft.Handle) error { return h.Withdraw(m.table(), ports) })
	if err != nil && !errors.Is(err, unix.ENOENT) {
		m.log.Error("ports are left in the nftables table", "err", err)
	}
}

// portRule is a published port for the firewall; ok is false for one that only
// the socket serves: on a loopback address, or of the other family.
func portRule(proto uint8, host netip.AddrPort, target netip.AddrPort, routed bool) (p nft.Port, ok bool) {
	if host.Addr().IsLoopback() || host.Addr().Is4() != target.Addr().Is4() {
		return nft.Port{}, false
	}
	return nft.Port{Proto: proto, Host: host, Target: target, Routed: routed}, true
}
