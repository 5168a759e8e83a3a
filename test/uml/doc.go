// Package uml runs the core of the tests on another kernel and another kind of
// cgroup: Debian's user-mode-linux, an older kernel with cgroup v2 alone, boots
// on the host's files in two seconds.
//
// The test binaries are built outside and run inside one after the other, by
// init.sh as process 1. The data root is on an ext4 file, since the host's files
// have no extended attributes there. There is no network but what the tests
// make themselves, and no nftables for IPv4.
//
// System calls are slow there. Nothing that measures time belongs here.
package uml
