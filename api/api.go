// Package api holds the wire types of Porthole's own endpoints, those below
// /porthole/, and of the few things Porthole adds to Docker's.
//
// The types of the Docker Engine API come from github.com/moby/moby/api and are
// not repeated here. New facts about Docker's objects go into endpoints and
// types of this package, so that Docker's clients keep working.
package api

import (
	"encoding/json"
	"time"
)

// ErrorHeader is the response header that repeats an [Error] as ASCII JSON.
//
// It exists for clients which see the headers of an answer but not its body: a
// refused attach or exec, and the response hooks of Docker's client library.
const ErrorHeader = "Porthole-Error"

// MissingLinesHeader is the response header that tells, for a container's logs,
// how many lines at their beginning were rotated away.
const MissingLinesHeader = "Porthole-Missing-Lines"

// Error is the body of every answer with a status of 400 or more. Docker's
// clients read Message only.
type Error struct {
	Message string `json:"message"`
	// Hint names the next thing to try, in one line. Empty when there is none.
	Hint string `json:"hint,omitempty"`
}

// Step is one named step of a container's start and the time it took.
type Step struct {
	Name         string `json:"Name"`
	Microseconds int64  `json:"Microseconds"`
}

// IDRange is a range of the host's user and group ids.
type IDRange struct {
	Host uint32 `json:"Host"` // what id 0 of the container is on the host
	Size uint32 `json:"Size"`
}

// Isolation tells how a container is kept apart from the host: its user
// namespace, and of a running one the compiled plan that the stage has executed
// and what each step took. Of one that does not run, all is as it would be if it
// were started now.
type Isolation struct {
	// ID is the container's name or id as it was asked for.
	ID string `json:"Id"`
	// IDs is nil for a container in the host's user namespace.
	IDs *IDRange `json:"IDs"`
	// UsernsNote tells why it is the host's, if nobody asked for that.
	UsernsNote string `json:"UsernsNote,omitempty"`
	// Plan is the compiled isolation plan, a document of internal/runtime/plan.
	// Null for one that an earlier daemon process has started, and for one that
	// could not be started now. Of a container that does not run it is what the
	// next start would do; no mount's source has been looked at for it.
	Plan json.RawMessage `json:"Plan"`
	// Steps are in the order in which they were taken.
	Steps []Step `json:"Steps"`
	// Warnings are the deviations from what was asked, in words.
	Warnings []string `json:"Warnings,omitempty"`
	// Live is what the kernel tells of a container that runs; nil: it does not.
	Live *IsolationLive `json:"Live,omitempty"`
	// Expected is the same of a container that does not run, by what it would be
	// started with: without process, numbers of namespaces, and what is in use.
	Expected *IsolationLive `json:"Expected,omitempty"`
	// NoStart is why it could not be started now; empty: nothing is known to be in
	// the way, or it runs.
	NoStart string `json:"NoStart"`
}

// Operation is one request that the daemon is working on.
type Operation struct {
	ID     uint64    `json:"Id"`
	Method string    `json:"Method"`
	Path   string    `json:"Path"`
	Since  time.Time `json:"Since"`
	// AgeMilliseconds is the time the operation has run when it was asked.
	AgeMilliseconds int64 `json:"AgeMilliseconds"`
	// Peer is the client: pid, uid and command for a unix socket, the address
	// otherwise.
	Peer string `json:"Peer"`
	// Hijacked is set for attach and exec once their stream is open.
	Hijacked bool `json:"Hijacked,omitempty"`
}

// EngineOperation is something that the engine has under way, from before its
// first wait to its end: a request that changes a container or needs its
// processes, or what the daemon does by itself. What merely goes on, such as an
// attached stream or a running exec, is none.
type EngineOperation struct {
	ID uint64 `json:"Id"`
	// Verb is what is done, as people would say it: "start", "exec start".
	Verb string `json:"Verb"`
	// Container is the id of the container; empty if it is about none, or one that
	// does not exist yet.
	Container string `json:"Container,omitempty"`
	Name      string `json:"Name,omitempty"`
	// By is who asked for it; nil if it was the daemon itself, or is not known.
	By    *Actor    `json:"By,omitempty"`
	Since time.Time `json:"Since"`
	// AgeMilliseconds is the time it has taken when it was asked.
	AgeMilliseconds int64 `json:"AgeMilliseconds"`
	// Slow is set once it has taken longer than anything usually does, 10 s.
	Slow bool `json:"Slow,omitempty"`
	// WaitsFor is another operation on the container that has to end first.
	WaitsFor string `json:"WaitsFor,omitempty"`
}

// Fd is one open file descriptor of the daemon.
type Fd struct {
	Fd int `json:"Fd"`
	// Target is what /proc/self/fd names.
	Target string `json:"Target"`
}

// Daemon is what the daemon's inspector shows of itself.
type Daemon struct {
	Pid              int         `json:"Pid"`
	Version          string      `json:"Version"`
	StartedAt        time.Time   `json:"StartedAt"`
	ReadyAfterMicros int64       `json:"ReadyAfterMicroseconds"`
	Goroutines       int         `json:"Goroutines"`
	HeapBytes        uint64      `json:"HeapBytes"`
	RSSBytes         uint64      `json:"RSSBytes"`
	Requests         uint64      `json:"Requests"`
	Operations       []Operation `json:"Operations"`
	Fds              []Fd        `json:"Fds"`
	// Parts is what the daemon's parts tell of themselves: queues, followers,
	// adopted containers; keyed by part.
	Parts map[string]any `json:"Parts,omitempty"`
}

