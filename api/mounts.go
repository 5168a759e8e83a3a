package api

// Mounts is what GET /porthole/containers/{id}/mounts answers: what is mounted in
// a container, and whether that still is what its source has.
type Mounts struct {
	ContainerID string `json:"ContainerID"`
	Name        string `json:"Name"`
	Status      string `json:"Status"` // of the container, as in inspect
	// Mounts are those that were asked for, by destination, and after them, if
	// wanted, all others that there are.
	Mounts []Mount `json:"Mounts"`
}

// The states of a mount.
const (
	MountOK             = "mounted"
	MountNotMounted     = "not mounted"     // the container does not run
	MountSourceMissing  = "source missing"  // the container does not run, and cannot be started
	MountSourceReplaced = "source replaced" // another file or directory has its name by now
	MountSourceDeleted  = "source deleted"
	MountShadowed       = "shadowed"  // by another mount, on it or above it
	MountUnmounted      = "unmounted" // in the container
	MountNoAnswer       = "no answer" // the filesystem does not answer
	MountUnknown        = "unknown"   // it could not be looked at, see Note
)

// Mount is one mount of a container.
type Mount struct {
	Destination string `json:"Destination"`
	// Kind is bind, volume, tmpfs or image; for those that nobody asked for the
	// name of the filesystem.
	Kind string `json:"Kind"`
	Name string `json:"Name,omitempty"` // of a volume or image
	// Source is the path on the host; of a volume its directory, of an image its ID.
	Source  string `json:"Source,omitempty"`
	Subpath string `json:"Subpath,omitempty"` // what of it is mounted, if not all

	State string   `json:"State"`
	Note  string   `json:"Note,omitempty"` // what else there is to say, for people
	Next  []string `json:"Next,omitempty"` // what to try

	ReadOnly    bool   `json:"ReadOnly"`
	Propagation string `json:"Propagation,omitempty"` // private, shared, slave, shared,slave
	// The rest is not known of a mount that cannot be seen. Options are the
	// kernel's, of the mount and then of its filesystem.
	Filesystem string      `json:"Filesystem,omitempty"`
	Options    []string    `json:"Options,omitempty"`
	Owner      *MountOwner `json:"Owner,omitempty"`
	Space      *MountSpace `json:"Space,omitempty"`
	// UsedBy are the other containers that have the volume, by name.
	UsedBy []string `json:"UsedBy,omitempty"`
}

// MountOwner is whose a mount's topmost directory, or file, is.
type MountOwner struct {
	UID, GID         uint32 // as the container sees them
	HostUID, HostGID uint32 // on the source
	Mode             string // octal, as "0755"
}

// MountSpace is the room of a filesystem, in bytes and in files.
type MountSpace struct {
	Size, Free    uint64
	Inodes, IFree uint64 // 0 where the filesystem has no bound
}

// Trouble tells that a mount is not what was asked for.
func (m *Mount) Trouble() bool { return m.State != MountOK && m.State != MountNotMounted }
