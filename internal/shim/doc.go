// Package shim is the server that stands beside one container: the parent of
// its first process and of every exec.
//
// The daemon starts it (cmd/porthole-shim serve) inside the container's user
// namespace, then talks to it by package wire: create forks the stage, which
// arranges the container from a plan the shim does not read; go lets it become
// the user's program. From then on the shim
//
//   - writes the program's output to the log (package crilog) and to any number
//     of attached clients,
//   - holds its stdin or its terminal,
//   - starts further processes in the container's namespaces,
//   - waits for each of them and tells how it ended, durably for the first.
//
// It needs no daemon for any of that: daemons come and go, connect, ask state
// and go on. It ends by itself when the first process has ended and all is
// written.
//
// A shim lives as long as its container and there is one for each, so it must
// stay small: no net/http, no log library, one processor, buffers that are made
// when first used.
//
// The shim knows nothing of mounts, cgroups, capabilities or users. The
// conversation is drawn in docs/design/shim-protocol.md.
package shim
