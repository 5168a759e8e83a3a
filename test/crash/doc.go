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
// A run prints its seed; PORTHOLE_TEST_SEED repeats the choices of the clients and
// the moments of the deaths, though not what the kernel makes of them.
package crash
