package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"go.uber.org/goleak"

	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/problem"
	"github.com/portholehq/porthole/internal/runtime"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLifeOfOneContainer(t *testing.T) {
	w := newWorld(t)
	id := w.create("web", nil, "sleep", "9")
	if s := w.inspect("web").State; s.Status != container.StateCreated || s.Running || s.Pid != 0 {
		t.Errorf("created: %+v", s)
	}
	w.start("web")
	r := w.inspect(id[:6])
	if s := r.State; s.Status != container.StateRunning || !s.Running || s.Pid == 0 || s.StartedAt == "0001-01-01T00:00:00Z" {
		t.Errorf("running: %+v", s)
	}
	if got := r.NetworkSettings.Networks["bridge"].IPAddress.String(); got != "172.20.0.2" {
		t.Errorf("address %s", got)
	}
	if err := w.ContainerStart(t.Context(), "web"); !errdefs.IsNotModified(err) {
		t.Errorf("second start: %v", err)
	}
	hosts, err := os.ReadFile(r.HostsPath)
	if err != nil || !strings.Contains(string(hosts), "172.20.0.2\t"+id[:12]+"\n") {
		t.Errorf("hosts file: %v\n%s", err, hosts)
	}
	if err := w.ContainerStop(t.Context(), "web", StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if s := w.inspect("web").State; s.Status != container.StateExited || s.ExitCode != 143 || s.Pid != 0 {
		t.Errorf("stopped: %+v", s)
	}
	if err := w.ContainerStop(t.Context(), "web", StopOptions{}); !errdefs.IsNotModified(err) {
		t.Errorf("second stop: %v", err)
	}
	w.start("web")
	if err := w.ContainerKill(t.Context(), "web", ""); err != nil {
		t.Fatal(err)
	}
	if code := w.wait("web", container.WaitConditionNotRunning); code != 137 {
		t.Errorf("exit code %d", code)
	}
	if err := w.ContainerRemove(t.Context(), "web", RemoveOptions{Volumes: true}); err != nil {
		t.Fatal(err)
	}
	want := []string{"create", "start", "kill", "die", "stop", "start", "kill", "die", "destroy"}
	if diff := cmp.Diff(want, w.actions()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	w.empty()
}

// empty checks that nothing of any container is left.
func (w *world) empty() {
	w.t.Helper()
	if n := w.runtime.count(); n != 0 {
		w.t.Errorf("%d tasks are left", n)
	}
	if n := w.network.count(); n != 0 {
		w.t.Errorf("%d endpoints are left", n)
	}
	if n := len(w.images.root); n != 0 {
		w.t.Errorf("%d root filesystems are left", n)
	}
	if list := w.deps.Volumes.List(); len(list) != 0 {
		w.t.Errorf("volumes are left: %v", list)
	}
	if err := w.deps.State.Flush(context.Background()); err != nil {
		w.t.Error(err)
	}
	// What is removed by itself goes once its death is written.
	eventually(w.t, "removal of directories", func() bool {
		entries, err := os.ReadDir(filepath.Join(w.dir, "containers"))
		return err == nil && len(entries) == 0
	})
	eventually(w.t, "removal of records", func() bool {
		recs, _, err := w.deps.State.Containers()
		return err == nil && len(recs) == 0
	})
	// They are given back when the kernel has cleared the container away, which a removal need not wait for.
	eventually(w.t, "release of id ranges", func() bool {
		w.ids.mu.Lock()
		defer w.ids.mu.Unlock()
		return len(w.ids.used) == 0
	})
}

func TestAutoRemove(t *testing.T) {
	w := newWorld(t)
	w.runtime.programs["true"] = func(t *fakeTask) { t.end(Exit{Code: 3}) }
	id := w.create("once", func(r *container.CreateRequest) { r.HostConfig.AutoRemove = true }, "true")
	removed, err := w.ContainerWait(t.Context(), id, container.WaitConditionRemoved)
	if err != nil {
		t.Fatal(err)
	}
	w.start(id)
	if r := <-removed; r.StatusCode != 3 {
		t.Errorf("exit code %d", r.StatusCode)
	}
	if _, err := w.ContainerInspect(t.Context(), id, false); !errdefs.IsNotFound(err) || err.Error() != "No such container: "+id {
		t.Errorf("inspect after removal: %v", err)
	}
	w.empty()
}

func TestStartFailure(t *testing.T) {
	for _, tt := range []struct {
		program string
		err     error
		code    int
		text    string
	}{
		{"nope", &runtime.StartError{Step: "exec", Errno: syscall.ENOENT, Message: `exec: "nope": executable file not found in $PATH`}, 127, `failed to create task for container: failed to create shim task: OCI runtime create failed: unable to start container process: error during container init: exec: "nope": executable file not found in $PATH: unknown`},
		{"/etc", &runtime.StartError{Step: "exec", Errno: syscall.EACCES, Message: `exec: "/etc": is a directory`}, 126, `exec: "/etc": is a directory`},
		{"/bad", &runtime.StartError{Step: "mount /x", Errno: syscall.ENOTDIR, Message: `error mounting "/a" to rootfs at "/x": not a directory`}, 127, "Are you trying to mount a directory onto a file (or vice-versa)?"},
		{"/odd", errors.New("shim: broken pipe"), 128, "shim: broken pipe"},
	} {
		t.Run(tt.program, func(t *testing.T) {
			w := newWorld(t)
			w.runtime.failing[tt.program] = tt.err
			id := w.create("", nil, tt.program)
			err := w.ContainerStart(t.Context(), id)
			if err == nil || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error %q\nwant  %q", err, tt.text)
			}
			s := w.inspect(id).State
			if s.Status != container.StateCreated || s.ExitCode != tt.code || s.Error != err.Error() {
				t.Errorf("state %+v", s)
			}
			if w.runtime.count() != 0 || w.network.count() != 0 {
				t.Error("the failed start left something behind")
			}
		})
	}
	t.Run("with --rm", func(t *testing.T) {
		w := newWorld(t)
		w.runtime.failing["nope"] = &runtime.StartError{Message: "no"}
		id := w.create("", func(r *container.CreateRequest) { r.HostConfig.AutoRemove = true }, "nope")
		removed, err := w.ContainerWait(t.Context(), id, container.WaitConditionRemoved)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.ContainerStart(t.Context(), id); err == nil {
			t.Error("start succeeded")
		}
		<-removed
		w.empty()
	})
}

func TestBadCreateLeavesNothing(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	for _, tt := range []struct {
		name   string
		change func(w *world, r *container.CreateRequest)
		class  func(error) bool
		text   string
	}{
		{"no such image", func(_ *world, r *container.CreateRequest) { r.Image = "nope" }, errdefs.IsNotFound, "No such image: nope"},
		{"no command", func(_ *world, r *container.CreateRequest) { r.Entrypoint, r.Cmd = []string{""}, nil }, errdefs.IsInvalidArgument, "no command specified"},
		{"relative mount", func(_ *world, r *container.CreateRequest) { r.HostConfig.Binds = []string{"/a:b"} }, errdefs.IsInvalidArgument, "mount path must be absolute"},
		{"mount on root", func(_ *world, r *container.CreateRequest) { r.HostConfig.Binds = []string{"/a:/"} }, errdefs.IsInvalidArgument, "destination can't be '/'"},
		{"mount mode", func(_ *world, r *container.CreateRequest) { r.HostConfig.Binds = []string{"/a:/b:rw,ro"} }, errdefs.IsInvalidArgument, "invalid mode: rw,ro"},
		{"twice", func(_ *world, r *container.CreateRequest) { r.HostConfig.Binds = []string{"/a:/b", "/c:/b"} }, errdefs.IsInvalidArgument, "Duplicate mount point: /b"},
		{"missing source of --mount", func(_ *world, r *container.CreateRequest) {
			r.HostConfig.Mounts = []mount.Mount{{Type: mount.TypeBind, Source: missing, Target: "/b"}}
		}, errdefs.IsInvalidArgument, `invalid mount config for type "bind": bind source path does not exist: ` + missing},
		{"volume name", func(_ *world, r *container.CreateRequest) { r.HostConfig.Binds = []string{"a/b:/b"} }, errdefs.IsInvalidArgument, "If you intended to pass a host directory, use absolute path"},
		{"volume driver", func(_ *world, r *container.CreateRequest) {
			r.HostConfig.Binds, r.HostConfig.VolumeDriver = []string{"v1:/b", "v2:/c"}, "odd"
		}, errdefs.IsInvalidArgument, `plugin "odd" not found`},
		{"runtime", func(_ *world, r *container.CreateRequest) { r.HostConfig.Runtime = "kata" }, errdefs.IsInvalidArgument, "unknown or invalid runtime name: kata"},
		{"log driver", func(_ *world, r *container.CreateRequest) { r.HostConfig.LogConfig.Type = "gelf" }, errdefs.IsInvalidArgument, "logger: no log driver named 'gelf' is registered"},
		{"log option", func(_ *world, r *container.CreateRequest) {
			r.HostConfig.LogConfig.Config = map[string]string{"max-siz": "1"}
		}, errdefs.IsInvalidArgument, "unknown log opt 'max-siz' for json-file log driver"},
		{"no such network", func(_ *world, r *container.CreateRequest) { r.HostConfig.NetworkMode = "mine" }, errdefs.IsInvalidArgument, "network mine not found"},
		{"join nobody", func(_ *world, r *container.CreateRequest) { r.HostConfig.PidMode = "container:nobody" }, errdefs.IsInvalidArgument, "No such container: nobody"},
		{"disk full", func(w *world, r *container.CreateRequest) { w.images.fail = errors.New("no space left on device") }, func(error) bool { return true }, "no space left on device"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			req := container.CreateRequest{Config: &container.Config{Image: "busybox", Cmd: []string{"x"}}, HostConfig: &container.HostConfig{}}
			tt.change(w, &req)
			_, err := w.ContainerCreate(t.Context(), "name", req, nil)
			if err == nil || !tt.class(err) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error %v, want %q", err, tt.text)
			}
			w.empty()
			if got := w.registry.names; len(got) != 0 {
				t.Errorf("names are left: %v", got)
			}
		})
	}
}

