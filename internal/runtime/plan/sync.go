package plan

// Shim and stage talk over a SOCK_STREAM socketpair, which is descriptor 3 of
// the stage. Frames have the form of internal/shim/wire: an 8-byte header
// {uint32 little-endian length of the payload, uint8 kind, 3 zero bytes}, then
// JSON; descriptors ride with the header.
//
//	shim                                  stage
//	  │ Document: Plan, files of the plan ──▶│
//	  │                                      │ steps before the barrier
//	  │◀── Ready: Report [+ pty master]      │
//	  │ (the daemon sets limits, network)    │
//	  │ Go: {} ─────────────────────────────▶│
//	  │                                      │ steps after the barrier
//	  │◀── Executing: Report                 │ execve; the socket is close-on-exec
//	  │◀── end of file: the program runs     │
//
//	  │◀── Failed: Failure                   │ instead of any of the above, also
//	  │◀── end of file                       │ after Executing when execve fails;
//	                                           the stage then exits with status 1
//
// An end of file before Executing without Failed means that the stage was killed.
// In ModeExec everything is the same. The stage never sends more than one pty
// master, and only with Ready and only when its plan has the step OpTerminal.
const (
	KindDocument  = 0x10
	KindReady     = 0x11
	KindGo        = 0x12
	KindExecuting = 0x13
	KindFailed    = 0x14
)

// MaxFiles is how many descriptors can come with one plan: the kernel passes at
// most 253 (SCM_MAX_FD) with one message, and the shim adds its own.
const MaxFiles = 250

// SyncFD is the stage's end of the socket.
const SyncFD = 3

// Report is the payload of Ready and Executing: the steps done since the last one.
type Report struct {
	Steps []Timing `json:"steps"`
	// PID is the stage's own idea of its pid: 1 in a new pid namespace.
	PID int `json:"pid"`
}
