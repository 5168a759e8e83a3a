package engine

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/container"
	mobyimage "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	mobynet "github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/system"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/event"
	"github.com/portholehq/porthole/internal/image"
	"github.com/portholehq/porthole/internal/image/remote"
	"github.com/portholehq/porthole/internal/ledger"
	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/linux/holders"
	"github.com/portholehq/porthole/internal/network"
	netkeeper "github.com/portholehq/porthole/internal/network/keeper"
	"github.com/portholehq/porthole/internal/pcap/capture"
	"github.com/portholehq/porthole/internal/record/core"
	"github.com/portholehq/porthole/internal/record/death"
	"github.com/portholehq/porthole/internal/record/sampler"
	"github.com/portholehq/porthole/internal/runtime"
	"github.com/portholehq/porthole/internal/runtime/spec"
	"github.com/portholehq/porthole/internal/volume"
)

// Deps is all that the engine needs from the parts below it. The engine closes none of them.
type Deps struct {
	Logger *slog.Logger
	Config Config
	State  *state.DB
	Events *event.Journal
	// Sampler samples the containers that run; nil: nobody does, and statistics are read when they are asked for.
	Sampler *sampler.Sampler
	// Deaths keeps why containers and execs ended; nil: nobody does.
	Deaths *death.Store
	// Cores keeps what processes leave that crash; nil: nobody does.
	Cores *core.Store
	// Diagnose tells what in a container's files keeps its program from being executed; nil result: nothing was found; nil:
	// nobody looks.
	Diagnose func(Refused) *death.Finding
	// Tools makes the directory that debug sessions have their programs from, and returns its path; nil: there are none.
	Tools func() (string, error)
	// KernelLog tells that the kernel's log says who was killed for want of memory. It is of the whole machine.
	KernelLog bool
	// Witness tells who has sent signals; nil: nobody does.
	Witness Witness
	Runtime Runtime
	Host    spec.Host // what documents are made for
	// AppArmor makes sure that Host.AppArmorProfile is loaded; nil where there is no such profile.
	AppArmor   func(ctx context.Context) error
	Images     Images
	Registries Registries
	Network    Networks
	Volumes    Volumes
}

// Config holds the daemon's settings that concern containers.
type Config struct {
	DataRoot string
	ExecRoot string
	// Sockets are where the API is listened on, to tell who mounts them; those of systemd are not among them.
	Sockets      []string
	CgroupParent string // absolute from the hierarchy's root, e.g. /porthole
	// Pids are the bounds on processes that the group and the runtime have, and NoPids is why there are none.
	Pids        cgroup.PidsBounds
	NoPids      error
	NoAppArmor  error // why Host.AppArmorProfile is empty although AppArmor is on
	Version     string
	GitCommit   string
	BuildTime   string
	Labels      func() []string // of the daemon, as they are now; nil: none
	Debug       func() bool     // nil: off
	StopTimeout time.Duration   // 0: 10 s
	// UnstartedGrace is within what a container with --rm is started by who means to; 0: 10 s.
	UnstartedGrace time.Duration
	Init           bool // run an init in containers that do not say
	// LogConfig is the driver of containers that name none, and the options of those with that driver, where they say
	// nothing else; empty: json-file. See [CheckLogConfig].
	LogConfig container.LogConfig
	// KeepFailed keeps, for a day and within bounds, the files of containers that have failed and were removed.
	KeepFailed bool
	// CoreDumps takes the cores of containers' processes from the kernel, unless somebody else on the machine has them.
	CoreDumps bool
	// JournalSocket is where the journald driver finds the journal; empty: where systemd has it.
	JournalSocket string
	// Warnings are about the daemon's own settings, in Docker's words.
	Warnings []string
	// AddressPools are where subnets come from that nobody chose, for info; nil: nothing was said.
	AddressPools []system.NetworkAddressPool
	// DNS, DNSSearch and DNSOptions are for the resolv.conf of containers that do not say; empty: the host's.
	DNS, DNSSearch, DNSOptions []string
}

