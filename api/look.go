package api

import "time"

// ContainerProcesses are the processes of one container. GET /porthole/processes
// lists those of all that run, newest container first. Parameters: filters as of
// GET /containers/json, all=1 for containers that do not run as well.
type ContainerProcesses struct {
	ContainerID string `json:"ContainerId"`
	Name        string `json:"Name"`
	Image       string `json:"Image"`
	Status      string `json:"Status"` // Docker's, such as "running"
	// Processes are in the order of their tree; none if it does not run.
	Processes []Process `json:"Processes"`
	// Unknown is why they are not known; empty: they are.
	Unknown string `json:"Unknown,omitempty"`
}

// Process is one process of a container.
type Process struct {
	HostPID    int `json:"HostPid"`
	PID        int `json:"Pid"`        // as the container counts
	HostParent int `json:"HostParent"` // on the host; it may be no process of the container
	// ExecID is the exec that has started it; empty: none, or it descends from one.
	ExecID  string `json:"ExecId,omitempty"`
	User    string `json:"User"`    // by the container's name for it, or else as a number
	UID     uint32 `json:"Uid"`     // in the container
	HostUID uint32 `json:"HostUid"` // on the host
	State   string `json:"State"`   // one letter, as in ps(1)
	Threads int    `json:"Threads"`
	// CPUMicroseconds is processor time that it has spent.
	CPUMicroseconds int64     `json:"CPUMicroseconds"`
	RSSBytes        int64     `json:"RSSBytes"`
	StartedAt       time.Time `json:"StartedAt"`
	Name            string    `json:"Name"`
	Command         string    `json:"Command"`
	// Stem is what stands in front of it in a tree.
	Stem string `json:"Stem,omitempty"`
}

// Holder is a descriptor by which a process has something open.
type Holder struct {
	HostPID int    `json:"HostPid"`
	PID     int    `json:"Pid"` // as the container counts
	FD      int    `json:"Fd"`
	Name    string `json:"Name"` // of the process, its short one
}

// Sockets answers GET /porthole/containers/{id}/sockets: what the processes of a
// container have open. With all=1 also what others have open in its network
// namespace: of containers that share it, of the engine, or of nobody, as a
// connection that is being closed.
type Sockets struct {
	Sockets []Socket `json:"Sockets"`
	// Shared tells whose network it is, if it is not the container's own: "host" or
	// "container:NAME".
	Shared string `json:"Shared,omitempty"`
	// Others is how many sockets there are in the network namespace that are not
	// listed.
	Others int `json:"Others"`
	// Unknown is what could not be found out, and why.
	Unknown []string `json:"Unknown,omitempty"`
}

// Socket is one socket.
type Socket struct {
	// Protocol is tcp, tcp6, udp, udp6, unix, unix-dgram or unix-seqpacket.
	Protocol string `json:"Protocol"`
	// State is LISTEN, ESTAB and so on as in ss(8); UNCONN for one without a peer.
	State string `json:"State"`
	// Local and Remote are ADDRESS:PORT. Local of a unix socket is its path, or its
	// abstract name behind an @; its Remote is empty.
	Local  string `json:"Local"`
	Remote string `json:"Remote,omitempty"`
	// Peer is the container at the other end, by name, if it is known.
	Peer string `json:"Peer,omitempty"`
	// PeerHolders are the processes of this container at the other end of a unix
	// socket.
	PeerHolders []Holder `json:"PeerHolders,omitempty"`
	// RecvQueue is bytes that the process has not read yet, or, of one that listens,
	// connections that it has not accepted yet. SendQueue is bytes that the other
	// side has not acknowledged yet, or how many connections may wait.
	RecvQueue uint32 `json:"RecvQueue"`
	SendQueue uint32 `json:"SendQueue"`
	Inode     uint32 `json:"Inode"` // 0: it belongs to no process any more
	HostUID   uint32 `json:"HostUid"`
	// Holders are the descriptors of the container's processes that refer to it.
	Holders []Holder `json:"Holders"`
	// Of TCP: the smoothed round trip time, and segments that were sent again; absent
	// for one that listens.
	RTTMicroseconds uint32 `json:"RTTMicroseconds,omitempty"`
	Retransmits     uint32 `json:"Retransmits,omitempty"`
}

// OpenFiles answers GET /porthole/containers/{id}/files: what the processes of a
// container have open. With mapped=1 also the files that they have mapped into
// their memory, such as libraries.
type OpenFiles struct {
	Files  []OpenFile   `json:"Files"`
	Mapped []MappedFile `json:"Mapped,omitempty"`
	// DeletedBytes are taken up by files that have no name any more; each is counted
	// once.
	DeletedBytes int64 `json:"DeletedBytes"`
	// Unknown is what could not be found out, and why.
	Unknown []string `json:"Unknown,omitempty"`
}

// OpenFile is one descriptor of a process.
type OpenFile struct {
	Holder
	// Type is file, dir, link, pipe, fifo, socket, char, block, memfd or anon; "cwd",
	// "root" and "exe" (with FD -1) are what they say.
	Type string `json:"Type"`
	// Mode is r, w or rw, with a "+a" for appending; empty: only a path (O_PATH).
	Mode   string `json:"Mode"`
	Offset int64  `json:"Offset"`
	// Size in bytes; 0 for what has none.
	Size int64 `json:"Size"`
	// Path is as the process's mount namespace has it; of a socket what it is.
	Path    string `json:"Path"`
	Inode   uint64 `json:"Inode,omitempty"`
	Deleted bool   `json:"Deleted,omitempty"`
	// Peers are the other ends of a pipe in this container.
	Peers []Holder `json:"Peers,omitempty"`
}

// MappedFile is a file that processes have mapped.
type MappedFile struct {
	Path string `json:"Path"`
	// Deleted tells that the file has been removed or replaced since.
	Deleted bool `json:"Deleted,omitempty"`
	// Executable tells that code of it can be run, as of a program or a library.
	Executable bool   `json:"Executable"`
	Inode      uint64 `json:"Inode"`
	// Processes are those that have it mapped, as the container counts.
	Processes []int `json:"Processes"`
}
