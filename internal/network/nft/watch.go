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

// settleTime is how long the ruleset has to be quiet before it is looked at.
// Firewalls flush it and write it anew in several transactions.
const settleTime = 200 * time.Millisecond

// Watch calls changed when somebody has changed rulesets in the network
// namespace ns, we included, and it has been quiet for a moment. It returns when
// ctx ends, with nil, or when it cannot watch. changed also runs when
// notifications were lost.
func Watch(ctx context.Context, ns *os.File, changed func()) error {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: int(ns.Fd())})
	if err != nil {
		return fmt.Errorf("watch nftables: %w", explain(err))
	}
	defer conn.Close()
	if err := conn.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		return fmt.Errorf("watch nftables: %w", explain(err))
	}
	// Closing the socket does not end a read that is under way; a deadline does.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	events := make(chan struct{}, 1)
	failed := make(chan error, 1)
	go func() { failed <- receive(conn, events) }()
	quiet := time.NewTimer(0)
	quiet.Stop()
	for {
		select {
		case <-events:
			quiet.Reset(settleTime)
		case <-quiet.C:
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

// Present reports whether the table is there with all its rules.
func Present(ns *os.File, r Ruleset) (bool, error) {
	conn, err := nftables.New(nftables.WithNetNSFd(int(ns.Fd())))
	if err != nil {
		return false, fmt.Errorf("open nftables: %w", explain(err))
	}
	table, chain := chains(r)
	rules, err := conn.GetRules(table, chain)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read nftables table %q: %w", r.Table, explain(err))
	}
	return len(rules) == len(r.Masquerade), nil
}
