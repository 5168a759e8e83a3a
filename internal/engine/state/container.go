package state

import (
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/event"
)

// Container is the saved record of one container. The engine never changes a record it has published: it copies the
// struct (a shallow copy), changes the copy and puts that. What the pointers, slices and maps lead to is shared between
// the copies and therefore never written to.
type Container struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"` // without the leading slash
	Created time.Time `json:"created"`

	// What was asked for, merged with the image's configuration.
	Config     *container.Config                    `json:"config"`
	HostConfig *container.HostConfig                `json:"host_config"`
	Networks   map[string]*network.EndpointSettings `json:"networks,omitempty"`

	// What it was made from.
	ImageID  string              `json:"image_id"`
	Platform ocispec.Platform    `json:"platform"`
	Manifest *ocispec.Descriptor `json:"manifest,omitempty"`

	// What was decided when it was created.
	Path        string    `json:"path"`
	Args        []string  `json:"args"`
	Mounts      []Mount   `json:"mounts,omitempty"`
	IDs         IDRange   `json:"ids"`
	UsernsNote  string    `json:"userns_note,omitempty"` // why the host's user namespace is used
	ResolvedPID Reference `json:"pid_of,omitzero"`
	ResolvedIPC Reference `json:"ipc_of,omitzero"`
	ResolvedNet Reference `json:"net_of,omitzero"`

	// Its life so far.
	Life Life `json:"life"`
}

// Reference is the id of another container whose namespace is joined; empty: none.
type Reference string

// IDRange is the range of host ids that a container's ids 0..Size-1 stand for. Size 0: the host's user namespace.
type IDRange struct {
	Host uint32 `json:"host"`
	Size uint32 `json:"size"`
}

// Life is the part of a record that changes while the container lives.
type Life struct {
	Status       Status    `json:"status"`
	ExitCode     int       `json:"exit_code"`
	Signal       int       `json:"signal,omitempty"`
	Error        string    `json:"error,omitempty"` // of the last start
	OOMKilled    bool      `json:"oom_killed,omitempty"`
	StartedAt    time.Time `json:"started_at,omitzero"`
	FinishedAt   time.Time `json:"finished_at,omitzero"`
	RestartCount int       `json:"restart_count,omitempty"`
	Stopped      bool      `json:"stopped,omitempty"` // by a person: blocks the restart policy
	Copied       bool      `json:"copied,omitempty"`  // volumes have been filled from the image
	Kept         bool      `json:"kept,omitempty"`    // nobody who made it to run at once: --rm waits for its first end

	Run     int    `json:"run,omitempty"`      // number of the last run; 0: there was none
	Runs    []Run  `json:"runs,omitempty"`     // the last ones, the oldest first
	Asked   *Asked `json:"asked,omitempty"`    // last, of the present run; nil: nothing
	OOMTold int    `json:"oom_told,omitempty"` // kills of the present run that an event has told of
	// Once is what the present or last run had in place of Config, without a restart policy; nil: it had that.
	Once *container.Config `json:"once,omitempty"`
	// Removal is what is to be done when the present run ends: its processes did not end when it was asked for; nil: nothing.
	Removal *Removal `json:"removal,omitempty"`
	// Grafts are those of the present run, and where there was one in earlier ones.
	Grafts []Graft `json:"grafts,omitempty"`
}

// Removal is a removal by force that waits for the end of what no signal reaches.
type Removal struct {
	Volumes bool          `json:"volumes,omitempty"` // its anonymous volumes go as well
	At      time.Time     `json:"at"`
	By      *event.Origin `json:"by,omitempty"` // nil: the daemon itself
}

// Graft is a directory or file of the host that was mounted into a container while it ran. It lasts as long as the run.
type Graft struct {
	Run         int       `json:"run"`
	Source      string    `json:"source"` // on the host
	Destination string    `json:"destination"`
	RW          bool      `json:"rw"`
	Since       time.Time `json:"since"`
	MountID     uint64    `json:"mount_id"`       // the kernel's, see statx(2)
	Made        []string  `json:"made,omitempty"` // what was made of Destination to mount it there, outermost first
}

// Status is the state of a container, with Docker's names.
type Status = container.ContainerState

// Mount is one mount that the user or the image asked for, resolved.
type Mount struct {
	Type        mount.Type        `json:"type"`
	Name        string            `json:"name,omitempty"`   // of a volume; of an image as it was asked for
	Source      string            `json:"source,omitempty"` // on the host; of a volume its directory; the ID of an image
	Destination string            `json:"destination"`
	Driver      string            `json:"driver,omitempty"`
	Mode        string            `json:"mode,omitempty"` // options as the user gave them
	RW          bool              `json:"rw"`
	Propagation mount.Propagation `json:"propagation,omitempty"`
	Anonymous   bool              `json:"anonymous,omitempty"` // the volume goes with the container
	CopyUp      bool              `json:"copy_up,omitempty"`   // fill the volume from the image if it is empty
	// Subpath is what of Source is mounted, if not all. It may be in the hands of a container: to be opened beneath Source
	// by [mount.OpenSource], never to be joined with it.
	Subpath      string            `json:"subpath,omitempty"`
	MakeSource   bool              `json:"make_source,omitempty"` // make a missing source directory, as -v does
	VolumeLabels map[string]string `json:"volume_labels,omitempty"`
	// VolumeOptions are the driver's, of a volume that was made for the container.
	VolumeOptions map[string]string `json:"volume_options,omitempty"`

	// SwapOwner shows what belongs to the owner of the source as the container's user's, and the other way round.
	SwapOwner bool `json:"swap_owner,omitempty"`

	NonRecursive         bool     `json:"non_recursive,omitempty"`
	ReadOnlyNonRecursive bool     `json:"ro_non_recursive,omitempty"`
	ReadOnlyForce        bool     `json:"ro_force,omitempty"` // fail if it cannot be made recursively read-only
	Options              []string `json:"options,omitempty"`  // of a tmpfs
	FromImage            bool     `json:"from_image,omitempty"`
}
