// Package spec turns a request for a container into an OCI runtime document,
// as Docker's daemon would make it.
//
//	warnings, err := spec.Validate(host, config, hostConfig) // may discard settings
//	spec.SetDefaults(host, hostConfig)
//	document, more, err := spec.Build(spec.Input{...})
//
// Everything here is pure: the same [Input] gives the same document on every
// machine. What has to be known of the host comes in as a [Host], which package
// hostinfo gathers; nothing is looked up here, and nothing is made.
//
// The document says what the container is to have. How that is brought about
// is the business of package runtime.
//
// Wording of errors and warnings is Docker's wherever Docker has one.
package spec

import (
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/linux/caps"
	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/linux/seccomp"
)

// Input is all that a document is made of.
type Input struct {
	ID string

	// Config and HostConfig are complete: merged with the image's and with
	// [SetDefaults] applied. They are not written to.
	Config     *container.Config
	HostConfig *container.HostConfig

	// Mounts are the user's, in any order, with sources that exist.
	Mounts []Mount
	Files  Files

	// IDs is the range of host ids of the container's user namespace; the zero
	// value stands for the user namespace of the host.
	IDs IDRange

	// CgroupParent is where the container's group goes unless HostConfig names
	// another place.
	CgroupParent string

	Host Host
}

// IDRange maps the ids 0 to Size-1 to host ids from Host upwards.
type IDRange struct{ Host, Size uint32 }

// Mount is something to be mounted for the user.
type Mount struct {
	Type        mount.Type // TypeTmpfs, or anything else for a bind of Source
	Source      string     // absolute on the host
	Destination string     // absolute in the container
	RW          bool
	Propagation mount.Propagation // empty means rprivate

	NonRecursive           bool // leaves out what is mounted below Source
	ReadOnlyNonRecursive   bool // leaves what is mounted below Source writable
	ReadOnlyForceRecursive bool

	Options []string // of a tmpfs, as "size=64m"
}

// Files are the files that the engine writes for a container. An empty path
// means that there is none.
type Files struct{ Hosts, Hostname, ResolvConf string }

// Host is what has to be known of the host and of the daemon's configuration.
type Host struct {
	Arch   string // as GOARCH
	Kernel seccomp.KernelVersion
	NCPU   int

	Cgroup   cgroup.Support
	LastCap  caps.Cap // the kernel's last capability
	Bounding caps.Set // what this daemon can hand on in the host's user namespace

	Seccomp          bool // filters can be loaded
	AppArmor         bool
	CgroupNamespaces bool
	IPv4Forwarding   bool

	// Sysctls tells which kernel parameters exist, of those that a container
	// gets without asking.
	Sysctls map[string]bool
	// ThermalThrottle lists the directories of that name below
	// /sys/devices/system/cpu, which tell of other containers' load.
	ThermalThrottle []string

	Lookup Lookup

	// The rest is the daemon's configuration.

	// SeccompProfile is "" for the built-in profile, "unconfined", or the text
	// of a profile.
	SeccompProfile string
	// AppArmorProfile is the profile that the daemon has loaded for containers
	// that name none; empty if there is none.
	AppArmorProfile string
	NoNewPrivileges bool
	ShmSize         int64 // 0 means 64 MiB
	IpcMode         container.IpcMode
	CgroupnsMode    container.CgroupnsMode
	Ulimits         map[string]*container.Ulimit
}

// Lookup answers questions about single paths of the host.
type Lookup interface {
	// Devices returns the device at a path, following a symbolic link, or those
	// below a directory. Path of each is relative to the path asked for: empty
	// for the device itself, "/sub/name" below a directory. There is at least
	// one unless err is not nil.
	Devices(path string) ([]specs.LinuxDevice, error)
	// AllDevices returns the devices below /dev that a privileged container
	// gets.
	AllDevices() ([]specs.LinuxDevice, error)
	// Propagation returns the mount that a path is on, and whether that mount
	// is shared or a slave.
	Propagation(path string) (mountPoint string, shared, slave bool, err error)
}

// Version2 tells whether the host has cgroup v2 alone.
func (h Host) Version2() bool { return h.Cgroup.Mode == cgroup.V2 }

// available returns the capabilities that a container can have: all that the
// kernel knows in a user namespace of its own, otherwise what the daemon has.
func (h Host) available(userNS bool) caps.Set {
	if userNS {
		return caps.UpTo(h.LastCap)
	}
	return caps.UpTo(h.LastCap) & h.Bounding
}
