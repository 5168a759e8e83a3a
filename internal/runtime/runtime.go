// Package runtime turns a bundle (an OCI runtime document, a root filesystem in
// layers, a range of ids) into an isolated process, and looks after it while it
// lives.
//
//	rt, err := runtime.New(runtime.Options{ExecRoot: "/run/porthole", CgroupParent: "/porthole", ShimPath: ...})
//	c, err := rt.Create(ctx, bundle) // shim runs, everything is mounted, the process waits
//	... connect c.NetNS() to a network ...
//	err = c.Start(ctx)               // the user's program runs
//	<-c.Done()                       // it has ended
//	exit := c.Exit()
//	err = c.Delete(ctx)
//
// The privileged side makes file descriptors; the unprivileged side only
// arranges them. This package is the privileged side: it opens bind mount
// sources, builds the overlay and /dev as detached mounts, ID-maps what has to
// be mapped and compiles the rest into a [plan.Plan]. The stage (package
// runtime/stage) executes that plan inside the container's user namespace.
//
// What may happen to a container and when, is the engine's to decide; logs and
// standard streams are the shim's.
package runtime

import (
	"log/slog"
	"os"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/crilog"
	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/runtime/plan"
	"github.com/portholehq/porthole/internal/shim/wire"
)

// Options are what a [Runtime] needs. All of them but Pids and Logger are required.
type Options struct {
	// ExecRoot is a directory on a tmpfs, below which each container has one.
	ExecRoot string
	// CgroupParent is absolute from the root of each hierarchy: "/porthole".
	CgroupParent string
	// Pids are how many processes a container can have whose document gives no limit. The zero value: any number.
	Pids cgroup.PidsBounds
	// ShimPath is the porthole-shim binary. It is read once, by New.
	ShimPath string
	// Logger defaults to one that discards.
	Logger *slog.Logger
}

// IDRange is the range of host ids that a container's user namespace maps its
// ids 0 to Size-1 to. Size 0 is the host's user namespace.
type IDRange struct {
	Host, Size uint32
}

// Layers is a filesystem made of directories: a root, or a mount.
type Layers struct {
	// Base is a directory below which all the others are, on one mount. It is
	// what gets ID-mapped.
	Base string
	// Lower lists the read-only directories, the topmost first. A single one
	// with an empty Upper is used as it is, without an overlay.
	Lower []string
	// Upper and Work are the writable directory and overlayfs's scratch
	// directory beside it. Both empty: the root cannot be written.
	Upper, Work string
}

// Bundle is all that makes up a container.
type Bundle struct {
	// ID names the container: its run directory, cgroup and socket.
	ID string
	// Spec is the OCI document. Namespaces that are missing in it are the
	// host's; Spec.Root.Readonly makes the root read-only.
	//
	// Spec.Process.User.Username, if not empty, is Docker's user string
	// (name|uid[:group|gid]): it is looked up in the container's own files and
	// wins over UID and GID. Spec.Linux.Resources are the limits. Hooks,
	// Intel RDT, time offsets and memory policies are refused, not ignored.
	Spec   *specs.Spec
	RootFS Layers
	// Parts are, by destination of a bind mount, what is mounted of its source,
	// if not all: a path below it, which may be in the hands of a container.
	Parts map[string]string
	// Overlays are, by destination of a bind mount, the directories that are
	// merged to be its source, in place of the source that Spec names. A part of
	// one is found as if it were the root: its links do not lead out.
	Overlays map[string]Layers
	IDs      IDRange
	// GroupAdd are further groups of the first process, names or numbers.
	GroupAdd []string
	// StateDir and LogDir are given to the shim. They are made if missing and
	// handed to the container's root, for the shim is nobody else.
	StateDir, LogDir string
	Log              crilog.Options

	Terminal, OpenStdin, StdinOnce bool
	// ConsoleSize is height and width; zero leaves it to the first resize.
	ConsoleSize [2]uint16

	// Init runs the program below a small init that forwards signals and reaps.
	Init bool
	// Join takes namespaces of the given types from other containers, which
	// must have the same IDs. Those namespaces need not be in Spec.
	Join map[specs.LinuxNamespaceType]*Container
	// Tools is a directory of the host that is mounted at [plan.ToolsDir], for a
	// container of ours; nil: nothing is.
	Tools *os.File
	// Labels go with the evidence of a failed start; may be nil.
	Labels map[string]string

	// bare is set for a container without a shim.
	bare *Bare
}

