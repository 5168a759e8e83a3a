package oci

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/signals"
	"github.com/portholehq/porthole/internal/runtime"
)

// ParseSignal reads a signal: its number or its name, with or without SIG. 0 is none,
// and only asks whether there is somebody to send one to.
func ParseSignal(s string) (syscall.Signal, error) {
	if s == "0" {
		return 0, nil
	}
	sig, err := signals.Parse(s)
	if err != nil {
		return 0, fmt.Errorf("unknown signal %q", s)
	}
	return sig, nil
}

// Kill sends a signal to the container's first process or, if all, to every process
// that is in its cgroup; then it need not run any more.
func (r *Runtime) Kill(id string, sig syscall.Signal, all bool) error {
	c, err := r.load(id)
	if err != nil {
		return err
	}
	if all {
		return c.killAll(sig)
	}
	switch c.status() {
	case specs.StateCreated, specs.StateRunning, paused:
		return signalProcess(c.PID, c.Start, sig)
	case specs.StateCreating, specs.StateStopped:
	}
	return ErrNotRunning
}

// signalProcess sends a signal to the process that had pid when it began at start.
func signalProcess(pid int, start string, sig syscall.Signal) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return ErrNotRunning
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if now, err := runtime.StartTime(pid); err != nil || now != start {
		return ErrNotRunning
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil {
		if errors.Is(err, unix.ESRCH) {
			return ErrNotRunning
		}
		return fmt.Errorf("signal process %d: %w", pid, err)
	}
	return nil
}

func (c *container) killAll(sig syscall.Signal) error {
	g, err := c.group()
	if err != nil {
		return err
	}
	if sig == syscall.SIGKILL {
		ctx, cancel := patience()
		defer cancel()
		return g.Kill(ctx)
	}
	pids, err := g.Pids()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("signal process %d: %w", pid, err)
		}
	}
	return nil
}

// patience is how long the kernel may take to end what was killed.
func patience() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 10*time.Second)
}

// Pause stops all processes of a container that runs; Resume lets them go on.
func (r *Runtime) Pause(id string) error { return r.freeze(id, true) }

// Resume undoes Pause.
func (r *Runtime) Resume(id string) error { return r.freeze(id, false) }

func (r *Runtime) freeze(id string, frozen bool) error {
	c, unlock, err := r.open(id)
	if err != nil {
		return err
	}
	defer unlock()
	status := c.status()
	g, err := c.group()
	if err != nil {
		return err
	}
	ctx, cancel := patience()
	defer cancel()
	switch {
	case frozen && (status == specs.StateRunning || status == specs.StateCreated):
		return g.Freeze(ctx)
	case !frozen && status == paused:
		return g.Thaw(ctx)
	case frozen:
		return fmt.Errorf("container not running or created: %s", status)
	}
	return fmt.Errorf("container not paused: %s", status)
}
