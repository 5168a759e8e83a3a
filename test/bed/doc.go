// Package bed is what the end-to-end tests run on: a world of their own with a
// daemon in it.
//
// [Main] runs the tests of a package in new pid, mount and network namespaces.
// Whatever they start ends with them, nothing they mount is seen outside, and
// what is left behind can be counted: every process, mount and interface of
// that world is theirs.
//
// [Start] starts a daemon there, with its own data root, exec root, socket and
// cgroup parent. [Daemon.Kill], [Daemon.Start] and [Daemon.Stop] treat it as
// the world does. [Daemon.Snapshot] tells what there is, and [Difference] what
// is left of it.
package bed
