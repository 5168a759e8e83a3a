package engine

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/event"
	"github.com/portholehq/porthole/internal/image"
	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/record/sampler"
	"github.com/portholehq/porthole/internal/runtime"
	"github.com/portholehq/porthole/internal/runtime/spec/hostinfo"
	"github.com/portholehq/porthole/internal/testenv"
	"github.com/portholehq/porthole/internal/volume"
)

// realWorld is an engine on the real parts, but for the network: its containers have none.
type realWorld struct {
	sampler *sampler.Sampler
	*Engine
	t      testing.TB
	dir    string
	shim   string
	parent string
	store  *image.Store
	rt     *runtime.Runtime
}

func newRealWorld(t testing.TB) *realWorld {
	t.Helper()
	testenv.NeedsRoot(t)
	busybox := testenv.NeedsProgram(t, "busybox")
	w := &realWorld{t: t, dir: t.TempDir(), parent: "/porthole-test-" + randomID()[:10]}
	w.shim = filepath.Join(w.dir, "porthole-shim")
	build := exec.Command("go", "build", "-o", w.shim, "github.com/portholehq/porthole/cmd/porthole-shim")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build shim: %v\n%s", err, out)
	}
	var err error
	if w.store, err = image.Open(t.Context(), image.Options{Root: filepath.Join(w.dir, "images")}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.Import(t.Context(), busyboxTar(t, busybox), image.ImportOptions{Repo: "busybox", Changes: []string{"CMD sh"}}); err != nil {
		t.Fatal(err)
	}
	w.open()
	t.Cleanup(func() {
		w.shut()
		if err := w.store.Close(); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Second)
		defer cancel()
		if err := cgroup.New(w.parent).Destroy(ctx); err != nil {
			t.Errorf("cgroups are left: %v", err)
		}
	})
	return w
}

