package bed

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync/atomic"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// stageVar tells the re-executed test binary who it is.
const stageVar = "PORTHOLE_TEST_WORLD"

// Main is TestMain for packages that need a world of their own. prepare runs in
// it before the tests, may be nil, and returns what is to be done after them.
// Without root the tests run where they are, and testenv skips them. Ended by
// SIGINT or SIGTERM, they leave no daemon behind. Programs in PORTHOLE_TEST_BIN that
// the race detector is built into have the tests fail for what they report, see [Races].
func Main(m *testing.M, prepare func() (cleanup func(), err error)) {
	if os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	os.Exit(World(func() int {
		var after atomic.Pointer[func()]
		go clearAtSignal(&after)
		if err := watchRaces(); err != nil {
			fmt.Fprintln(os.Stderr, "prepare tests:", err)
			return 1
		}
		code := run(m, prepare, &after)
		if clean := endRaces() && !panicked.Load(); !clean && code == 0 {
			code = 1
		}
		return code
	}))
}

// run runs the tests between prepare, if there is any, and what that returns.
func run(m *testing.M, prepare func() (cleanup func(), err error), after *atomic.Pointer[func()]) int {
	if prepare == nil {
		return m.Run()
	}
	cleanup, err := prepare()
	if err != nil {
		fmt.Fprintln(os.Stderr, "prepare tests:", err)
		return 1
	}
	if cleanup == nil {
		return m.Run()
	}
	after.Store(&cleanup)
	code := m.Run()
	cleanup()
	return code
}

// clearAtSignal waits for a signal that ends the tests, and clears away first: data
// roots and cgroups do not go with a world.
func clearAtSignal(after *atomic.Pointer[func()]) {
	end := make(chan os.Signal, 1)
	signal.Notify(end, unix.SIGINT, unix.SIGTERM)
	sig := <-end
	fmt.Fprintf(os.Stderr, "tests: %v\n", sig)
	if os.Getenv("PORTHOLE_TEST_KEEP") == "" {
		closeAll()
		if cleanup := after.Load(); cleanup != nil {
			(*cleanup)()
		}
		endRaces()
	}
	os.Exit(128 + int(sig.(unix.Signal)))
}

// World calls inside in new pid, mount and network namespaces: the program runs
// itself again in them, with the same arguments, and World returns its exit
// code. SIGINT and SIGTERM are passed on to it, perhaps more than once, as a
// terminal sends them to all of its processes. To be called at the beginning of
// main, by root.
func World(inside func() int) int {
	switch os.Getenv(stageVar) {
	case "":
		return outer()
	case "init":
		return initProcess()
	}
	return inside()
}

// outer starts the test binary again as init of a new world, and waits.
func outer() int {
	cmd := again("init")
	cmd.SysProcAttr = &unix.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET,
		Pdeathsig:  unix.SIGKILL,
	}
	// Not to die of them: all that is inside would, before it can clear away.
	signals := caught()
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "tests:", err)
		return 1
	}
	go passOn(signals, cmd.Process)
	return wait(cmd)
}

// caught is where signals come that are passed on.
func caught() <-chan os.Signal {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM)
	return signals
}

// passOn sends a process what comes, until this one ends.
func passOn(signals <-chan os.Signal, p *os.Process) {
	for sig := range signals {
		_ = p.Signal(sig) // it may have ended, as we will
	}
}

// initProcess is process 1 of the world: it reaps, and ends with the tests.
func initProcess() int {
	if err := furnish(); err != nil {
		fmt.Fprintln(os.Stderr, "prepare namespaces:", err)
		return 1
	}
	// Written out, as os/exec and a general reaper cannot share wait4.
	// Set, not appended: of two values in the environment the first would count.
	if err := os.Setenv(stageVar, "tests"); err != nil {
		fmt.Fprintln(os.Stderr, "prepare environment:", err)
		return 1
	}
	attr := &os.ProcAttr{
		Env:   os.Environ(),
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
	}
	signals := caught()
	p, err := os.StartProcess("/proc/self/exe", os.Args, attr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "start tests:", err)
		return 1
	}
	go passOn(signals, p)
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			fmt.Fprintln(os.Stderr, "wait for tests:", err)
			return 1
		case pid == p.Pid && status.Exited():
			return status.ExitStatus()
		case pid == p.Pid && status.Signaled():
			return 128 + int(status.Signal())
		}
	}
}

// furnish makes the new namespaces usable.
func furnish() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback interface: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set up loopback interface: %w", err)
	}
	return nil
}

func again(stage string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), stageVar+"="+stage)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd
}

func wait(cmd *exec.Cmd) int {
	err := cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return exit.ExitCode()
	}
	fmt.Fprintln(os.Stderr, "tests:", err)
	return 1
}
