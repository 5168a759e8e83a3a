package engine

import "log/slog"

// Deps is all that the engine needs from the parts below it.
type Deps struct {
	Logger *slog.Logger
	Config Config
}

// Config holds the daemon's settings that concern containers.
type Config struct {
	DataRoot     string
	ExecRoot     string
	CgroupParent string // absolute from the hierarchy's root, e.g. /porthole
	Version      string
	GitCommit    string
	BuildTime    string
	Labels       []string
	Debug        func() bool // nil: off
	StopTimeout  int         // seconds; 0: 10
	Init         bool        // run an init in containers that do not say
}