// Runtime turns bundles into processes.
type Runtime interface {
	Create(ctx context.Context, b Bundle) (Task, error)
	// Load finds the task of an earlier daemon; errdefs.ErrNotFound when there is none.
	Load(ctx context.Context, id, stateDir, logDir string) (Task, error)
	// Alive tells whether a container has a shim, without asking it anything.
	Alive(id string) bool
	// IDs are the host ids of what an earlier daemon has started; an error if that is not known.
	IDs(id string) (runtime.IDRange, error)
	// Discard ends what cannot be loaded and takes away what it leaves.
	Discard(ctx context.Context, id string) error
	// ReadExit reads the exit that a shim has recorded; errdefs.ErrNotFound when there is none.
	ReadExit(stateDir string) (Exit, error)
	// ReadBegun reads which run has begun, and when, whose end no shim has recorded; an error when there is none.
	ReadBegun(stateDir string) (run int, at time.Time, err error)
}

// Bundle is a runtime's bundle whose namespaces may come from other tasks.
type Bundle struct {
	runtime.Bundle
	JoinTasks map[specs.LinuxNamespaceType]Task
}

// Task is a container's processes, from the first to the last.
type Task interface {
	Start(ctx context.Context) error
	Pid() int
	StartedAt() time.Time
	Warnings() []string
	NetNS() (*os.File, error)
	Attach(ctx context.Context, o runtime.AttachOptions) (*os.File, error)
	FeedLog(ctx context.Context) (*os.File, error)
	Exec(ctx context.Context, o runtime.ExecOptions) (Process, error)
	Signal(ctx context.Context, sig syscall.Signal) error
	Resize(ctx context.Context, height, width uint16) error
	Freeze(ctx context.Context) error
	Thaw(ctx context.Context) error
	Frozen() (bool, error)
	// OOM receives after the kernel has killed processes of the container, execs included, for want of memory.
	OOM() <-chan struct{}
	Done() <-chan struct{}
	Exit() Exit
	Pids() ([]int, error)
	Stats() (*container.StatsResponse, error) // CPU, memory, block I/O and pids only
	// Source reads what the sampler keeps; netns is nil in the host's network.
	Source(netns *os.File) (sampler.Source, error)
	// SetLimits changes all that r gives or nothing; undo, which may be called once, takes it back.
	SetLimits(r *specs.LinuxResources) (undo func() error, warnings []string, err error)
	Kill(ctx context.Context) error
	// EndTools ends what was executed as a tool, and its children.
	EndTools(ctx context.Context) error
	Delete(ctx context.Context) error
	// Inherited are the execs of earlier daemons, of a task that was loaded.
	Inherited() []inheritedExec
}

// Process is a process started by exec.
type Process interface {
	Start(ctx context.Context) error
	Pid() int
	PTY() *os.File // of a process with a terminal; the caller closes it
	Done() <-chan struct{}
	Exit() Exit
	Signal(ctx context.Context, sig syscall.Signal) error
	Resize(ctx context.Context, height, width uint16) error
}

// Exit is how a process ended.
type Exit = runtime.Exit

