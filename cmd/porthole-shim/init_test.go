package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// initCommand is "porthole-shim init -- args" as PID 1 of a pid namespace.
func initCommand(args ...string) *exec.Cmd {
	cmd := exec.Command(binary, append([]string{"init", "--"}, args...)...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, Setsid: true}
	return cmd
}

func exitCode(t *testing.T, err error) int {
	t.Helper()
	var e *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.ExitCode()
	}
	t.Fatal(err)
	return 0
}

func TestInitEndsAsTheCommand(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("#!/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		args []string
		want int
	}{
		{"success", []string{"true"}, 0},
		{"status", []string{"sh", "-c", "exit 7"}, 7},
		{"signal", []string{"sh", "-c", "kill -KILL $$"}, 137},
		{"not found", []string{"no-such-command"}, 127},
		{"no such path", []string{"/no/such"}, 127},
		{"not executable", []string{plain}, 126},
		{"nothing", nil, 125},
		{"arguments are kept", []string{"sh", "-c", `test "$1" = "a b" -a "$2" = "--"`, "sh", "a b", "--"}, 0},
		{"default signals", []string{"sh", "-c", "kill -HUP $$; exit 1"}, 129},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cmd := initCommand(tt.args...)
			cmd.Stderr = nil
			if got := exitCode(t, cmd.Run()); got != tt.want {
				t.Errorf("status %d, want %d", got, tt.want)
			}
		})
	}
}

func TestInitForwardsSignals(t *testing.T) {
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH, unix.SIGCONT, 40} {
		t.Run(sig.String(), func(t *testing.T) {
			// bash, since sh knows no real-time signals.
			cmd := initCommand("bash", "-c", fmt.Sprintf("trap 'exit 42' %d; echo ready; while :; do sleep 0.01; done", int(sig)))
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			timer := time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() })
			defer timer.Stop()
			if got := exitCode(t, cmd.Wait()); got != 42 {
				t.Errorf("status %d", got)
			}
		})
	}
}

func TestInitReapsOrphans(t *testing.T) {
	cmd := initCommand("sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do (true &); (sleep 0.02 &); done; sleep 0.2; echo done; read x")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	var left []string
	for deadline := time.Now().Add(5 * time.Second); ; <-time.After(5 * time.Millisecond) {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", cmd.Process.Pid))
		if err != nil || len(tasks) == 0 {
			t.Fatalf("tasks %v, %v", tasks, err)
		}
		left = nil
		for _, name := range tasks {
			b, err := os.ReadFile(name)
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			left = append(left, strings.Fields(string(b))...)
		}
		if len(left) <= 1 || time.Now().After(deadline) {
			break
		}
	}
	if len(left) != 1 {
		t.Errorf("children left: %v", left)
	}
	in.Close()
	if got := exitCode(t, cmd.Wait()); got != 1 { // read at end of file
		t.Errorf("status %d", got)
	}
}

func TestInitHandsOverTheTerminal(t *testing.T) {
	master, slave := openPTY(t)
	// Fields 5 and 8 of stat: the shell's group must be the foreground one.
	cmd := initCommand("bash", "-c", `read -r -a s </proc/self/stat; [ "${s[4]}" = "${s[7]}" ] && echo foreground; exec sleep 30`)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr.Setctty = true
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	line, err := bufio.NewReader(master).ReadString('\n')
	if err != nil || line != "foreground\r\n" {
		t.Errorf("got %q, %v", line, err)
	}
	if _, err := io.WriteString(master, "\x03"); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() })
	defer timer.Stop()
	if got := exitCode(t, cmd.Wait()); got != 130 {
		t.Errorf("status %d after Ctrl-C", got)
	}
}

func openPTY(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

func TestUsage(t *testing.T) {
	out, err := exec.Command(binary, "version").Output()
	if err != nil || !strings.HasPrefix(string(out), "porthole-shim ") {
		t.Errorf("version: %q, %v", out, err)
	}
	for _, args := range [][]string{nil, {"dance"}} {
		var stderr strings.Builder
		cmd := exec.Command(binary, args...)
		cmd.Stderr = &stderr
		if got := exitCode(t, cmd.Run()); got != 125 || !strings.HasPrefix(stderr.String(), "usage: ") {
			t.Errorf("%v: status %d, %q", args, got, stderr.String())
		}
	}
	// Without its descriptors a shim says so.
	var stderr strings.Builder
	cmd := exec.Command(binary, "serve")
	cmd.Stderr = &stderr
	if got := exitCode(t, cmd.Run()); got != 125 || !strings.Contains(stderr.String(), "descriptor 3") {
		t.Errorf("serve: status %d, %q", got, stderr.String())
	}
}
