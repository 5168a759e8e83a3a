// Package daemon is what portholed is as a process: its settings from command
// line and file, its log, its listeners, its hold on the data root, and what
// the host has to offer.
//
// [Parse] reads the settings, [Listen] opens the sockets, [Claim] keeps a
// second daemon away. What the daemon does with all that, and which parts it is
// made of, is the business of cmd/portholed.
package daemon
