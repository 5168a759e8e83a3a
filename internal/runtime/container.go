package runtime

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/portholehq/porthole/internal/runtime/plan"
)

var errPending = errors.New("the isolation runtime is being put in place: not available in this build")

// Runtime creates containers. It is safe for concurrent use.
type Runtime struct{ opts Options }

// New prepares a runtime.
func New(opts Options) (*Runtime, error) { return &Runtime{opts: opts}, nil }

// Close gives back what New took. Containers go on.
func (r *Runtime) Close() error { return nil }

// Create brings a container to the point where its program could be executed.
func (r *Runtime) Create(ctx context.Context, b Bundle) (*Container, error) { return nil, errPending }

// Load adopts a container whose shim still runs. The error is
// errdefs.ErrNotFound when there is no shim.
func (r *Runtime) Load(ctx context.Context, id, stateDir, logDir string) (*Container, error) {
	return nil, errPending
}

// Container is a container that was created.
type Container struct{}

// ID is the container's.
func (c *Container) ID() string { return "" }

// Start lets the program run.
func (c *Container) Start(ctx context.Context) error { return errPending }

// Pid is the host's pid of the first process.
func (c *Container) Pid() int { return 0 }

// StartedAt is when the program was executed; zero before.
func (c *Container) StartedAt() time.Time { return time.Time{} }

// Warnings are what could not be done as asked but did not prevent the start.
func (c *Container) Warnings() []string { return nil }

// Timings are the steps done so far, the daemon's and the stage's.
func (c *Container) Timings() []plan.Timing { return nil }

// Plan is what the stage was told to do; nil for an adopted container.
func (c *Container) Plan() *plan.Plan { return nil }

// NetNS opens the container's network namespace.
func (c *Container) NetNS() (*os.File, error) { return nil, errPending }

// Attach connects to the first process's streams.
func (c *Container) Attach(ctx context.Context, o AttachOptions) (*os.File, error) {
	return nil, errPending
}

// Exec prepares one more process.
func (c *Container) Exec(ctx context.Context, o ExecOptions) (*Process, error) {
	return nil, errPending
}

// Signal sends a signal to the first process.
func (c *Container) Signal(ctx context.Context, sig syscall.Signal) error { return errPending }

// Resize sets the size of the terminal.
func (c *Container) Resize(ctx context.Context, height, width uint16) error { return errPending }

// CloseStdin closes the first process's standard input.
func (c *Container) CloseStdin(ctx context.Context) error { return errPending }

// Freeze stops all processes of the container; Thaw lets them go on.
func (c *Container) Freeze(ctx context.Context) error { return errPending }

// Thaw undoes Freeze.
func (c *Container) Thaw(ctx context.Context) error { return errPending }

// Frozen says whether the container is frozen.
func (c *Container) Frozen() (bool, error) { return false, errPending }

// Done is closed when the first process has ended.
func (c *Container) Done() <-chan struct{} { return nil }

// Exit is valid after Done.
func (c *Container) Exit() Exit { return Exit{} }

// Kill kills every process of the container.
func (c *Container) Kill(ctx context.Context) error { return errPending }

// Delete removes what the container has outside of its own directories. It
// may be called again.
func (c *Container) Delete(ctx context.Context) error { return errPending }

// ReadExit reads the exit that the shim wrote into a state directory.
func ReadExit(stateDir string) (Exit, error) { return Exit{}, errPending }

// Process is a process that Exec prepared.
type Process struct{}

// Pid is the host's pid.
func (p *Process) Pid() int { return 0 }

// PTY is the master end of the terminal, the caller's to close; nil without one.
func (p *Process) PTY() *os.File { return nil }

// Start lets the program run.
func (p *Process) Start(ctx context.Context) error { return errPending }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return nil }

// Exit is valid after Done.
func (p *Process) Exit() Exit { return Exit{} }

// Signal sends a signal.
func (p *Process) Signal(ctx context.Context, sig syscall.Signal) error { return errPending }

// Resize sets the size of the terminal.
func (p *Process) Resize(ctx context.Context, height, width uint16) error { return errPending }
