// Package forker forks shims for the daemon.
//
// A process that is to begin in a new user namespace cannot be started by
// vfork: somebody has to write its id maps while it waits. With a plain fork the
// kernel copies the page tables of the whole daemon, and every page that the
// daemon writes to afterwards faults: 2.5 ms for a daemon of 60 MB, 6 ms for
// 150 MB, measured on Linux 6.18, and nobody else can fork meanwhile. A helper of
// two megabytes does it in a fraction of that.
//
// The helper is porthole-shim forker. It is the daemon's child, as privileged as
// the daemon, and ends when the daemon closes its end of the socket; the shims
// that it has started stay. It reaps those that end while it lives.
//
//	daemon                              forker
//	  │ fork: Request                      │
//	  │   files: listener, state, log,     │
//	  │   [stage's cgroup dir], tasks...,  │
//	  │   [cgroup dir] ───────────────────▶│ fork, exec of itself as shim
//	  │◀─────────────── forked: Answer     │
//
// Requests may be sent without waiting for answers; an answer names its request.
package forker

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/failpoint"
	"github.com/portholehq/porthole/internal/linux/cgroup/enter"
	"github.com/portholehq/porthole/internal/racing"
	"github.com/portholehq/porthole/internal/shim/wire"
)

// Verb is the argument that makes the shim binary a forker.
const Verb = "forker"

const (
	eventFork   = "fork"
	eventForked = "forked"
)

// Request asks for a shim. Its first three files become the shim's descriptors
// 3, 4 and 5, with Stage.Cgroup one more 6; then come Tasks files of v1 cgroups
// and, with Dir, the directory of a v2 cgroup, all of which the shim is born into.
type Request struct {
	ID uint64 `json:"id"`
	// Host and Size are the id range; Size 0 stays in the user namespace.
	Host  uint32 `json:"host"`
	Size  uint32 `json:"size"`
	Tasks int    `json:"tasks"`
	Dir   bool   `json:"dir"`
	// Stage has the shim fork the stage of the first process early.
	Stage *Stage `json:"stage,omitempty"`
}

// Stage says how an early stage is born: with the CLONE_NEW* Flags and, with
// Cgroup, in the v2 cgroup whose directory comes along.
type Stage struct {
	Flags  uintptr `json:"flags"`
	Cgroup bool    `json:"cgroup,omitempty"`
}

// own is how many files become the shim's.
func (r *Request) own() int {
	if r.Stage != nil && r.Stage.Cgroup {
		return 4
	}
	return 3
}

// args is the shim's command line.
func (r *Request) args() []string {
	args := []string{"porthole-shim", "serve"}
	if r.Stage != nil {
		args = append(args, "--early", strconv.FormatUint(uint64(r.Stage.Flags), 10))
		if r.Stage.Cgroup {
			args = append(args, "--cgroup")
		}
	}
	return args
}

// Answer tells what became of the request of the same ID.
type Answer struct {
	ID    uint64        `json:"id"`
	PID   int           `json:"pid,omitempty"`
	Error string        `json:"error,omitempty"`
	Errno syscall.Errno `json:"errno,omitempty"`
}

// Serve is the forker's life: it answers until the daemon has gone.
func Serve(fd int) error {
	return serve(fd, func(req Request, files []*os.File) (int, error) { return Fork("/proc/self/exe", req, files) })
}

func serve(fd int, fork func(Request, []*os.File) (int, error)) error {
	unix.CloseOnExec(fd)
	conn := wire.NewStageConn(fd)
	defer conn.Close()
	var forks sync.WaitGroup
	defer forks.Wait()
	for {
		ev, files, err := conn.RecvEvent()
		if err != nil {
			return err
		}
		var req Request
		if ev.Name != eventFork || json.Unmarshal(ev.Body, &req) != nil {
			closeAll(files)
			return fmt.Errorf("%w: %q", wire.ErrMalformed, ev.Name)
		}
		forks.Go(func() {
			defer closeAll(files)
			a := Answer{ID: req.ID}
			pid, err := fork(req, files)
			if err != nil {
				a.Error = err.Error()
				errors.As(err, &a.Errno)
			}
			a.PID = pid
			// A daemon that has gone ends the loop above.
			_ = conn.SendEvent(eventForked, a)
		})
	}
}

