package api

// BuildSecretsHeader is the header of a request for a build that is debugged with
// its secrets: a JSON object of base64 by ID, as base64url.
const BuildSecretsHeader = "Porthole-Build-Secrets"

// BuildDebug is what a build that is debugged sends in its stream, as the
// member "aux" of a message, besides the image's ID in the end.
type BuildDebug struct {
	Debug BuildDebugEvent `json:"debug"`
}

// BuildDebugEvent tells what a build that is debugged does.
type BuildDebugEvent struct {
	// Session names it in the endpoints for its debugger.
	Session string `json:"session"`
	// Stop is where it has stopped; nil: it goes on.
	Stop *BuildStop `json:"stop,omitempty"`
}

// Why a build stops for its debugger.
const (
	BuildStopFailure    = "failure"    // the instruction failed
	BuildStopBreakpoint = "breakpoint" // it is in a line that was to be stopped at
	BuildStopStep       = "step"       // the one before was to be done only
)

// BuildStop is where a build has stopped: at an instruction that is still to be
// done, or that has failed.
type BuildStop struct {
	Reason string `json:"reason"`
	File   string `json:"file"`
	// Line and End are the first and the last line of the instruction, from 1.
	Line        int    `json:"line"`
	End         int    `json:"end"`
	Index       int    `json:"index"` // of the instruction, from 1
	Total       int    `json:"total"`
	Instruction string `json:"instruction"`
	// Live tells that it is inside of the instruction's step, with all mounts of
	// that: what is changed there is kept when the build goes on. Otherwise it is
	// before the instruction, and what is changed is thrown away.
	Live bool `json:"live"`
	// Exit is the exit code of a step that failed, Error why the instruction did
	// otherwise, Cause which command of the step it was and how.
	Exit  int    `json:"exit,omitempty"`
	Error string `json:"error,omitempty"`
	Cause string `json:"cause,omitempty"`
	// Repaired tells that files were changed by hand, so that the build's cache
	// for others is left alone.
	Repaired bool `json:"repaired,omitempty"`

	Args   map[string]string `json:"args,omitempty"` // of the build
	Env    []string          `json:"env"`
	User   string            `json:"user,omitempty"`
	Cwd    string            `json:"cwd,omitempty"`
	Mounts []BuildMount      `json:"mounts"`
}

// BuildMount is what a step has mounted besides its root.
type BuildMount struct {
	Destination string `json:"destination"`
	Type        string `json:"type"` // bind, tmpfs, or overlay for files of another stage
	RW          bool   `json:"rw"`
}

// The verbs of a [BuildCommand]. The first five make the build go on.
const (
	BuildNext     = "next"     // do the instruction, stop before the next
	BuildContinue = "continue" // go on to the next reason to stop
	BuildBack     = "back"     // stop before the instruction before
	BuildRetry    = "retry"    // do the failed instruction again
	BuildEdit     = "edit"     // put Text in the instruction's place, do that

	BuildWhere  = "where"  // tell the stop
	BuildText   = "text"   // tell the Dockerfile as it is now
	BuildBreaks = "breaks" // Lines are where to stop, in place of those before
	BuildFiles  = "files"  // tell what is in the directory Path, or the file there
	BuildQuit   = "quit"   // end the build
)

// BuildCommand is what a debugger tells a build.
type BuildCommand struct {
	Verb string `json:"verb"`
	Text string `json:"text,omitempty"`
	// Clean makes retry begin with the files from before the instruction.
	Clean bool   `json:"clean,omitempty"`
	Lines []int  `json:"lines,omitempty"`
	Path  string `json:"path,omitempty"`
}

// BuildAnswer is what a build answers its debugger.
type BuildAnswer struct {
	Stop *BuildStop `json:"stop,omitempty"`
	Text string     `json:"text,omitempty"`
	// Instructions are of the Dockerfile, in its order; for BuildText.
	Instructions []BuildInstruction `json:"instructions,omitempty"`
	// Lines are the lines of instructions that can be stopped at, one for each
	// that was asked for; 0: there is none. For BuildBreaks.
	Lines []int       `json:"lines,omitempty"`
	Files []BuildFile `json:"files,omitempty"`
	// History are the commands that were run in the step where the build stops,
	// as far as their shell tells. For BuildText.
	History []string `json:"history,omitempty"`
}

// BuildInstruction is one of a Dockerfile.
type BuildInstruction struct {
	Line int    `json:"line"`
	End  int    `json:"end"`
	Text string `json:"text"`
	Done bool   `json:"done"`
}

// BuildFile is a file of a step.
type BuildFile struct {
	Name string `json:"name"`
	Mode string `json:"mode"` // as of ls
	Size int64  `json:"size"`
	UID  uint32 `json:"uid"`
	GID  uint32 `json:"gid"`
	Link string `json:"link,omitempty"`
}

// BuildExec is a process that is run where a build has stopped.
type BuildExec struct {
	// Command is what is run; empty: a shell.
	Command []string `json:"command,omitempty"`
	TTY     bool     `json:"tty,omitempty"`
	Height  uint16   `json:"height,omitempty"`
	Width   uint16   `json:"width,omitempty"`
	User    string   `json:"user,omitempty"` // empty: the step's
}
