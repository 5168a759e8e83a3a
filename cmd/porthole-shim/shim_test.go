package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/runtime/plan"
	"github.com/portholehq/porthole/internal/shim/wire"
)

var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "porthole-shim-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "porthole-shim")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// rig is a shim process and a connection with it.
type rig struct {
	t        testing.TB
	cmd      *exec.Cmd
	client   *wire.Client
	dir      string
	stateDir string
	logDir   string
}

// startShim starts the real thing as the runtime does: with exe, which is what
// memBinary made, in a user namespace of its own.
func startShim(t testing.TB, exe *os.File) *rig {
	t.Helper()
	userns := exe != nil
	r := &rig{t: t, dir: t.TempDir()}
	files := r.files(userns)
	r.cmd = exec.Command(binary, "serve")
	r.cmd.ExtraFiles = files
	r.cmd.Env = []string{"GOMAXPROCS=1"}
	r.cmd.Stderr = os.Stderr
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if userns {
		// The binary must be reachable for an unprivileged user.
		r.cmd.Path = fmt.Sprintf("/proc/self/fd/%d", exe.Fd())
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: hostID, Size: 65536}}
		r.cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWUSER
		r.cmd.SysProcAttr.UidMappings, r.cmd.SysProcAttr.GidMappings = ids, ids
		r.cmd.SysProcAttr.Credential = &syscall.Credential{}
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		f.Close()
	}
	r.connect()
	t.Cleanup(r.stop)
	return r
}

// hostID is what uid 0 in the user namespace is outside.
const hostID = 700000

// files makes what a shim finds at its descriptors.
func (r *rig) files(userns bool) []*os.File {
	r.t.Helper()
	r.stateDir, r.logDir = filepath.Join(r.dir, "shim"), filepath.Join(r.dir, "logs")
	for _, d := range []string{r.stateDir, r.logDir} {
		if err := os.Mkdir(d, 0o750); err != nil {
			r.t.Fatal(err)
		}
		if userns {
			if err := os.Chown(d, hostID, hostID); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	l, err := wire.Listen(filepath.Join(r.dir, "shim.sock"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer l.Close()
	lf, err := l.File()
	if err != nil {
		r.t.Fatal(err)
	}
	return []*os.File{lf, open(r.t, r.stateDir), open(r.t, r.logDir)}
}

func (r *rig) connect() {
	r.t.Helper()
	var err error
	if r.client, err = wire.Dial(filepath.Join(r.dir, "shim.sock")); err != nil {
		r.t.Fatal(err)
	}
}

// memBinary puts the binary into a memfd, as the runtime does.
func memBinary(t testing.TB) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("porthole-shim", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	mem := os.NewFile(uintptr(fd), "memfd")
	t.Cleanup(func() { mem.Close() })
	b, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mem.Write(b); err != nil {
		t.Fatal(err)
	}
	// A file that may be executed must not be open for writing.
	ro, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ro.Close() })
	if err := mem.Chmod(0o111); err != nil {
		t.Fatal(err)
	}
	return ro
}

func open(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (r *rig) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var st wire.State
	if _, err := r.client.Call(ctx, wire.MethodState, nil, &st); err == nil {
		for _, p := range st.Processes {
			syscall.Kill(p.PID, syscall.SIGKILL)
		}
		// Refused as long as something lives, whose end ends the shim anyway.
		r.client.Call(ctx, wire.MethodShutdown, nil, nil)
	}
	r.client.Close()
	ended := make(chan error, 1)
	go func() { ended <- r.cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			r.t.Errorf("shim: %v", err)
		}
	case <-time.After(10 * time.Second):
		r.cmd.Process.Kill()
		r.t.Errorf("shim does not end: %v", <-ended)
	}
}

func (r *rig) call(method string, in, out any, files ...*os.File) []*os.File {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	got, err := r.client.Call(ctx, method, in, out, files...)
	if err != nil {
		r.t.Fatalf("%s: %v", method, err)
	}
	return got
}

func (r *rig) exited(id string) wire.Exit {
	r.t.Helper()
	for ev := range r.client.Events() {
		var e wire.Exited
		if err := json.Unmarshal(ev.Body, &e); err != nil {
			r.t.Fatal(err)
		}
		if e.Process == id {
			return e.Exit
		}
	}
	r.t.Fatalf("the shim ended without telling the exit of %s", id)
	return wire.Exit{}
}

// program is the smallest plan: no root of its own, no rights dropped.
func program(t testing.TB, mode plan.Mode, args ...string) json.RawMessage {
	t.Helper()
	p := plan.Plan{ID: "test", Mode: mode}
	if mode == plan.ModeExec {
		p.Files = []string{"mount namespace"}
		p.Steps = append(p.Steps, plan.Step{Name: "enter mounts", Op: plan.OpSetns, Flags: unix.CLONE_NEWNS})
	}
	p.Steps = append(p.Steps,
		plan.Step{Name: "session", Op: plan.OpSession},
		plan.Step{Name: "barrier", Op: plan.OpBarrier},
		plan.Step{Name: "exec", Op: plan.OpExec, Exec: &plan.Exec{Args: args, Env: []string{"PATH=/usr/bin:/bin"}}},
	)
	if mode == plan.ModeCreate {
		root := plan.Step{Name: "propagation", Op: plan.OpPropagation, Path: "/", Flags: unix.MS_SLAVE}
		p.Steps = append([]plan.Step{root}, p.Steps...)
	}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
