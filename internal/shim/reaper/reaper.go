// Package reaper is the process that --init puts in front of a container's
// command: PID 1 that starts the command, passes signals on to it, collects
// every process that ends without a parent, and ends as the command does.
//
// It behaves as tini does, which Docker uses: the command gets its own process
// group, and the terminal, if there is one, belongs to that group; so Ctrl-C
// reaches the command once, and job control works.
package reaper

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Exit statuses for a command that never ran, as shells have them.
const (
	statusUsage      = 125
	statusCannotRun  = 126
	statusNotFound   = 127
	statusSignalBase = 128
)

// Main runs "[--limits=RESOURCE:SOFT:HARD,...] -- COMMAND [ARG...]" and returns the exit
// status to end with. The "--" may be missing.
func Main(args []string) int {
	limits := ""
	if len(args) > 0 {
		if text, ok := strings.CutPrefix(args[0], "--limits="); ok {
			limits, args = text, args[1:]
		}
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "init: no command given")
		return statusUsage
	}
	// Before the command starts, so that no signal is lost in between. It
	// starts with default actions all the same: caught signals do not survive
	// an exec. (signal(7))
	signals := make(chan os.Signal, 128)
	signal.Notify(signals)
	// A channel of its own, of one: a child's end must not get lost in a flood
	// of others, and one token stands for any number of them.
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	pid, err := start(limits, args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "init: %v\n", err)
		return statusOf(err)
	}
	return supervise(pid, signals, children)
}

// start runs the command in a process group of its own and makes that the
// terminal's foreground group.
func start(limits string, args []string) (int, error) {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return 0, err
	}
	attr := &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{0, 1, 2},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	}
	if hasTerminal() {
		// Foreground sets the process group itself, by the terminal at fd 0.
		attr.Sys = &syscall.SysProcAttr{Foreground: true, Ctty: 0}
	}
	path, args = limited(limits, path, args)
	pid, _, err := syscall.StartProcess(path, args, attr)
	if err != nil {
		return 0, &fs.PathError{Op: "exec", Path: path, Err: err}
	}
	return pid, nil
}

// hasTerminal tells whether descriptor 0 is this session's terminal, with this
// group in the foreground.
func hasTerminal() bool {
	pgrp, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	return err == nil && pgrp == unix.Getpgrp()
}

// supervise forwards signals and collects the dead until the command is one of
// them.
func supervise(command int, signals, children <-chan os.Signal) int {
	for {
		select {
		case <-children:
			if status, ended := collect(command); ended {
				return status
			}
		case sig := <-signals:
			if s, ok := sig.(syscall.Signal); ok && forwardable(s) {
				// ESRCH: it is dead, and SIGCHLD is on its way.
				_ = unix.Kill(command, s)
			}
		}
	}
}

// forwardable leaves out what is about this process itself: faults, its
// children, the Go runtime's own preemption signal, and what the terminal does
// to a process in the background.
func forwardable(s syscall.Signal) bool {
	switch s {
	case unix.SIGFPE, unix.SIGILL, unix.SIGSEGV, unix.SIGBUS, unix.SIGABRT, unix.SIGTRAP, unix.SIGSYS,
		unix.SIGCHLD, unix.SIGTTIN, unix.SIGTTOU, unix.SIGURG, unix.SIGPIPE:
		return false
	}
	return true
}

// collect waits for all that have ended, and tells the status to end with if
// the command is among them.
func collect(command int) (status int, ended bool) {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil || pid <= 0:
			return status, ended
		case pid != command:
		case ws.Signaled():
			status, ended = statusSignalBase+int(ws.Signal()), true
		default:
			status, ended = ws.ExitStatus(), true
		}
	}
}

func statusOf(err error) int {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return statusNotFound
	}
	return statusCannotRun
}