// TestNoIDs gives all ranges of ids away.
func TestNoIDs(t *testing.T) {
	w := newWorld(t)
	var taken []state.IDRange
	for {
		x, err := w.ids.allocate()
		if err != nil {
			break
		}
		taken = append(taken, x)
	}
	_, err := w.ContainerCreate(t.Context(), "name", container.CreateRequest{Config: &container.Config{Image: "busybox"}}, nil)
	if !errdefs.IsResourceExhausted(err) || problem.ScarceHint(err.Error()) == "" {
		t.Errorf("error %v, want one that no range is left, and a hint for it", err)
	}
	for _, x := range taken {
		w.ids.release(x)
	}
	w.empty()
	w.create("name", nil)
}

func TestNames(t *testing.T) {
	w := newWorld(t)
	id := w.create("x1", nil, "a")
	_, err := w.ContainerCreate(t.Context(), "x1", container.CreateRequest{Config: &container.Config{Image: "busybox"}}, nil)
	want := `Conflict. The container name "/x1" is already in use by container "` + id + `". You have to remove (or rename) that container to be able to reuse that name.`
	if !errdefs.IsConflict(err) || err.Error() != want {
		t.Errorf("clash: %v", err)
	}
	_, err = w.ContainerCreate(t.Context(), "-x", container.CreateRequest{Config: &container.Config{Image: "busybox"}}, nil)
	if !errdefs.IsInvalidArgument(err) || err.Error() != "Invalid container name (-x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed" {
		t.Errorf("bad name: %v", err)
	}
	if err := w.ContainerRename(t.Context(), "x1", "x1"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("rename to itself: %v", err)
	}
	if err := w.ContainerRename(t.Context(), "x1", "x2"); err != nil {
		t.Fatal(err)
	}
	if got := w.inspect("x2"); got.ID != id || got.Name != "/x2" {
		t.Errorf("renamed: %s %s", got.ID, got.Name)
	}
	if _, err := w.ContainerInspect(t.Context(), "x1", false); !errdefs.IsNotFound(err) {
		t.Errorf("old name: %v", err)
	}
}

