// Package image keeps the images of the engine and the root filesystems that
// containers get from them.
//
// A [Store] is one directory. Images come in by [Store.Load] and
// [Store.Import], are looked up by [Store.Resolve], and go by [Store.Remove]
// and [Store.Prune]. [Store.CreateRootFS] gives a container its writable layer
// on top of an image; the caller mounts what the returned [Layers] name.
//
// The store is made of containerd's libraries, in process: the content store
// holds what an image was shipped as (manifests, configurations, compressed
// layers), the overlay snapshotter holds what it was unpacked to, and the
// metadata database names both, so that one garbage collection sees all. The
// builder shares these parts by [Store.Backend].
//
//	ROOT/metadata.db             names, labels, leases (bbolt)
//	ROOT/content/                blobs by digest
//	ROOT/layers/overlay/         unpacked image layers, by containerd's snapshotter
//	ROOT/layers/rootfs/ID/       writable layer of container ID, see rootfs.go
//	ROOT/layers/trash/           writable layers on their way out
//	ROOT/layers/empty/           lower layer of images that have none
//	ROOT/unclean                 exists while a store is open
//
// What comes from strangers is read by packages below this one: archive,
// document, name, packed and remote.
//
// An image is known by the digest of its configuration, as in Docker's classic
// store; docs/design/images.md tells why. Errors are of containerd/errdefs
// classes and carry Docker's wording where Docker has one.
package image
