// Package oci is the OCI runtime: what the commands create, start, state, kill, delete
// and so on of its command line do with a bundle. Other engines drive it (Podman,
// containerd), and conformance suites.
//
//	rt := oci.Runtime{Root: "/run/porthole-oci", Shim: "/usr/bin/porthole-shim"}
//	err := rt.Create("web", oci.CreateOptions{Bundle: "/bundle", ...})
//	err = rt.Start("web")
//	state, err := rt.State("web")
//	err = rt.Delete("web", false)
//
// Isolation is that of every other container: package runtime compiles the document to
// a plan and the stage carries that out. What is here is the life of the container
// between the commands, each of which is a process of its own: a record below Root, by
// which the next command finds it. There is no process of ours beside the container; its
// first process is a child of create's, and when that has ended, of whoever collects
// orphans above it.
//
// docs/design/oci.md tells what is supported and what is refused.
package oci

import (
	"errors"
	"fmt"

	"github.com/portholehq/porthole/internal/linux/cgroup"
)

// Runtime is where containers are kept and what they are started with.
type Runtime struct {
	// Root is the directory of the containers' records. It should be on a tmpfs: they
	// mean nothing after the host has started anew.
	Root string
	// Shim is the porthole-shim binary, of which each container's stage is a copy.
	Shim string
	// Warn takes what has to be said although the command succeeds; nil: nobody.
	Warn func(text string)
}

// Parent is the cgroup below which containers are that name none, or a relative one.
const Parent = "/porthole-oci"

// The errors that callers tell apart.
var (
	ErrNotFound   = errors.New("container does not exist")
	ErrExists     = errors.New("container with given ID already exists")
	ErrNotStopped = errors.New("container is not stopped")
	ErrNotRunning = errors.New("container not running")
)

func (r *Runtime) warn(format string, args ...any) {
	if r.Warn != nil {
		r.Warn(fmt.Sprintf(format, args...))
	}
}

func group(path string) (*cgroup.Group, error) {
	tree, err := cgroup.Current()
	if err != nil {
		return nil, err
	}
	return tree.Whole(path), nil
}