// Images keeps images and root filesystems.
type Images interface {
	Resolve(ctx context.Context, ref string) (image.Image, error)
	ResolvePlatform(ctx context.Context, ref string, want ocispec.Platform) (image.Image, error)
	PlatformWarning(img image.Image) string
	CreateRootFS(ctx context.Context, id string, img image.Image, mounted ...image.Image) (image.Layers, error)
	MountedImage(ctx context.Context, id, imageID string) (image.Layers, error)
	// CreateRootFSOver makes a writable layer on what the container below has written so far.
	CreateRootFSOver(ctx context.Context, id, below string) (image.Layers, error)
	LayerChanges(ctx context.Context, l image.Layers, targets []string) ([]image.Change, error)
	RootFS(ctx context.Context, id string) (image.Layers, error)
	RemoveRootFS(ctx context.Context, id string) error
	RootFSDir(id string) string
	RootFSBaseSize(ctx context.Context, id string) (int64, error)
	RootFSList(ctx context.Context) ([]string, error)
	RootFSChanges(ctx context.Context, id string, targets []string) ([]image.Change, error)
	Commit(ctx context.Context, o image.CommitOptions) (image.Image, error)

	// The rest serves the verbs about images.
	Load(ctx context.Context, r io.Reader, o image.LoadOptions, progress func(jsonstream.Message)) ([]image.Loaded, error)
	Save(ctx context.Context, w io.Writer, refs []string, platforms []ocispec.Platform) error
	Import(ctx context.Context, r io.Reader, o image.ImportOptions) (string, error)
	List(ctx context.Context, o image.ListOptions) ([]mobyimage.Summary, error)
	Inspect(ctx context.Context, ref string) (mobyimage.InspectResponse, error)
	History(ctx context.Context, ref string) ([]mobyimage.HistoryResponseItem, error)
	MeasureLayers(ctx context.Context, ref string, hidden int) (image.Layering, error)
	BlameLayers(ctx context.Context, ref, path string) (image.Blame, error)
	Tag(ctx context.Context, src, dst string) error
	Remove(ctx context.Context, ref string, o image.RemoveOptions) ([]mobyimage.DeleteResponse, error)
	Prune(ctx context.Context, o image.PruneOptions) (mobyimage.PruneReport, error)
	DiskUsage(ctx context.Context) (image.DiskUsage, error)
	Claims(ctx context.Context) ([]ledger.Claim, error)
	Pull(ctx context.Context, ref reference.Named, o image.PullOptions, progress func(jsonstream.Message)) (image.Pulled, error)
	PullAll(ctx context.Context, repo reference.Named, o image.PullOptions, progress func(jsonstream.Message)) ([]image.Pulled, error)
	Push(ctx context.Context, ref reference.NamedTagged, o image.PushOptions, progress func(jsonstream.Message)) (image.Pushed, error)
	PushNames(ctx context.Context, repo reference.Named) ([]reference.NamedTagged, error)
	Distribution(ctx context.Context, ref reference.Named, creds remote.Credentials) (image.Distribution, error)
}

// Networks gives containers addresses, names and ports of the host.
type Networks interface {
	Attach(ctx context.Context, a network.AttachSpec) (network.Endpoint, error)
	// Leave takes a running container off one network, Detach one that has ended off all.
	Leave(ctx context.Context, id, ref string, ns *os.File) error
	Detach(ctx context.Context, id string) error
	// Serve publishes the ports of a container that runs and answers its questions for names. It replaces what the
	// container had.
	Serve(ctx context.Context, s network.SandboxSpec) ([]network.Published, error)
	Published(id string) []network.Published
	// Forward opens a further port of a container that runs, also one that only its loopback address serves.
	Forward(ctx context.Context, s network.SandboxSpec, p network.PortSpec) ([]network.Published, error)
	Unforward(ctx context.Context, s network.SandboxSpec, hostPort uint16) error
	Forwards(id string) []network.Published
	Queries(ctx context.Context, id string) (netkeeper.Queries, error)
	AsksUs(id string) bool
	Follow(ctx context.Context, id string, fn func(netkeeper.Followed) error) error
	AskedByUs(ctx context.Context, id, proto string, local netip.AddrPort) (bool, error)
	Check(ctx context.Context, s network.CheckSpec) []network.Hop
	Capture(s capture.Spec) (*capture.Capture, error)
	Reach(s network.ReachSpec) ([]network.ReachPort, error)
	Survey() (network.Survey, error)
	Sockets(ns *os.File) ([]network.Socket, error)
	Reconcile(ctx context.Context, live map[string]bool) error
	Endpoints(id string) []network.Endpoint

	Create(ctx context.Context, req mobynet.CreateRequest) (id string, err error)
	Remove(ctx context.Context, ref string) error
	Resolve(ref string) (network.Info, error)
	List() []mobynet.Summary
	Inspect(ref string) (mobynet.Inspect, error)
}

// Volumes keeps named and anonymous volumes.
type Volumes interface {
	Create(name string, o volume.CreateOptions) (volume.Info, error)
	Mount(name, user string) error
	Hold(name, user string)
	Unmount(name, user string) (held []holders.Holder, err error)
	UnmountUnused() error
	Get(name string) (volume.Info, error)
	List() []volume.Info
	Remove(name string) error
	CopyUp(ctx context.Context, name string, root *os.File, path string) error
	Path(name string) string
	Claims() ([]ledger.Claim, error)
}