// Fork starts a shim from the executable path and reaps it in the background.
func Fork(path string, req Request, files []*os.File) (int, error) {
	own := req.own()
	n := own + req.Tasks
	if req.Dir {
		n++
	}
	if req.Tasks < 0 || len(files) != n {
		return 0, fmt.Errorf("start shim: %d files where %d are due", len(files), n)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, fmt.Errorf("start shim: %w", err)
	}
	defer null.Close()
	attr := &os.ProcAttr{
		Env:   append([]string{"GOMAXPROCS=1"}, failpoint.Environ()...),
		Files: append([]*os.File{null, null, racing.Stderr(null)}, files[:own]...),
		Dir:   "/",
		Sys:   &syscall.SysProcAttr{Setsid: true},
	}
	if req.Dir {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, int(files[n-1].Fd())
	}
	if req.Size > 0 {
		mapping := []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(req.Host), Size: int(req.Size)}}
		attr.Sys.Cloneflags = unix.CLONE_NEWUSER
		attr.Sys.UidMappings, attr.Sys.GidMappings = mapping, mapping
		attr.Sys.GidMappingsEnableSetgroups = true
		attr.Sys.Credential = &syscall.Credential{}
	}
	var proc *os.Process
	err = enter.Run(files[own:own+req.Tasks], func() (err error) {
		proc, err = os.StartProcess(path, req.args(), attr)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("start shim: %w", err)
	}
	go func() { _, _ = proc.Wait() }() // how it ended is in the shim's exit record
	return proc.Pid, nil
}

// Client is the daemon's side. The zero value is not ready; see [Start]. It is
// safe for concurrent use.
type Client struct {
	conn *wire.Conn
	proc *os.Process
	done chan struct{} // closed when the forker is gone

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan Answer
}

// ErrGone means that the forker has ended: start another, or fork oneself.
var ErrGone = errors.New("the forker has ended")

// Start starts a forker from a descriptor of the shim binary.
func Start(shim *os.File) (*Client, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "forker")
	defer theirs.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		unix.Close(pair[0])
		return nil, err
	}
	defer null.Close()
	proc, err := os.StartProcess("/proc/self/fd/"+strconv.Itoa(int(shim.Fd())), []string{"porthole-forker", Verb}, &os.ProcAttr{
		Files: []*os.File{null, null, racing.Stderr(null), theirs}, Dir: "/", Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		unix.Close(pair[0])
		return nil, fmt.Errorf("start forker: %w", err)
	}
	ours, err := connection(pair[0])
	if err != nil {
		return nil, errors.Join(err, proc.Kill())
	}
	c := &Client{conn: ours, proc: proc, done: make(chan struct{}), waiting: map[uint64]chan Answer{}}
	go c.receive()
	return c, nil
}

// Fork has a shim forked. The files stay the caller's.
func (c *Client) Fork(req Request, files []*os.File) (int, error) {
	answer := make(chan Answer, 1)
	c.mu.Lock()
	c.last++
	req.ID = c.last
	c.waiting[req.ID] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, req.ID)
		c.mu.Unlock()
	}()
	if err := c.conn.SendEvent(eventFork, req, files...); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrGone, err)
	}
	select {
	case a := <-answer:
		if a.Error != "" {
			return 0, &wire.Error{Step: "start shim", Errno: a.Errno, Message: a.Error}
		}
		return a.PID, nil
	case <-c.done:
		return 0, ErrGone
	}
}

func (c *Client) receive() {
	defer close(c.done)
	defer func() { _, _ = c.proc.Wait() }() // that it is gone is all there is to know
	for {
		ev, files, err := c.conn.RecvEvent()
		closeAll(files)
		if err != nil {
			return
		}
		var a Answer
		if ev.Name != eventForked || json.Unmarshal(ev.Body, &a) != nil {
			c.conn.Close()
			return
		}
		c.mu.Lock()
		if to := c.waiting[a.ID]; to != nil {
			to <- a // has room: one answer for each request
			delete(c.waiting, a.ID)
		}
		c.mu.Unlock()
	}
}

// Pid is the forker's.
func (c *Client) Pid() int { return c.proc.Pid }

// Close ends the forker and returns when it has.
func (c *Client) Close() error {
	err := c.conn.Close()
	<-c.done
	return err
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