func TestMergeWithImage(t *testing.T) {
	w := newWorld(t)
	r := w.inspect(w.create("", func(r *container.CreateRequest) {
		r.Env, r.Labels = []string{"A=user", "B=2"}, map[string]string{"mine": "1"}
	}))
	if diff := cmp.Diff([]string{"A=user", "B=2", "PATH=/bin"}, r.Config.Env); diff != "" {
		t.Error(diff)
	}
	if r.Path != "sh" || len(r.Args) != 0 || r.Config.WorkingDir != "/w" || r.Config.Labels["from"] != "image" || r.Config.Hostname != r.ID[:12] {
		t.Errorf("merged: %+v", r.Config)
	}
	if len(r.Mounts) != 1 || r.Mounts[0].Destination != "/data" || r.Mounts[0].Type != mount.TypeVolume || len(r.Mounts[0].Name) != 64 {
		t.Errorf("anonymous volume: %+v", r.Mounts)
	}
}

func TestStopKillsAfterTimeout(t *testing.T) {
	w := newWorld(t)
	id := w.create("deaf", nil, "deaf")
	w.runtime.programs["deaf"] = func(t *fakeTask) { t.mu.Lock(); t.ignore = true; t.mu.Unlock() }
	w.start(id)
	eventually(t, "deafness", func() bool { f := w.runtime.task(id); f.mu.Lock(); defer f.mu.Unlock(); return f.ignore })
	zero := 0
	if err := w.ContainerStop(t.Context(), id, StopOptions{Timeout: &zero, Signal: "INT"}); err != nil {
		t.Fatal(err)
	}
	if code := w.inspect(id).State.ExitCode; code != 137 {
		t.Errorf("exit code %d", code)
	}
	want := []string{"create", "start", "kill", "kill", "die", "stop"}
	if diff := cmp.Diff(want, w.actions()); diff != "" {
		t.Error(diff)
	}
}

