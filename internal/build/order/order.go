// Package order has what a client orders to be built, and how that may fail. It
// stands apart from package build so that the API's server need not know
// BuildKit.
package order

import "github.com/portholehq/porthole/internal/image/remote"

// Options are those of the classic build, `POST /build`.
type Options struct {
	// ID is what the build is to be called, if no other is recorded by that name;
	// empty: the builder calls it something.
	ID         string
	Tags       []string
	Dockerfile string // path in the context; "Dockerfile" when empty
	// Remote is a URL of a context, in the place of a tar stream.
	Remote string
	// Quiet leaves nothing but the ID of the image.
	Quiet   bool
	NoCache bool
	Pull    bool
	Remove  bool // intermediate containers; there are none, but the text tells of them
	Target  string
	// Platform is "os/arch[/variant]", or empty for this machine.
	Platform    string
	BuildArgs   map[string]*string // nil: the daemon's environment, as with Docker's client
	Labels      map[string]string
	CacheFrom   []string
	Network     string // of RUN steps: default, bridge, host or none
	ExtraHosts  []string
	ShmSize     int64
	Ulimits     []string // as "nofile=1024:2048"
	Memory      int64    // bytes
	MemorySwap  int64
	CPUShares   int64
	CPUPeriod   int64
	CPUQuota    int64
	CPUSetCPUs  string
	CPUSetMems  string
	Credentials map[string]remote.Credentials // by domain, Docker Hub as docker.io
}

// Failure is a build that failed by its own fault. Code is the exit status of
// its RUN step, or 1.
type Failure struct {
	Message string
	Code    int
	Err     error // the cause
}

func (f *Failure) Error() string { return f.Message }
func (f *Failure) Unwrap() error { return f.Err }

// Prune selects what is removed of the build cache.
type Prune struct {
	All     bool // also what builds of the same Dockerfile would find
	Filters map[string][]string
	// Bytes: what is kept in any case, what may be used at most, and what has to
	// be free on the disk. Zero: does not matter.
	Reserved, MaxUsed, MinFree int64
}

// Debug says where a build stops for its debugger, besides where it fails.
type Debug struct {
	// Lines of the Dockerfile, from 1: the build stops in the instruction there,
	// or the next one.
	Lines []int
	// Step stops before the first instruction.
	Step bool
	// Secrets are for RUN --mount=type=secret, by their IDs.
	Secrets map[string][]byte
}
