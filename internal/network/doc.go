// Package network gives containers their place in the network: the default
// bridge, an address on it, and the way out.
//
// Most callers need five calls. [Open] reads what an earlier daemon left,
// [Manager.EnsureDefault] makes the bridge, its address and the masquerading
// rules, [Manager.Reconcile] drops what belongs to containers that are gone,
// [Manager.Attach] puts an interface into a container's network namespace,
// and [Manager.Detach] takes it away again.
//
// # What is where
//
// Everything works on the network namespace that the calling process was in
// when the Manager was opened, so that two daemons in two namespaces never
// meet. Two daemons in one namespace cannot share a bridge: the second one's
// EnsureDefault is refused.
//
//	StatePath/network.json          the network: ids, subnet, gateway (durable)
//	StatePath/leases/ENDPOINT.json  one address and interface (not synced)
//
// A lease is written by rename but never synced: a lease can only be lost when
// the whole machine goes down, and with it goes every container that had one.
// Leases that another boot of the machine wrote are void, hence boot_id.
//
// # Interfaces
//
// A container gets a veth pair. Its end, eth0, is made directly in the
// container's network namespace; the other end is a port of the bridge. Both
// are made, and set up, by few netlink messages sent in batches, because each
// of them takes the kernel's rtnl lock and is waited for while a user waits for
// `run`. Removing a pair is slow in the kernel (it waits for RCU), so Detach
// only notes it and a goroutine does it; the address stays taken until the
// pair is gone. [Manager.Settle] waits for that.
//
// The package leaves the loopback interface to the container's first steps,
// hosts and resolv.conf files to the engine, and IPv6, published ports, names
// and user-made networks to later work.
package network
