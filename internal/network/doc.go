// Package network gives containers their place in the network: addresses on
// networks, the way out, names, and ports of the host.
//
// Most callers need these calls. [Open] reads what an earlier daemon left,
// [Manager.EnsureDefault] makes the bridges, their addresses and the firewall's
// rules, [Manager.Reconcile] drops what belongs to containers that are gone,
// [Manager.Create] and [Manager.Remove] are for networks that users make,
// [Manager.Attach] puts an interface into a container's network namespace,
// [Manager.Serve] publishes its ports and answers its questions for names, and
// [Manager.Detach] takes all of it away again. [Manager.Check] tells where a
// connection ends.
//
// # What is where
//
// Everything works on the network namespace that the calling process was in
// when the Manager was opened, so that two daemons in two namespaces never
// meet. Two daemons in one namespace cannot share a bridge: the second one's
// EnsureDefault is refused.
//
//	StatePath/network.json            the default networks: ids, subnet, gateway (durable)
//	StatePath/networks/ID.json        one that a user has made (durable)
//	StatePath/leases/ENDPOINT.json    addresses and interface of an endpoint (not synced)
//	StatePath/sandboxes/CONTAINER.json  ports and names of a container (not synced)
//
// A lease is written by rename but never synced: a lease can only be lost when
// the whole machine goes down, and with it goes every container that had one.
// Leases that another boot of the machine wrote are void, hence boot_id. The same
// holds for sandboxes.
//
// # Interfaces
//
// A container gets a veth pair for each network. Its end is made directly in the
// container's network namespace; the other end is a port of the bridge. Both
// are made, and set up, by few netlink messages sent in batches, because each
// of them takes the kernel's rtnl lock and is waited for while a user waits for
// `run`. Removing a pair is slow in the kernel (it waits for RCU), so Detach
// only notes it and a goroutine does it; the addresses stay taken until the
// pair is gone. [Manager.Settle] waits for that.
//
// The package leaves the loopback interface to the container's first steps, and
// hosts and resolv.conf files to the engine. docs/design/network.md tells why
// things are as they are.
package network
