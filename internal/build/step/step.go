// Package step describes the processes of a build, as package build hands them
// to whoever runs containers. It stands apart from package build so that the
// engine need not know BuildKit.
package step

import (
	"context"
	"io"
	"syscall"

	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/internal/image"
)

// Step is one process of a build with all that it is isolated by: a container
// without a record.
type Step struct {
	// ID names its cgroup and run directory: 64 hexadecimal digits.
	ID string
	// Name is what people see: the instruction, or what the client called it.
	Name string

	RootFS       image.Layers
	ReadonlyRoot bool
	Mounts       []Mount
	Process      Process

	Hostname   string
	ExtraHosts []string // "NAME:IP"
	Network    Network
	// Privileged runs it as a privileged container, which the build was
	// entitled to.
	Privileged bool
	Resources  container.Resources

	// LogDir is where its output is kept, in the form of container logs.
	LogDir string
}

// Network is what a step sees of the network.
type Network string

// The networks of BuildKit's modes.
const (
	NetworkDefault Network = "bridge"
	NetworkHost    Network = "host"
	NetworkNone    Network = "none"
)

// Mount is something of the host that a step sees.
type Mount struct {
	// Source is a directory or file of the host; empty for a tmpfs.
	Source string
	// Layers, if there are any, are merged and mounted in place of Source.
	Layers image.Layers
	// Part is what is mounted of that, if not all: a path below it.
	Part        string
	Destination string
	RW          bool
	Options     []string // of a tmpfs
}

// Process is what a step or a shell beside it runs.
type Process struct {
	Args, Env []string
	User      string // name|uid[:group|gid]
	Cwd       string

	Terminal bool
	// Stdin may be nil. Stdout and Stderr may be nil; with a terminal all comes
	// out of Stdout.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Resize         <-chan Size           // may be nil
	Signals        <-chan syscall.Signal // may be nil
}

// Size is that of a terminal.
type Size struct{ Height, Width uint16 }

// Exit is how a process ended.
type Exit struct {
	Code      int // the exit status, or 128 + signal
	Signal    syscall.Signal
	OOMKilled bool
	// Reason is why it failed, in one line, where that is known.
	Reason string
}

// Runner runs the processes of builds.
type Runner interface {
	// RunStep runs a step to its end. started is called once the process runs.
	// When ctx ends, all its processes are killed. A process that ended is no
	// error, whatever its status.
	RunStep(ctx context.Context, s *Step, started func()) (Exit, error)
	// ExecStep runs another process in a step that runs.
	ExecStep(ctx context.Context, id string, p *Process) (Exit, error)
}