// busyboxTar makes a root filesystem.
func busyboxTar(t testing.TB, busybox string) io.Reader {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	add := func(h tar.Header, data []byte) {
		h.Size = int64(len(data))
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"bin", "etc", "proc", "sys", "dev", "tmp", "data"} {
		add(tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	add(tar.Header{Name: "bin/busybox", Typeflag: tar.TypeReg, Mode: 0o755}, program)
	for applet := range strings.FieldsSeq("sh true false cat echo sleep id ls kill tty trap usleep seq touch") {
		add(tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}, nil)
	}
	add(tar.Header{Name: "etc/passwd", Typeflag: tar.TypeReg, Mode: 0o644}, []byte("root:x:0:0::/:/bin/sh\napp:x:33:33::/:/bin/sh\n"))
	add(tar.Header{Name: "data/seed", Typeflag: tar.TypeReg, Mode: 0o600, Uid: 33, Gid: 33}, []byte("seed\n"))
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return &buf
}

// open starts a daemon's parts, as after a restart.
func (w *realWorld) open() {
	w.t.Helper()
	ctx := context.Background()
	check := func(err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	db, err := state.Open(filepath.Join(w.dir, "state.db"))
	check(err)
	journal, err := event.Open(filepath.Join(w.dir, "events"), event.Options{})
	check(err)
	volumes, err := volume.Open(filepath.Join(w.dir, "volumes"), nil)
	check(err)
	execRoot := filepath.Join(w.dir, "run")
	w.sampler, err = sampler.New(sampler.Options{Interval: 20 * time.Millisecond})
	check(err)
	w.rt, err = runtime.New(runtime.Options{ExecRoot: execRoot, CgroupParent: w.parent, ShimPath: w.shim})
	check(err)
	host, err := hostinfo.Gather(w.parent)
	check(err)
	w.Engine, err = New(ctx, Deps{
		Config: Config{DataRoot: w.dir, ExecRoot: execRoot, CgroupParent: w.parent}, State: db, Events: journal, Sampler: w.sampler, Host: host,
		Runtime: NewRuntime(w.rt), Images: w.store, Network: &fakeNetworks{attached: map[string]bool{}}, Volumes: volumes,
	})
	check(err)
	settleAdoption(w.t, w.Engine)
}

// shut ends the daemon's parts. Containers go on.
func (w *realWorld) shut() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, err := range []error{w.Shutdown(ctx), w.sampler.Close(), w.deps.Events.Close(), w.deps.State.Close(), w.rt.Close()} {
		if err != nil {
			w.t.Error(err)
		}
	}
}

// run creates and starts a container without a network.
func (w *realWorld) run(name string, change func(*container.CreateRequest), args ...string) string {
	w.t.Helper()
	id := w.create(name, change, args...)
	if err := w.ContainerStart(context.Background(), id); err != nil {
		w.t.Fatal(err)
	}
	return id
}

func (w *realWorld) create(name string, change func(*container.CreateRequest), args ...string) string {
	w.t.Helper()
	req := container.CreateRequest{Config: &container.Config{Image: "busybox", Cmd: args}, HostConfig: &container.HostConfig{NetworkMode: "none"}}
	if change != nil {
		change(&req)
	}
	r, err := w.ContainerCreate(context.Background(), name, req, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return r.ID
}

func (w *realWorld) wait(ref string) int {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := w.ContainerWait(ctx, ref, container.WaitConditionNotRunning)
	if err != nil {
		w.t.Fatal(err)
	}
	r, ok := <-c
	if !ok {
		w.t.Fatalf("container %s did not end", ref)
	}
	return int(r.StatusCode)
}

func (w *realWorld) remove(ref string) {
	w.t.Helper()
	if err := w.ContainerRemove(context.Background(), ref, RemoveOptions{Force: true, Volumes: true}); err != nil {
		w.t.Error(err)
	}
}

func (w *realWorld) logText(ref string) string {
	w.t.Helper()
	var b strings.Builder
	err := w.ContainerLogs(context.Background(), ref, LogsOptions{Stdout: true, Stderr: true, Tail: -1}, func(e LogEntry) error {
		fmt.Fprintf(&b, "%d:%s", e.Stream, e.Line)
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return b.String()
}

// pipe is a client's connection.
func pipe(t testing.TB) (client *net.UnixConn, server Stream) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return c, s
}

func (w *realWorld) exec(ref string, req container.ExecCreateRequest, input string) (output string, code int) {
	w.t.Helper()
	id, err := w.ContainerExecCreate(context.Background(), ref, req)
	if err != nil {
		w.t.Fatal(err)
	}
	client, server := pipe(w.t)
	go func() {
		_, _ = io.WriteString(client, input)
		if !req.Tty {
			_ = client.CloseWrite()
		}
	}()
	if err := w.ContainerExecStart(context.Background(), id, ExecStartOptions{}, func() (Stream, error) { return server, nil }); err != nil {
		w.t.Fatal(err)
	}
	b, err := io.ReadAll(client)
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := w.ContainerExecInspect(context.Background(), id)
	if err != nil || r.ExitCode == nil {
		w.t.Fatalf("inspect exec: %+v, %v", r, err)
	}
	if !req.Tty {
		b = unframe(w.t, b)
	}
	return string(b), *r.ExitCode
}

// unframe takes the headers away. Where one frame ends and the next begins is a matter of timing.
func unframe(t testing.TB, b []byte) []byte {
	t.Helper()
	var out []byte
	for len(b) > 0 {
		if len(b) < 8 {
			t.Fatalf("torn header % x", b)
		}
		n := int(binary.BigEndian.Uint32(b[4:8]))
		if b[0] != 1 && b[0] != 2 || len(b) < 8+n {
			t.Fatalf("torn frame % x", b[:8])
		}
		out, b = append(out, b[8:8+n]...), b[8+n:]
	}
	return out
}

func TestRealLife(t *testing.T) {
	w := newRealWorld(t)
	id := w.run("box", func(r *container.CreateRequest) { r.HostConfig.Binds = []string{"vol:/data"} }, "sh", "-c", "echo out; echo err >&2; trap 'exit 7' TERM; while :; do usleep 10000; done")
	defer w.remove(id)

	r, err := w.ContainerInspect(t.Context(), "box", false)
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.State.Pid))
	if err != nil {
		t.Fatal(err)
	}
	iso, err := w.ContainerIsolation("box")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("Uid:\t%d\t", iso.IDs[0]); iso.IDs[1] == 0 || !strings.Contains(string(status), want) {
		t.Errorf("root inside is not %q outside:\n%s", want, status)
	}
	if out, code := w.exec("box", container.ExecCreateRequest{Cmd: []string{"sh", "-c", "id -u; cat /data/seed; ls -ln /data; exit 3"}, AttachStdout: true, AttachStderr: true}, ""); code != 3 ||
		!strings.HasPrefix(out, "0\nseed\n") || !strings.Contains(out, " 33       33 ") {
		t.Errorf("exec: code %d, output %q", code, out)
	}
	if out, code := w.exec("box", container.ExecCreateRequest{Cmd: []string{"cat"}, AttachStdin: true, AttachStdout: true}, "hello"); code != 0 || out != "hello" {
		t.Errorf("cat: code %d, output %q", code, out)
	}
	if out, code := w.exec("box", container.ExecCreateRequest{Cmd: []string{"tty"}, Tty: true, AttachStdout: true}, ""); code != 0 || out != "/dev/pts/0\r\n" {
		t.Errorf("tty: code %d, output %q", code, out)
	}
	if out, code := w.exec("box", container.ExecCreateRequest{Cmd: []string{"nope"}, AttachStdout: true}, ""); code != 127 || !strings.Contains(out, `exec: "nope": executable file not found in $PATH: unknown`) {
		t.Errorf("missing program: code %d, output %q", code, out)
	}
	if out, code := w.exec("box", container.ExecCreateRequest{Cmd: []string{"sh", "-c", "sleep 1000 & echo started"}, AttachStdout: true}, ""); code != 0 || out != "started\n" {
		t.Errorf("grandchild holds the pipe: code %d, output %q", code, out)
	}
	path := os.Getenv("PATH")
	t.Setenv("PATH", "") // there need be no ps
	top, err := w.ContainerTop(t.Context(), "box", "-eo pid,user,args")
	t.Setenv("PATH", path)
	if err != nil {
		t.Fatal(err)
	}
	if len(top.Processes) < 2 || top.Processes[0][0] != strconv.Itoa(r.State.Pid) || top.Processes[0][1] != "root" {
		t.Errorf("top: %v", top.Processes)
	}
	var sample *api.Stats
	if err := w.ContainerStats(t.Context(), "box", false, true, func(s *api.Stats) error { sample = s; return nil }); err != nil {
		t.Fatal(err)
	}
	if sample.MemoryStats.Usage == 0 || sample.CPUStats.CPUUsage.TotalUsage == 0 || sample.PidsStats.Current < 2 || sample.CPUStats.SystemUsage == 0 {
		t.Errorf("stats: %+v", sample)
	}
	for seq := uint64(0); seq < 2; {
		_, last, err := w.sampler.Next(t.Context(), id, seq)
		if err != nil {
			t.Fatal(err)
		}
		seq = last.Seq
	}
	if err := w.ContainerStats(t.Context(), "box", false, false, func(s *api.Stats) error { sample = s; return nil }); err != nil {
		t.Fatal(err)
	}
	if between := sample.Read.Sub(sample.PreRead); sample.PreCPUStats.SystemUsage == 0 || between <= 0 || between >= statsMoment {
		t.Errorf("a single sample is not the sampler's: %v after the one before, %+v", between, sample.PreCPUStats)
	}
	if err := w.ContainerPause(t.Context(), "box"); err != nil {
		t.Fatal(err)
	}
	// A paused container gets the signal and is thawed to act on it.
	if err := w.ContainerStop(t.Context(), "box", StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if code := w.wait("box"); code != 7 {
		t.Errorf("exit code %d, want that of its trap", code)
	}
	logs := w.logText("box")
	if !strings.Contains(logs, "1:out\n") || !strings.Contains(logs, "2:err\n") {
		t.Errorf("logs %q", logs)
	}
}

func TestRealAttach(t *testing.T) {
	w := newRealWorld(t)
	id := w.create("box", func(r *container.CreateRequest) { r.OpenStdin, r.StdinOnce = true, true }, "cat")
	defer w.remove(id)
	client, server := pipe(t)
	opened, result := make(chan struct{}), make(chan error, 1)
	go func() {
		result <- w.ContainerAttach(t.Context(), id, AttachOptions{Stdin: true, Stdout: true, Stderr: true, Stream: true}, func() (Stream, error) {
			close(opened)
			return server, nil
		})
	}()
	<-opened // before the start, as run does
	if err := w.ContainerStart(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(client, "through and through"); err != nil {
		t.Fatal(err)
	}
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(client)
	if err != nil || string(unframe(t, got)) != "through and through" {
		t.Errorf("attached: %q %v", got, err)
	}
	if err := <-result; err != nil {
		t.Error(err)
	}
	if code := w.wait(id); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestRealDetach(t *testing.T) {
	w := newRealWorld(t)
	id := w.run("box", func(r *container.CreateRequest) { r.OpenStdin, r.Tty = true, true }, "cat")
	defer w.remove(id)
	client, server := pipe(t)
	result := make(chan error, 1)
	go func() {
		result <- w.ContainerAttach(t.Context(), id, AttachOptions{Stdin: true, Stdout: true, Stream: true, DetachKeys: "x,y"}, func() (Stream, error) { return server, nil })
	}()
	if _, err := io.WriteString(client, "ax"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(client, "y"); err != nil {
		t.Fatal(err)
	}
	if err := <-result; err != nil {
		t.Error(err)
	}
	if got, err := io.ReadAll(client); err != nil || !strings.HasPrefix("a", string(got)) {
		t.Errorf("attached: %q %v", got, err)
	}
	if r, err := w.ContainerInspect(t.Context(), id, false); err != nil || !r.State.Running {
		t.Errorf("after detaching: %+v %v", r.State, err)
	}
	// A client that goes away without a word is noticed, although nothing is written.
	client, server = pipe(t)
	go func() {
		result <- w.ContainerAttach(t.Context(), id, AttachOptions{Stdout: true, Stream: true}, func() (Stream, error) { return server, nil })
	}()
	client.Close()
	select {
	case <-result:
	case <-time.After(5 * time.Second):
		t.Error("attach did not end with its client")
	}
}

func TestRealAdoption(t *testing.T) {
	w := newRealWorld(t)
	long := w.run("long", nil, "sh", "-c", "i=0; while :; do echo $i; i=$((i+1)); usleep 5000; done")
	short := w.run("short", nil, "sh", "-c", "usleep 300000; exit 9")
	rm := w.run("rm", func(r *container.CreateRequest) { r.HostConfig.AutoRemove = true }, "sh", "-c", "usleep 300000")
	before, err := w.ContainerInspect(t.Context(), long, false)
	if err != nil {
		t.Fatal(err)
	}
	exec := func(script string) string {
		x, err := w.ContainerExecCreate(t.Context(), long, container.ExecCreateRequest{Cmd: []string{"sh", "-c", script}})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.ContainerExecStart(t.Context(), x, ExecStartOptions{Detach: true}, nil); err != nil {
			t.Fatal(err)
		}
		return x
	}
	brief, lasting := exec("usleep 200000; exit 6"), exec("trap 'exit 11' TERM; while :; do usleep 10000; done")
	briefly, err := w.ContainerExecInspect(t.Context(), brief)
	if err != nil {
		t.Fatal(err)
	}
	w.shut()
	eventually(t, "the end of an exec while no daemon is there", func() bool { return syscall.Kill(briefly.Pid, 0) != nil })
	eventually(t, "the end of a container while no daemon is there", func() bool {
		_, err := runtime.ReadExit(filepath.Join(w.dir, "containers", short, "shim"))
		return err == nil
	})
	down := time.Now() // the end came before, what is noticed comes after
	w.open()
	after, err := w.ContainerInspect(t.Context(), long, false)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before.State, after.State); diff != "" || !after.State.Running {
		t.Errorf("adopted container (-before +after):\n%s", diff)
	}
	x, err := w.ContainerExecInspect(t.Context(), brief)
	if err != nil || x.ExitCode == nil || *x.ExitCode != 6 {
		t.Errorf("exec that ended meanwhile: %+v %v", x, err)
	}
	if x, err = w.ContainerExecInspect(t.Context(), lasting); err != nil || !x.Running || x.Pid == 0 || !slices.Equal(after.ExecIDs, []string{lasting}) {
		t.Errorf("exec that runs: %+v %v, listed %v", x, err, after.ExecIDs)
	}
	if _, err := w.ExecSignal(t.Context(), lasting, "TERM"); err != nil {
		t.Error(err)
	}
	eventually(t, "the end of the exec", func() bool {
		x, err := w.ContainerExecInspect(t.Context(), lasting)
		return err == nil && x.ExitCode != nil && *x.ExitCode == 11
	})
	r, err := w.ContainerInspect(t.Context(), short, false)
	if err != nil {
		t.Fatal(err)
	}
	ended, err := time.Parse(time.RFC3339Nano, r.State.FinishedAt)
	if err != nil || r.State.Status != container.StateExited || r.State.ExitCode != 9 || ended.After(down) {
		t.Errorf("container that ended meanwhile: %+v", r.State)
	}
	eventually(t, "the removal that --rm asked for", func() bool {
		_, err := w.ContainerInspect(t.Context(), rm, false)
		return errdefs.IsNotFound(err)
	})
	if out, code := w.exec(long, container.ExecCreateRequest{Cmd: []string{"echo", "still"}, AttachStdout: true}, ""); code != 0 || out != "still\n" {
		t.Errorf("exec in an adopted container: %d %q", code, out)
	}
	if err := w.ContainerKill(t.Context(), long, "KILL"); err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimSpace(w.logText(long)), "\n") {
		if line != "1:"+strconv.Itoa(i) {
			t.Fatalf("line %d of the log is %q", i, line)
		}
	}
	w.remove(long)
	w.remove(short)
}

func TestRealLeftoversAreRemoved(t *testing.T) {
	w := newRealWorld(t)
	id := w.run("box", nil, "sleep", "1000")
	r, err := w.ContainerInspect(t.Context(), id, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.deps.State.Delete(t.Context(), id); err != nil { // as if the daemon had died before it wrote the record
		t.Fatal(err)
	}
	c, err := w.registry.find(id)
	if err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	c.deleted = true
	c.mu.Unlock()
	w.shut()
	w.open()
	if err := syscall.Kill(r.State.Pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the container's process: %v", err)
	}
	if roots, err := w.store.RootFSList(t.Context()); err != nil || len(roots) != 0 {
		t.Errorf("root filesystems: %v %v", roots, err)
	}
	if entries, err := os.ReadDir(filepath.Join(w.dir, "containers")); err != nil || len(entries) != 0 {
		t.Errorf("directories: %v %v", entries, err)
	}
}

func BenchmarkRealRunRm(b *testing.B) {
	w := newRealWorld(b)
	for b.Loop() {
		id := w.create("", func(r *container.CreateRequest) { r.HostConfig.AutoRemove = true }, "true")
		removed, err := w.ContainerWait(b.Context(), id, container.WaitConditionRemoved)
		if err != nil {
			b.Fatal(err)
		}
		if err := w.ContainerStart(b.Context(), id); err != nil {
			b.Fatal(err)
		}
		<-removed
	}
}