func TestRemoveRules(t *testing.T) {
	w := newWorld(t)
	id := w.create("web", nil, "sleep")
	w.start("web")
	err := w.ContainerRemove(t.Context(), "web", RemoveOptions{})
	if !errdefs.IsConflict(err) || err.Error() != `cannot remove container "web": container is running: stop the container before removing or force remove` {
		t.Errorf("running: %v", err)
	}
	if err := w.ContainerPause(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	err = w.ContainerRemove(t.Context(), "web", RemoveOptions{})
	if !errdefs.IsConflict(err) || err.Error() != `cannot remove container "web": container is paused and must be unpaused first` {
		t.Errorf("paused: %v", err)
	}
	c, err := w.registry.find(id)
	if err != nil {
		t.Fatal(err)
	}
	release, err := c.turn.take(t.Context(), "something slow")
	if err != nil {
		t.Fatal(err)
	}
	first := make(chan error)
	go func() {
		first <- w.ContainerRemove(t.Context(), "web", RemoveOptions{Force: true, Volumes: true})
	}()
	eventually(t, "claim", func() bool { return c.view().removing })
	err = w.ContainerRemove(t.Context(), "web", RemoveOptions{Force: true})
	if !errdefs.IsConflict(err) || err.Error() != "removal of container web is already in progress" {
		t.Errorf("second removal: %v", err)
	}
	soon, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := w.ContainerStart(soon, "web"); err == nil {
		t.Error("start during removal succeeded")
	}
	release()
	if err := <-first; err != nil {
		t.Error(err)
	}
	w.empty()
}

func TestPauseRules(t *testing.T) {
	w := newWorld(t)
	id := w.create("web", nil, "sleep")
	for _, tt := range []struct {
		name string
		do   func() error
		text string
	}{
		{"pause created", func() error { return w.ContainerPause(t.Context(), "web") }, "container " + id + " is not running"},
		{"start", func() error { return w.ContainerStart(t.Context(), "web") }, ""},
		{"unpause running", func() error { return w.ContainerUnpause(t.Context(), "web") }, "Container " + id + " is not paused"},
		{"pause", func() error { return w.ContainerPause(t.Context(), "web") }, ""},
		{"pause twice", func() error { return w.ContainerPause(t.Context(), "web") }, "container " + id + " is already paused"},
		{"start paused", func() error { return w.ContainerStart(t.Context(), "web") }, "cannot start a paused container, try unpause instead"},
		{"exec paused", func() error {
			_, err := w.ContainerExecCreate(t.Context(), "web", container.ExecCreateRequest{Cmd: []string{"x"}})
			return err
		}, "Container web is paused, unpause the container before exec"},
		{"unpause", func() error { return w.ContainerUnpause(t.Context(), "web") }, ""},
		{"pause again", func() error { return w.ContainerPause(t.Context(), "web") }, ""},
		{"stop paused", func() error { return w.ContainerStop(t.Context(), "web", StopOptions{}) }, ""},
	} {
		err := tt.do()
		if (err == nil) != (tt.text == "") || (err != nil && err.Error() != tt.text) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.text)
		}
	}
}

