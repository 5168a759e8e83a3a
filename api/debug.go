package api

import "time"

// DebugRequest asks for a process with tools of ours in what Target names: a
// container in whatever state, or an image.
type DebugRequest struct {
	Target  string   `json:"target"`
	Command []string `json:"command,omitempty"` // none: a shell
	// User is "name|uid[:group|gid]"; empty: the target's. Root is uid 0,
	// Privileged root with all capabilities. AsTarget takes exactly the rights of
	// the target's own processes, where otherwise tracing is allowed on top, and
	// joins them as JoinPID does.
	User       string   `json:"user,omitempty"`
	Root       bool     `json:"root,omitempty"`
	AsTarget   bool     `json:"as_target,omitempty"`
	Privileged bool     `json:"privileged,omitempty"`
	Env        []string `json:"env,omitempty"` // NAME=VALUE
	WorkingDir string   `json:"working_dir,omitempty"`
	TTY        bool     `json:"tty,omitempty"`
	Stdin      bool     `json:"stdin,omitempty"`
	// Live and Discard say what becomes of what is written to the target's
	// files. Neither: live in a container that runs, discarded otherwise.
	Live    bool `json:"live,omitempty"`
	Discard bool `json:"discard,omitempty"`
	// Toolbox is an image whose programs come before our tools; empty: none.
	Toolbox string `json:"toolbox,omitempty"`
	// JoinPID puts the process among the target's, which see it then.
	JoinPID bool `json:"join_pid,omitempty"`
}

// DebugSession is such a process. Its ID is an exec's: it is started, resized and
// inspected as an exec is, and ends when its client goes away.
type DebugSession struct {
	ID string `json:"id"`
	// Target is the whole id of the container or image, Name what it is called.
	Target string `json:"target"`
	Name   string `json:"name"`
	// State is the container's when the session was asked for, as in its
	// inspection; "image" for an image.
	State   string `json:"state"`
	Writes  string `json:"writes"`            // "live" or "discard"
	Toolbox string `json:"toolbox,omitempty"` // as asked for
	// Notes are for people: what is not as they may expect.
	Notes     []string  `json:"notes,omitempty"`
	User      string    `json:"user"`
	Command   []string  `json:"command"`
	TTY       bool      `json:"tty,omitempty"`
	PID       int       `json:"pid,omitempty"` // the host's; 0: it does not run
	StartedAt time.Time `json:"started_at,omitzero"`
	Client    *Actor    `json:"client,omitempty"`
	// Changes are, of a session that has ended and whose writes are discarded,
	// the first thousand of what it had changed, as `diff` tells them: "A /path".
	// Changed is how many there were.
	Changes []string `json:"changes,omitempty"`
	Changed int      `json:"changed,omitempty"`
}
