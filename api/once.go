package api

// OnceRequest makes a container that does not run ready for one run that is
// different. It answers with an OnceReady; attaching and starting follow.
type OnceRequest struct {
	Command []string `json:"command,omitempty"` // in place of entrypoint and command; none: the container's own
	TTY     bool     `json:"tty,omitempty"`
	Stdin   bool     `json:"stdin,omitempty"` // keep standard input open
}

// OnceReady has the token for the start.
type OnceReady struct {
	Token string `json:"token"`
}
