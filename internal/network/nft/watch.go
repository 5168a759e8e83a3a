package nft

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// settleTime is how long the ruleset has to be quiet before it is looked at:
// firewalls flush it and write it anew in several transactions. One that never
// is quiet is looked at after settleMost.
const (
	settleTime = 200 * time.Millisecond
	settleMost = 700 * time.Millisecond
)

// Watcher hears of changes to the rulesets of one network namespace.
type Watcher struct{ conn *netlink.Conn }

// NewWatcher begins to listen in the network namespace ns: no change after its
// return is missed. The caller ends it with [Watcher.Run].
func NewWatcher(ns *os.File) (*Watcher, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: int(ns.Fd())})
	if err != nil {
		return nil, fmt.Errorf("watch nftables: %w", explain(err))
	}
	if err := conn.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		return nil, errors.Join(fmt.Errorf("watch nftables: %w", explain(err)), conn.Close())
	}
	return &Watcher{conn: conn}, nil
}

// Run calls changed when somebody has changed a ruleset, we included, and it has
// been quiet for a moment; also when notifications were lost. It returns, and
// the watcher is closed, when ctx ends, with nil, or when it cannot watch any
// longer.
func (w *Watcher) Run(ctx context.Context, changed func()) error {
	defer w.conn.Close()
	// Closing the socket does not end a read that is under way; a deadline does.
	stop := context.AfterFunc(ctx, func() { _ = w.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	events := make(chan struct{}, 1)
	failed := make(chan error, 1)
	go func() { failed <- receive(w.conn, events) }()
	quiet := time.NewTimer(0)
	quiet.Stop()
	var first time.Time // of the changes that were not looked at; zero: none
	for {
		select {
		case <-events:
			if first.IsZero() {
				first = time.Now()
			}
			quiet.Reset(min(settleTime, settleMost-time.Since(first)))
		case <-quiet.C:
			first = time.Time{}
			changed()
		case err := <-failed:
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("watch nftables: %w", err)
		}
	}
}

// receive reads notifications until that fails for good.
func receive(conn *netlink.Conn, events chan<- struct{}) error {
	for {
		_, err := conn.Receive()
		// ENOBUFS: some were lost, which is news as well.
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return err
		}
		select {
		case events <- struct{}{}:
		default: // there is one already
		}
	}
}

// Present reports whether the table is there with all its rules and elements.
func Present(ns *os.File, r Ruleset) (bool, error) {
	conn, err := nftables.New(nftables.WithNetNSFd(int(ns.Fd())))
	if err != nil {
		return false, fmt.Errorf("open nftables: %w", explain(err))
	}
	there, err := complete(conn, r)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read nftables table %q: %w", r.Table, explain(err))
	}
	return there, nil
}

// complete counts, which tells a table that somebody has flushed, or has taken
// something out of.
func complete(conn *nftables.Conn, r Ruleset) (bool, error) {
	t := tableOf(r.Table)
	for _, c := range chains(t) {
		have, err := conn.GetRules(t, c)
		if err != nil || len(have) != len(rules(c.Name, r)) {
			return false, err
		}
	}
	for _, s := range sets(t) {
		have, err := conn.GetSetElements(s)
		if err != nil || len(have) != len(elements(s, r)) {
			return false, err
		}
	}
	return true, nil
}
