package api

// Why a step of a build was or was not done: the kinds of a [BuildCause].
const (
	CauseHit         = "hit"         // its result was in the cache
	CauseFirst       = "first"       // there is no earlier build to compare with
	CauseNew         = "new"         // the build before has no such instruction
	CauseInstruction = "instruction" // another stands in its place
	CauseArgument    = "argument"    // the value of build argument Name
	CauseEnv         = "environment" // the value of environment variable Name
	CauseBase        = "base"        // the image or URL that it fetches
	CauseSame        = "same"        // it fetches what the build before has fetched
	CauseMount       = "mount"       // the mount at Name
	CauseSetting     = "setting"     // what else it is run with: Name
	CauseFiles       = "files"       // Files of the context
	CauseParent      = "parent"      // step Step, which it starts or copies from
	CausePruned      = "pruned"      // nothing: its result is not in the cache any more
	CauseNoCache     = "no-cache"    // it was not to be looked for
	CauseBefore      = "before"      // the build before has no result of it
	CauseNotRun      = "not run"     // it was not done: step Step failed, or it was not needed
	CauseUnknown     = "unknown"     // not known
)

// BuildCause is one reason why a step was done, or was not.
type BuildCause struct {
	Kind string `json:"Kind"`
	Name string `json:"Name,omitempty"` // of an argument, a mount, a setting
	Step int    `json:"Step,omitempty"` // the number of another step
	// Files are the first of those that differ, and More how many others do.
	Files []BuildFileChange `json:"Files,omitempty"`
	More  int               `json:"More,omitempty"`
	Text  string            `json:"Text"` // all of it, for people
}

// BuildFileChange is a file of a context that differs from the build before.
type BuildFileChange struct {
	Path   string `json:"Path"`   // in the context
	Change string `json:"Change"` // added, removed, changed or mode
}
