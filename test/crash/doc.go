// Package crash kills the daemon with SIGKILL at random moments while clients use
// all of it, and sees what the next one makes of that.
//
// TestKills goes in rounds. Clients create, start, enter, read and remove
// containers, pull and build images, and make volumes and networks, until the
// daemon dies under them. A client may be told that its daemon has gone; but what
// it was told is done must be so afterwards: a container has each of its lines and
// its exit code, and why it ended is known; images, volumes and networks are there
// or are gone. Then all is removed, and nothing may be left that was not there at
// the beginning: processes, mounts, cgroups, interfaces, files that belong to
// nobody.
//
// TestPoints does the same at one point of the source after the other: wherever a
// durable write is about to take a step (package failpoint), the process that comes
// there dies of it, be it the daemon or a shim. TestFailingPoints has the step fail
// instead, as on a full disk or one that breaks: clients are told so, the daemon
// lives, and once the disk is well all goes on. The points are read out of the
// source, and what the clients do has to come to each. The programs are built with
// the tag failpoint for it; those that people get take nothing from the environment.
//
// TestCalls and TestFailingCalls do the same at the system calls by which daemon and
// shims change files below the data root (package calls), and so also within the
// libraries: bbolt, containerd's content store and snapshotter. A write may be broken
// off in its middle. What the clients come to in a first round is the list.
//
// A run prints its seed; PORTHOLE_TEST_SEED repeats the choices of the clients and
// the moments of the deaths, though not what the kernel makes of them.
package crash
