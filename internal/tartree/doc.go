// Package tartree moves trees of files into and out of tar archives by way of
// open directories.
//
//	err := tartree.Pack(ctx, w, dir, "etc", "etc", ids)   // dir/etc, as etc/
//	err := tartree.PackContents(ctx, w, dir, ids)         // all that is in dir
//	err := tartree.Unpack(ctx, r, tartree.Target{Root: root, Dir: "/srv"})
//
// The trees may belong to a container that is at work in them: no name that it
// puts there leads out of the directory that the caller has opened. Packing
// goes from an open directory to single names in it and never follows a link;
// unpacking resolves every directory inside of the target's root.
//
// Owners in archives are the container's own. [IDs] tells how they stand to
// those that the open tree shows.
package tartree

// IDs says how the container's ids 0..Size-1 show in a tree: as Host and
// following. Size 0 means that they show as they are.
type IDs struct{ Host, Size uint32 }

// inside is the container's id for one of the tree. What does not belong to
// the container is given to the overflow id, as the container sees it.
func (i IDs) inside(id uint32) int {
	const overflow = 65534
	switch {
	case i.Size == 0:
		return int(id)
	case id < i.Host || id-i.Host >= i.Size:
		return overflow
	}
	return int(id - i.Host)
}

// outside is the tree's id for one of the container's. One that the container
// does not have becomes its root's: an archive made elsewhere, with ids of
// some directory service, is still of use then.
func (i IDs) outside(id int) int {
	switch {
	case i.Size == 0:
		return id
	case id < 0 || uint32(id) >= i.Size:
		return int(i.Host)
	}
	return int(i.Host) + id
}
