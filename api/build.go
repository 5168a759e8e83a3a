package api

import "time"

// The states of a build and of its steps.
const (
	BuildRunning  = "running"
	BuildDone     = "done"
	BuildFailed   = "failed"
	BuildCanceled = "canceled"
	// BuildInterrupted is a build that the daemon's death has ended.
	BuildInterrupted = "interrupted"

	// StepWaiting is a step whose turn has not come, of a build that runs.
	StepWaiting = "waiting"
	StepCached  = "cached"
	// StepNotRun is a step that a build has ended without.
	StepNotRun = "not run"
)

// Build is the record of one build. GET /porthole/builds lists them, newest
// first, without Text and Steps; GET /porthole/builds/{id} is one of them with
// all of it. {id} is an ID, the beginning of one, or "last".
type Build struct {
	ID string `json:"Id"`
	// Door is how it was asked for: "classic" by POST /build, "buildkit" by
	// BuildKit's API, "debug" by POST /porthole/build/debug.
	Door      string    `json:"Door"`
	State     string    `json:"State"`
	CreatedAt time.Time `json:"CreatedAt"`
	EndedAt   time.Time `json:"EndedAt,omitzero"`
	By        *Actor    `json:"By,omitempty"` // who asked for it; nil: not known

	// Context is a URL, or empty for files that the client has sent.
	Context    string `json:"Context,omitempty"`
	Dockerfile string `json:"Dockerfile,omitempty"` // its name, as the client gave it
	Text       string `json:"Text,omitempty"`       // of the Dockerfile, at most 1 MiB
	Target     string `json:"Target,omitempty"`
	// Args are the build arguments. A value whose name says that it is secret
	// is not kept: it is "***".
	Args      map[string]string `json:"Args,omitempty"`
	Platforms []string          `json:"Platforms,omitempty"` // empty: this machine's
	Tags      []string          `json:"Tags,omitempty"`

	// Image is the ID of the image it has led to.
	Image string `json:"Image,omitempty"`
	// Error is why it failed, and ExitCode what its step ended with, if it was
	// that.
	Error    string `json:"Error,omitempty"`
	ExitCode int    `json:"ExitCode,omitempty"`

	Total  int `json:"Total"`  // steps, but for those of BuildKit's own
	Cached int `json:"Cached"` // of them
	// Before is the ID of the build that the causes of the steps are told
	// against: the newest earlier one of the same thing. Empty: there was none.
	Before string `json:"Before,omitempty"`
	// Steps are in the order of the Dockerfile; those of BuildKit's own follow.
	Steps []BuildStep `json:"Steps,omitempty"`
}

// BuildStep is one instruction of a build that makes or fetches something: a
// vertex, as BuildKit calls it.
type BuildStep struct {
	// Number is from 1; 0: it is BuildKit's own, such as the transfer of the
	// context.
	Number int `json:"Number"`
	// Vertex is BuildKit's name of it, a digest. It is the same in another build
	// only if nothing comes from a client.
	Vertex string `json:"Vertex"`
	Name   string `json:"Name"` // as clients show it: "[2/3] RUN make"
	// File, First and Last are where the instruction stands, and Instruction is
	// what stands there, on one line. 0 and empty: nowhere.
	File        string `json:"File,omitempty"`
	First       int    `json:"First,omitempty"`
	Last        int    `json:"Last,omitempty"`
	Instruction string `json:"Instruction,omitempty"`
	// Runs tells that it is a process: a RUN.
	Runs bool `json:"Runs,omitempty"`

	State     string    `json:"State"`
	StartedAt time.Time `json:"StartedAt,omitzero"`
	EndedAt   time.Time `json:"EndedAt,omitzero"`
	Error     string    `json:"Error,omitempty"`
	// Causes are why it was done, or was not. They are known when the build has
	// ended; a step without a number has none.
	Causes []BuildCause `json:"Causes,omitempty"`

	// ID names the file system that the step has led to, which can be entered as
	// step:ID while the build cache has it. Empty: there is none. It is Process,
	// if the step was executed.
	ID string `json:"Id,omitempty"`
	// Process is the ID of the process that ran, and of its log. Empty: none did.
	Process string `json:"Process,omitempty"`
	// What follows is of that process.
	Command     []string `json:"Command,omitempty"`
	Ended       bool     `json:"Ended,omitempty"`
	ExitCode    int      `json:"ExitCode,omitempty"`
	OOMKilled   bool     `json:"OOMKilled,omitempty"`
	MemoryLimit int64    `json:"MemoryLimit,omitempty"` // bytes; 0: none
	// Reason is why it failed, in one line, where more is known than its code.
	Reason string `json:"Reason,omitempty"`
}

// BuildProcess is a process of a build: GET /porthole/steps lists those that run,
// and with all=1 those of the newest builds that have ended.
type BuildProcess struct {
	Build string `json:"Build"` // the ID of its build
	BuildStep
}

// ran is how long a step or a build took, or has taken so far; 0: it did not.
func ran(start, end time.Time, running bool) time.Duration {
	switch {
	case start.IsZero():
		return 0
	case !end.IsZero():
		return max(end.Sub(start), 0)
	case running:
		return time.Since(start)
	}
	return 0
}

// Took is how long it took, or has taken so far; 0: it never began.
func (s *BuildStep) Took() time.Duration {
	return ran(s.StartedAt, s.EndedAt, s.State == BuildRunning)
}

// Took is how long it took, or has taken so far.
func (b *Build) Took() time.Duration { return ran(b.CreatedAt, b.EndedAt, b.State == BuildRunning) }

// Step finds a step by its number; nil: there is none.
func (b *Build) Step(n int) *BuildStep {
	for i := range b.Steps {
		if n > 0 && b.Steps[i].Number == n {
			return &b.Steps[i]
		}
	}
	return nil
}
