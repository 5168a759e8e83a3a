package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/runtime/plan"
	"github.com/portholehq/porthole/internal/shim"
	"github.com/portholehq/porthole/internal/shim/wire"
)

const namespaces = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET

// TestServe runs a process and an exec through the real binary and stage.
func TestServe(t *testing.T) {
	for _, userns := range []bool{false, true} {
		t.Run(fmt.Sprintf("userns=%v", userns), func(t *testing.T) {
			var exe *os.File
			if userns {
				exe = memBinary(t)
			}
			r := startShim(t, exe)
			var c wire.Created
			r.call(wire.MethodCreate, wire.StartSpec{
				CloneFlags: namespaces, OpenStdin: true, Plan: program(t, plan.ModeCreate, "sh", "-c", "echo pid $$; read x; exit 5"),
			}, &c)
			r.call(wire.MethodGo, wire.ProcessRef{}, nil)

			rd, wr, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer rd.Close()
			var e wire.Created
			null := open(t, os.DevNull)
			defer null.Close()
			r.call(wire.MethodExec, wire.ExecSpec{
				ID: "one", Plan: program(t, plan.ModeExec, "sh", "-c", "readlink /proc/self/ns/net; exit 6"),
			}, &e, null, wr, wr)
			wr.Close()
			for _, ns := range []string{"pid", "net", "uts", "ipc"} {
				if a, b := nsOf(t, c.PID, ns), nsOf(t, e.PID, ns); a != b {
					t.Errorf("%s namespace: container %s, exec %s", ns, a, b)
				}
			}
			r.call(wire.MethodGo, wire.ProcessRef{Process: "one"}, nil)
			if _, err := io.ReadAll(rd); err != nil {
				t.Fatal(err)
			}
			if got := r.exited("one"); got.Code != 6 {
				t.Errorf("exec ended with %+v", got)
			}
			r.call(wire.MethodCloseStdin, nil, nil)
			if got := r.exited(wire.Init); got.Code != 5 {
				t.Errorf("ended with %+v", got)
			}
			recorded, err := shim.ReadExit(r.stateDir)
			if err != nil || recorded.Code != 5 {
				t.Errorf("recorded %+v, %v", recorded, err)
			}
			log, err := os.ReadFile(r.logDir + "/00000001.log")
			if err != nil || !strings.HasSuffix(string(log), " stdout F pid 1\n") {
				t.Errorf("log %q, %v", log, err)
			}
		})
	}
}

func nsOf(t testing.TB, pid int, ns string) string {
	t.Helper()
	s, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, ns))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestMemory holds the budget for the private memory of an idle shim. Two run,
// since the pages of the binary, which is in a memfd, are private to a shim
// that is alone.
func TestMemory(t *testing.T) {
	const budget = 1536 << 10
	var pids []int
	exe := memBinary(t)
	for range 2 {
		r := startShim(t, exe)
		r.call(wire.MethodCreate, wire.StartSpec{CloneFlags: namespaces, Plan: program(t, plan.ModeCreate, "sleep", "1000")}, nil)
		r.call(wire.MethodGo, wire.ProcessRef{}, nil)
		pids = append(pids, r.cmd.Process.Pid)
	}
	for _, pid := range pids {
		m := memory(t, pid)
		t.Logf("idle with a child: private dirty %d KiB, private clean %d KiB, anonymous %d KiB, rss %d KiB, pss %d KiB",
			m["Private_Dirty"], m["Private_Clean"], m["Anonymous"], m["Rss"], m["Pss"])
		if got := m["Private_Dirty"] << 10; got > budget {
			t.Errorf("private memory %d is above %d", got, budget)
		}
	}
}

// memory reads smaps_rollup, in KiB.
func memory(t testing.TB, pid int) map[string]int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]int{}
	for line := range strings.Lines(string(b)) {
		name, rest, _ := strings.Cut(line, ":")
		var n int
		if _, err := fmt.Sscanf(rest, "%d kB", &n); err == nil {
			m[name] = n
		}
	}
	return m
}

// TestSpawn starts a second shim in the user namespace of the first, which
// then ends.
func TestSpawn(t *testing.T) {
	exe := memBinary(t)
	r := startShim(t, exe)
	r.call(wire.MethodCreate, wire.StartSpec{CloneFlags: namespaces, OpenStdin: true, Plan: program(t, plan.ModeCreate, "cat")}, nil)
	r.call(wire.MethodGo, nil, nil)

	other := &rig{t: t, dir: t.TempDir()}
	files := other.files(true)
	var c wire.Created
	r.call(wire.MethodSpawn, wire.SpawnSpec{Executable: true}, &c, append([]*os.File{exe}, files...)...)
	for _, f := range files {
		f.Close()
	}
	if a, b := nsOf(t, r.cmd.Process.Pid, "user"), nsOf(t, c.PID, "user"); a != b {
		t.Errorf("user namespaces %s and %s", a, b)
	}
	other.connect()
	defer other.client.Close()
	other.call(wire.MethodCreate, wire.StartSpec{CloneFlags: namespaces, OpenStdin: true, Plan: program(t, plan.ModeCreate, "sh", "-c", "read x; exit 8")}, nil)
	other.call(wire.MethodGo, nil, nil)

	r.call(wire.MethodCloseStdin, nil, nil)
	r.exited(wire.Init)
	other.call(wire.MethodCloseStdin, nil, nil)
	if got := other.exited(wire.Init); got.Code != 8 {
		t.Errorf("ended with %+v", got)
	}
}

// TestUnderSignals holds that what ends a daemon's session does not end a shim.
func TestUnderSignals(t *testing.T) {
	r := startShim(t, nil)
	r.call(wire.MethodCreate, wire.StartSpec{CloneFlags: namespaces, Plan: program(t, plan.ModeCreate, "sleep", "0.3")}, nil)
	r.call(wire.MethodGo, nil, nil)
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGPIPE} {
		if err := r.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	// A signal that the shim ignored would be ignored by the program, too.
	var st wire.State
	r.call(wire.MethodState, nil, &st)
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", st.PID))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), "\nSigIgn:\t0000000000000000\n") || !strings.Contains(string(b), "\nSigBlk:\t0000000000000000\n") {
		t.Errorf("the program does not start with default signals: %s", b)
	}
	if got := r.exited(wire.Init); got.Code != 0 {
		t.Errorf("ended with %+v", got)
	}
}