func TestRestartPolicy(t *testing.T) {
	w := newWorld(t)
	w.runtime.programs["fail"] = func(t *fakeTask) { t.end(Exit{Code: 5}) }
	id := w.create("", func(r *container.CreateRequest) {
		r.HostConfig.RestartPolicy = container.RestartPolicy{Name: container.RestartPolicyOnFailure, MaximumRetryCount: 2}
	}, "fail")
	w.start(id)
	eventually(t, "giving up", func() bool { return w.inspect(id).State.Status == container.StateExited })
	if r := w.inspect(id); r.RestartCount != 2 || r.State.ExitCode != 5 {
		t.Errorf("restarts %d, exit code %d", r.RestartCount, r.State.ExitCode)
	}
	always := w.create("", func(r *container.CreateRequest) {
		r.HostConfig.RestartPolicy.Name = container.RestartPolicyAlways
	}, "fail")
	w.start(always)
	eventually(t, "a restart", func() bool { return w.inspect(always).State.Status == container.StateRestarting })
	if err := w.ContainerStop(t.Context(), always, StopOptions{}); err != nil {
		t.Error(err)
	}
	if s := w.inspect(always).State; s.Status != container.StateExited || s.Restarting {
		t.Errorf("stopped while it waited: %+v", s)
	}
}

func TestRestartDelay(t *testing.T) {
	for _, tt := range []struct{ last, ran, want time.Duration }{
		{0, 0, 100 * time.Millisecond},
		{100 * time.Millisecond, time.Second, 200 * time.Millisecond},
		{50 * time.Second, time.Second, time.Minute},
		{time.Minute, 10 * time.Second, 100 * time.Millisecond},
	} {
		if got := restartDelay(tt.last, tt.ran); got != tt.want {
			t.Errorf("after %v and a run of %v: %v, want %v", tt.last, tt.ran, got, tt.want)
		}
	}
}

func TestReadsDoNotWait(t *testing.T) {
	w := newWorld(t)
	id := w.create("stuck", nil, "sleep")
	w.start(id)
	c, err := w.registry.find(id)
	if err != nil {
		t.Fatal(err)
	}
	release, err := c.turn.take(t.Context(), "freeze")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if s := w.inspect(id).State; !s.Running {
		t.Errorf("inspect: %+v", s)
	}
	if list, err := w.ContainerList(t.Context(), ListOptions{}); err != nil || len(list) != 1 {
		t.Errorf("list: %v %v", list, err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, errors.New("client is gone"))
	defer cancel()
	err = w.ContainerPause(ctx, id)
	if err == nil || !strings.Contains(err.Error(), "pause waited for freeze, which has been at work for") {
		t.Errorf("a verb behind a stuck one: %v", err)
	}
	// Stopping must be possible all the same.
	if err := w.ContainerStop(t.Context(), id, StopOptions{}); err != nil {
		t.Error(err)
	}
}

func BenchmarkRunRm(b *testing.B) {
	w := newWorld(b)
	w.images.bare = true
	w.runtime.programs["true"] = func(t *fakeTask) { t.end(Exit{}) }
	for b.Loop() {
		id := w.create("", func(r *container.CreateRequest) { r.HostConfig.AutoRemove = true }, "true")
		removed, err := w.ContainerWait(b.Context(), id, container.WaitConditionRemoved)
		if err != nil {
			b.Fatal(err)
		}
		w.start(id)
		<-removed
	}
}

// TestRemoveBreaksOffAStart: a start may hang on what is in the container's files.
func TestRemoveBreaksOffAStart(t *testing.T) {
	w := newWorld(t)
	w.runtime.failing["hang"] = errHangs
	id := w.create("slow", nil, "hang")
	result := make(chan error, 1)
	go func() { result <- w.ContainerStart(t.Context(), id) }()
	eventually(t, "the start", func() bool { return w.runtime.count() == 1 })
	if err := w.ContainerRemove(t.Context(), id, RemoveOptions{Force: true, Volumes: true}); err != nil {
		t.Error(err)
	}
	if err := <-result; !errors.Is(err, errRemoved) {
		t.Errorf("start: %v", err)
	}
	w.empty()
}

// TestResumeAfterTheEnd: a paused container that is killed while somebody lets it go on does not run again.
func TestResumeAfterTheEnd(t *testing.T) {
	w := newWorld(t)
	id := w.create("box", nil, "sleep")
	w.start(id)
	if err := w.ContainerPause(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	c, err := w.registry.find(id)
	if err != nil {
		t.Fatal(err)
	}
	w.runtime.task(id).end(Exit{Code: 137})
	eventually(t, "its end", func() bool { return c.view().status() == container.StateExited })
	if err := c.resume(); err == nil || c.view().status() != container.StateExited {
		t.Errorf("resume: %v, status %s", err, c.view().status())
	}
}
