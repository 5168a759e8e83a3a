package main

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"syscall"

	"github.com/portholehq/porthole/internal/runtime/plan"
	"github.com/portholehq/porthole/internal/shim"
)

// What serve finds at its descriptors.
const (
	listenFD   = 3
	stateDirFD = 4
	logDirFD   = 5
	cgroupFD   = 6 // with --cgroup
)

// gcPercent has the garbage collected when the heap reaches a fifth of the
// default's four megabytes. The first collection costs a megabyte by itself
// (runtime, spanSet), so a lower figure saves nothing.
const gcPercent = 20

// serve runs a shim until its container has ended.
func serve(args []string) int {
	// Signals meant for whoever started the daemon are not for the container.
	// They are caught, not ignored: that would be inherited by the container.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM)
	// The heap is a few hundred kilobytes. By default it would be collected at
	// four megabytes for the first time, and with one shim per container that
	// adds up.
	debug.SetGCPercent(gcPercent)
	nameProcess("porthole-shim")
	for fd := listenFD; fd <= logDirFD; fd++ {
		syscall.CloseOnExec(fd)
	}
	early, err := earlyStage(args)
	if err != nil {
		return complain("serve", err)
	}
	l, err := listener(listenFD)
	if err != nil {
		return complain("serve", err)
	}
	err = shim.New(shim.Config{
		Listener:   l,
		StateDir:   os.NewFile(stateDirFD, "state dir"),
		LogDir:     os.NewFile(logDirFD, "log dir"),
		Executable: "/proc/self/exe",
		StageArgs:  []string{stageName},
		ServeArgs:  []string{os.Args[0], "serve"},
		Early:      early,
		PlanFormat: plan.Format,
		Version:    version,
	}).Serve()
	if err != nil {
		return complain("serve", err)
	}
	return 0
}

// earlyStage reads what comes after the verb: nothing, or
// --early FLAGS [--cgroup].
func earlyStage(args []string) (*shim.Early, error) {
	if len(args) == 0 {
		return nil, nil
	}
	if args[0] != "--early" || len(args) < 2 || len(args) > 3 || len(args) == 3 && args[2] != "--cgroup" {
		return nil, fmt.Errorf("arguments %q are not understood", args)
	}
	flags, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("clone flags: %w", err)
	}
	early := &shim.Early{CloneFlags: uintptr(flags)}
	if len(args) == 3 {
		syscall.CloseOnExec(cgroupFD)
		early.Cgroup = os.NewFile(cgroupFD, "cgroup")
	}
	return early, nil
}

func listener(fd uintptr) (*net.UnixListener, error) {
	f := os.NewFile(fd, "listener")
	if f == nil {
		return nil, fmt.Errorf("descriptor %d: not open", fd)
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d: %w", fd, err)
	}
	ul, ok := l.(*net.UnixListener)
	if !ok {
		return nil, fmt.Errorf("descriptor %d: not a unix socket", fd)
	}
	ul.SetUnlinkOnClose(false)
	return ul, nil
}