// DiskAccount is how many bytes below the data root are whose.
type DiskAccount struct {
	// Owner is the kind of thing: image, container, volume, build-cache,
	// journal, death-records, database, network, daemon, unfinished, removing or
	// orphan.
	Owner string `json:"Owner"`
	// ID and Name tell which image, container or volume it is; Part what of it.
	ID   string `json:"ID,omitempty"`
	Name string `json:"Name,omitempty"`
	Part string `json:"Part,omitempty"`
	// Users are the names of those that share it, if it is not one's alone.
	Users []string `json:"Users,omitempty"`
	// Path is where it is, below the data root: the first of Paths places.
	Path  string `json:"Path"`
	Paths int    `json:"Paths"`
	// Bytes are those that are allocated on the disk.
	Bytes int64 `json:"Bytes"`
	// Unread is the number of directories in it that could not be looked into.
	Unread     int       `json:"Unread,omitempty"`
	MeasuredAt time.Time `json:"MeasuredAt"`
}

// DiskLedger is whose all the bytes below the data root are. TotalBytes is the
// sum of the accounts' and what `du -sx` says of the data root.
type DiskLedger struct {
	Root       string        `json:"Root"`
	TakenAt    time.Time     `json:"TakenAt"`
	TotalBytes int64         `json:"TotalBytes"`
	Accounts   []DiskAccount `json:"Accounts"`
}

// OrphansPruned tells what was removed because it had no owner.
type OrphansPruned struct {
	Removed        []DiskAccount `json:"Removed"`
	SpaceReclaimed int64         `json:"SpaceReclaimed"`
}

// Info is what "info" tells beyond Docker's fields.
type Info struct {
	Isolation InfoIsolation `json:"Isolation"`
	Cgroup    InfoCgroup    `json:"Cgroup"`
	Journal   InfoJournal   `json:"Journal"`
	Log       InfoLog       `json:"Log"`
	Evidence  InfoEvidence  `json:"Evidence"`
	Security  InfoSecurity  `json:"Security"`
}

// InfoEvidence is what the kernel is watched for.
type InfoEvidence struct {
	// Signals tells whether it is known who sends signals to containers, and from
	// what; if not, SignalsWhy says what is missing.
	Signals    string `json:"Signals,omitempty"`
	SignalsWhy string `json:"SignalsWhy,omitempty"`
	// SignalsSeen are those to processes of containers since the daemon began;
	// SignalsLost of them could not be remembered.
	SignalsSeen uint64 `json:"SignalsSeen"`
	SignalsLost uint64 `json:"SignalsLost"`
	// Cores tells whether the cores of processes that crash in containers are kept;
	// CoresWhy why not, if the daemon was asked to.
	Cores    bool   `json:"Cores"`
	CoresWhy string `json:"CoresWhy,omitempty"`
	// DeedsSeen are programs, ends, signals and connections of containers that were
	// told of; DeedsLost were not, because one did more in a second than is kept.
	DeedsSeen uint64 `json:"DeedsSeen"`
	DeedsLost uint64 `json:"DeedsLost"`
}

// InfoIsolation is how containers are kept apart unless they say otherwise.
type InfoIsolation struct {
	// UserNamespaces tells whether each container has a range of ids of its own,
	// with its files ID-mapped; if not, Why says what is missing.
	UserNamespaces   bool   `json:"UserNamespaces"`
	Why              string `json:"Why,omitempty"`
	IDsPerContainer  int    `json:"IDsPerContainer,omitempty"`
	Seccomp          string `json:"Seccomp,omitempty"`
	AppArmorProfile  string `json:"AppArmorProfile,omitempty"`
	CgroupNamespaces bool   `json:"CgroupNamespaces"`
}

// InfoCgroup is where containers' control groups are.
type InfoCgroup struct {
	Mode   string `json:"Mode"` // as "cgroup v2" or "cgroup v1 hybrid"
	Parent string `json:"Parent"`
}

// InfoJournal is what is kept of events, and its bounds.
type InfoJournal struct {
	First         uint64 `json:"First"`
	Last          uint64 `json:"Last"`
	Segments      int    `json:"Segments"`
	MaxSegments   int    `json:"MaxSegments"`
	MaxSize       int64  `json:"MaxSize"` // of a segment, in bytes
	MaxAgeSeconds int64  `json:"MaxAgeSeconds"`
}

// InfoLog is how much is kept of the output of a container that does not say.
type InfoLog struct {
	MaxSize  int64 `json:"MaxSize"` // of a file, in bytes; negative: not bounded
	MaxFiles int   `json:"MaxFiles"`
	Compress bool  `json:"Compress"`
}

// CreatedHeader is the response header of an attached POST
// /porthole/containers/run that holds the answer of Docker's POST
// /containers/create as ASCII JSON.
const CreatedHeader = "Porthole-Created"

// EndFrame is the stream number of the last frame of an attached run or exec,
// behind Docker's frames of output (1 and 2). Its payload is an [End].
const EndFrame = 4

// End tells how a run or exec has ended.
type End struct {
	ExitCode int `json:"ExitCode"`
	// Refused is why it was not started; nil: it was.
	Refused *Refused `json:"Refused,omitempty"`
	// WaitError is why its end was not to be had, as in Docker's wait.
	WaitError string `json:"WaitError,omitempty"`
	// Detached is set when the detach keys have ended the attachment.
	Detached bool `json:"Detached,omitempty"`
	// Hint names the next thing to try after an exec that could not be executed,
	// which its output tells.
	Hint string `json:"Hint,omitempty"`
}

// Refused is an error that came too late to be the answer, with the status that
// it would have had.
type Refused struct {
	Error
	Status int `json:"status"`
}

// Started answers a POST /porthole/containers/run without streams.
type Started struct {
	ID       string   `json:"Id"`
	Warnings []string `json:"Warnings"`
	// Refused is why the container was created but not started; nil: it was.
	Refused *Refused `json:"Refused,omitempty"`
}
