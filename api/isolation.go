package api

// IsolationLive is how the kernel keeps the first process of a container apart from
// the host, at this moment.
type IsolationLive struct {
	Name    string `json:"Name"`
	Status  string `json:"Status"`
	HostPID int    `json:"HostPid"`
	// Privileged tells that most of what follows was given up on request.
	Privileged   bool             `json:"Privileged"`
	Namespaces   []Namespace      `json:"Namespaces"`
	UIDMap       []IDMapping      `json:"UidMap"`
	GIDMap       []IDMapping      `json:"GidMap"`
	Capabilities CapabilitySets   `json:"Capabilities"`
	NoNewPrivs   bool             `json:"NoNewPrivs"`
	Seccomp      IsolationSeccomp `json:"Seccomp"`
	// AppArmor is the profile with its mode; empty: none, or the host has no AppArmor.
	AppArmor      string   `json:"AppArmor,omitempty"`
	MaskedPaths   []string `json:"MaskedPaths"`
	ReadonlyPaths []string `json:"ReadonlyPaths"`
	ReadonlyRoot  bool     `json:"ReadonlyRoot"`
	OOMScoreAdj   int      `json:"OomScoreAdj"`
	// Limits are those of control groups as they count, with the groups around it.
	Limits  []Limit  `json:"Limits"`
	Rlimits []Rlimit `json:"Rlimits"`
	Mounts  []Mount  `json:"Mounts"`
	// Unknown is what could not be found out, and why.
	Unknown []string `json:"Unknown,omitempty"`
}

// Namespace is one namespace that a container is in.
type Namespace struct {
	Kind  string `json:"Kind"` // as in /proc/PID/ns: mnt, net, pid, …
	Inode uint64 `json:"Inode"`
	Host  bool   `json:"Host"` // it is the host's
	// SharedWith are the others in it: containers by name, and processes of the host as
	// "NAME (pid N on the host)". Of the host's own it is empty.
	SharedWith []string `json:"SharedWith,omitempty"`
}

// IDMapping is a line of a user namespace's map, see user_namespaces(7).
type IDMapping struct {
	Inside uint32 `json:"Inside"`
	Host   uint32 `json:"Host"`
	Size   uint32 `json:"Size"`
}

// CapabilitySets are those of a process, by name. Bounding is what any process of
// the container can get at most.
type CapabilitySets struct {
	Effective   []string `json:"Effective"`
	Permitted   []string `json:"Permitted"`
	Inheritable []string `json:"Inheritable"`
	Ambient     []string `json:"Ambient"`
	Bounding    []string `json:"Bounding"`
}

// IsolationSeccomp is the filter of system calls.
type IsolationSeccomp struct {
	Mode    string `json:"Mode"`              // disabled, strict or filter
	Filters int    `json:"Filters,omitempty"` // how many are stacked
	// Profile is builtin, unconfined or custom: what was asked for.
	Profile string `json:"Profile"`
}

// Limit is a limit of control groups. Values are in bytes for memory and swap, in
// thousandths of a processor for cpu, and numbers for pids.
type Limit struct {
	Name string `json:"Name"`
	// Value is the lowest of all groups around; nil: there is none.
	Value *uint64 `json:"Value"`
	// From is the group whose limit that is, or "the engine" if it gave the container what it did not ask for; Own tells
	// that it is the container's.
	From string  `json:"From,omitempty"`
	Own  bool    `json:"Own,omitempty"`
	Use  *uint64 `json:"Use,omitempty"`
	// Levels are all groups that have a limit, the innermost first.
	Levels []LimitLevel `json:"Levels,omitempty"`
}

// LimitLevel is the limit of one group.
type LimitLevel struct {
	Group string `json:"Group"`
	Value uint64 `json:"Value"`
}

// Rlimit is a limit of the first process, see getrlimit(2); "unlimited" or a number.
type Rlimit struct {
	Name string `json:"Name"` // as in /proc/PID/limits; of a container that does not run, as --ulimit has it
	Soft string `json:"Soft"`
	Hard string `json:"Hard"`
	Unit string `json:"Unit,omitempty"`
}