// owner is the host's ids of a user and a group of the container.
func (b *Bundle) owner(uid, gid uint32) (hostUID, hostGID uint32) {
	switch {
	case b.IDs.Size == 0:
		return uid, gid
	case b.bare != nil:
		return mapped(b.Spec.Linux.UIDMappings, uid), mapped(b.Spec.Linux.GIDMappings, gid)
	}
	return b.IDs.Host + uid, b.IDs.Host + gid
}

// Exit is how a container or process ended.
type Exit struct {
	// Code is Docker's: the exit status, or 128 + signal.
	Code      int            `json:"code"`
	Signal    syscall.Signal `json:"signal,omitempty"`
	Core      bool           `json:"core,omitempty"`
	OOMKilled bool           `json:"oom_killed,omitempty"`
	At        time.Time      `json:"at"`
	// Ran is how long the program ran, by a clock that nobody sets; 0: that is not known. See [Exit.Lasted].
	Ran time.Duration `json:"ran,omitempty"`
	// OOMKills is how many processes of the container the kernel had killed for
	// want of memory by then; 0 for an exec.
	OOMKills uint64 `json:"oom_kills,omitempty"`
	// WaitStatus is as wait(2) has it.
	WaitStatus uint32 `json:"wait_status,omitempty"`
	// Signals are the dispositions at the end; nil: not known.
	Signals *SignalMasks `json:"signals,omitempty"`
	// Observed is false when nobody saw the end (the shim was killed): then
	// Code is 137 and At is when it was noticed.
	Observed bool `json:"observed"`
	// Shim is the process id of the shim, if that was there no more at the end and had not told of it: somebody has killed
	// it, or it crashed, and what was left of the container was killed for that. Observed is false then. 0: it is not so.
	Shim int `json:"shim,omitempty"`
}

// Lasted is how long a process ran that was started at a time: by Ran or, where that is not known, by the clock, which may
// have been set meanwhile.
func (e *Exit) Lasted(started time.Time) time.Duration {
	if e.Ran > 0 {
		return e.Ran
	}
	return max(e.At.Sub(started), 0)
}

// Started is when the process was started by the clock that tells when it ended; zero: that is not known.
func (e *Exit) Started() time.Time {
	if e.Ran == 0 {
		return time.Time{}
	}
	return e.At.Add(-e.Ran)
}

// Since is the earliest time that something of the process can have which was started at a time. If the clock was set back
// meanwhile, that is before its start.
func (e *Exit) Since(started time.Time) time.Time {
	if now := e.At.Add(-e.Ran); e.Ran > 0 && now.Before(started) {
		return now
	}
	return started
}

// SignalMasks are the dispositions of a process's signals.
type SignalMasks = wire.SignalMasks

// AttachOptions says which streams a client wants.
type AttachOptions struct {
	Stdin, Stdout, Stderr bool
	// CloseStdin closes the process's standard input when the client's ends.
	CloseStdin bool
}

// ExecOptions describe one more process in a container that runs.
type ExecOptions struct {
	// ID is unique among the container's processes.
	ID string
	// Process is as in an OCI document; User.Username as in [Bundle].
	Process *specs.Process
	// Seccomp overrides the container's filter; nil takes the container's.
	// NoSeccomp runs without any.
	Seccomp   *specs.LinuxSeccomp
	NoSeccomp bool
	// GroupAdd are further groups, names or numbers.
	GroupAdd []string
	// Size is height and width of the terminal, if Process.Terminal.
	Size [2]uint16
	// Stdin, Stdout and Stderr become the process's, if it has no terminal;
	// nil is /dev/null. They stay the caller's to close.
	Stdin, Stdout, Stderr *os.File
	// Note is kept with the process for the daemon after this one, see
	// [Container.Inherited]. It is JSON; nil: there is none.
	Note []byte
	// Tool puts the process into the debug cgroup: it is ours, not the
	// application's, and must neither be charged to it nor get it killed.
	Tool bool
	// View has a tool see the container by a copy of its mounts; nil: it is in
	// the container's own.
	View *View
}

// StartError is a failure that the user's configuration or image caused: the
// program is missing, a mount cannot be made, a limit cannot be given.
type StartError struct {
	// Step is the step of the plan.
	Step string
	Op   plan.Op
	// Errno is the kernel's answer, 0 if there is none.
	Errno syscall.Errno
	Path  string
	// Message is a sentence in Docker's words, such as
	//	exec: "x": executable file not found in $PATH
	Message string

	err error // the cause
}

func (e *StartError) Error() string { return e.Message }

// Unwrap gives the cause, or else the errno.
func (e *StartError) Unwrap() error {
	switch {
	case e.err != nil:
		return e.err
	case e.Errno != 0:
		return e.Errno
	}
	return nil
}
