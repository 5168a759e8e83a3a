package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/atomicfile"
	"github.com/portholehq/porthole/internal/runtime"
)

// ExecOptions are what exec is told.
type ExecOptions struct {
	// ProcessFile holds the process as JSON; empty: it is the container's with Args
	// and what else is set here.
	ProcessFile string
	Args        []string
	Cwd, User   string
	Env         []string
	Terminal    bool

	// Detach returns when the process runs; without, its end is waited for.
	Detach                 bool
	PIDFile, ConsoleSocket string
	PreserveFDs            int
}

// ExitError is how a process ended that was waited for.
type ExitError struct{ Code int }

func (e *ExitError) Error() string { return "exit status " + strconv.Itoa(e.Code) }

// Exec runs one more process in a container that runs. The error is an [ExitError] if
// the process was waited for and its status is not 0.
func (r *Runtime) Exec(id string, o ExecOptions) error {
	c, err := r.load(id)
	if err != nil {
		return err
	}
	if status := c.status(); status != specs.StateRunning {
		return fmt.Errorf("cannot exec in a container that is not running: %s", status)
	}
	s, err := c.config()
	if err != nil {
		return err
	}
	process, err := o.process(s)
	if err != nil {
		return err
	}
	if err := checkConsole(process, o.ConsoleSocket); err != nil {
		return err
	}
	rt, err := r.isolation()
	if err != nil {
		return err
	}
	defer rt.Close()
	g, err := c.group()
	if err != nil {
		return err
	}
	b := &runtime.BareExec{
		ID: id, PID: c.PID, Start: c.Start, Spec: s, Process: process, Cgroup: g, Stdio: [3]*os.File{os.Stdin, os.Stdout, os.Stderr},
		Console: func(master *os.File) error { return sendConsole(o.ConsoleSocket, master) },
	}
	for i := range o.PreserveFDs {
		b.Keep = append(b.Keep, os.NewFile(uintptr(3+i), "descriptor "+strconv.Itoa(3+i)))
	}
	signals := make(chan os.Signal, 16)
	if !o.Detach {
		signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2)
	}
	proc, err := rt.ExecBare(b)
	if err != nil {
		return err
	}
	if o.PIDFile != "" {
		if err := atomicfile.Write(o.PIDFile, []byte(strconv.Itoa(proc.Pid)), 0o644); err != nil {
			_ = proc.Kill()
			return fmt.Errorf("pid file: %w", err)
		}
	}
	if o.Detach {
		return nil
	}
	return await(proc, signals)
}

// await passes signals on and returns how the process has ended.
func await(proc *os.Process, signals <-chan os.Signal) error {
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case s := <-signals:
				_ = proc.Signal(s) // unless it has ended
			case <-done:
				return
			}
		}
	}()
	state, err := proc.Wait()
	if err != nil {
		return err
	}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return &ExitError{Code: 128 + int(ws.Signal())}
	}
	if code := state.ExitCode(); code != 0 {
		return &ExitError{Code: code}
	}
	return nil
}

func (o *ExecOptions) process(s *specs.Spec) (*specs.Process, error) {
	if o.ProcessFile != "" {
		b, err := os.ReadFile(o.ProcessFile)
		if err != nil {
			return nil, err
		}
		p := &specs.Process{}
		if err := json.Unmarshal(b, p); err != nil {
			return nil, fmt.Errorf("%s: %w", o.ProcessFile, err)
		}
		return p, nil
	}
	if len(o.Args) == 0 {
		return nil, errors.New("process args cannot be empty: give a command or --process")
	}
	p := specs.Process{Cwd: "/"}
	if s.Process != nil {
		p = *s.Process
	}
	p.Args, p.Terminal, p.Env = o.Args, o.Terminal, slices.Concat(p.Env, o.Env)
	if o.Cwd != "" {
		p.Cwd = o.Cwd
	}
	if o.User == "" {
		return &p, nil
	}
	uid, gid, both := strings.Cut(o.User, ":")
	u, err := strconv.ParseUint(uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user %q is not UID[:GID]", o.User)
	}
	p.User.UID = uint32(u)
	if both {
		g, err := strconv.ParseUint(gid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("user %q is not UID[:GID]", o.User)
		}
		p.User.GID = uint32(g)
	}
	return &p, nil
}
