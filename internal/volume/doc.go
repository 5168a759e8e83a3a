// Package volume keeps local volumes: directories with a name and labels that
// outlive the containers that use them.
//
// [Open] gives the [Store] below one directory; [Store.Create], [Store.Get],
// [Store.List] and [Store.Remove] do what their names say, and [Store.CopyUp]
// fills a new volume with what the image has at the place where it is mounted.
//
//	ROOT/NAME/volume.json  what is known about the volume
//	ROOT/NAME/volume.json.filled  what that becomes when the volume has been filled
//	ROOT/NAME/_data        what containers see; owners are the containers' own ids
//	ROOT/.new-*, .gone-*   volumes in the making and in removal
//
// A volume appears and disappears by one rename, so a crash leaves no half of
// it; [Open] removes what a crash left in the making. A volume that a crash
// left half filled is emptied by [Open], so that it is filled anew.
//
// Who uses a volume, and whether it may be removed, is for the engine to know.
package volume
