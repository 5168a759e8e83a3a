package engine

import (
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
)

func TestDonorsOfNamespaces(t *testing.T) {
	w := newWorld(t)
	donor := func(name string, ipc container.IpcMode) {
		w.create(name, func(r *container.CreateRequest) { r.HostConfig.IpcMode = ipc }, "sleep", "9")
		w.start(name)
	}
	donor("shareable", container.IPCModeShareable)
	donor("private", container.IPCModePrivate)
	donor("none", container.IPCModeNone)
	donor("default", "")
	w.create("idle", func(r *container.CreateRequest) { r.HostConfig.IpcMode = container.IPCModeShareable }, "sleep", "9")
	idle := w.inspect("idle").ID
	const hint = ": non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
	for _, tt := range []struct {
		name   string
		change func(h *container.HostConfig)
		want   string // error; empty: it starts
		class  func(error) bool
	}{
		{"ipc shareable", func(h *container.HostConfig) { h.IpcMode = "container:shareable" }, "", nil},
		{"ipc private", func(h *container.HostConfig) { h.IpcMode = "container:private" }, "failed to join IPC namespace: container private" + hint, errdefs.IsInvalidArgument},
		{"ipc none", func(h *container.HostConfig) { h.IpcMode = "container:none" }, "failed to join IPC namespace: container none" + hint, errdefs.IsInvalidArgument},
		{"ipc of a default container", func(h *container.HostConfig) { h.IpcMode = "container:default" }, "failed to join IPC namespace: container default" + hint, errdefs.IsInvalidArgument},
		{"ipc not running", func(h *container.HostConfig) { h.IpcMode = "container:idle" }, "failed to join IPC namespace: container idle is not running", errdefs.IsConflict},
		{"pid", func(h *container.HostConfig) { h.PidMode = "container:private" }, "", nil},
		{"pid not running", func(h *container.HostConfig) { h.PidMode = container.PidMode("container:" + idle) }, "failed to join PID namespace: container " + idle + " is not running", errdefs.IsConflict},
		{"network", func(h *container.HostConfig) { h.NetworkMode = "container:private" }, "", nil},
		{"network not running", func(h *container.HostConfig) { h.NetworkMode = "container:idle" }, "cannot join network namespace of a non running container: container idle is created", errdefs.IsConflict},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id := w.create("", func(r *container.CreateRequest) { tt.change(r.HostConfig) }, "sleep", "9")
			err := w.ContainerStart(t.Context(), id)
			if got := errorText(err); got != tt.want {
				t.Errorf("start: %s\nwant %s", got, tt.want)
			}
			if tt.class != nil && !tt.class(err) {
				t.Errorf("class of %v", err)
			}
			if err := w.ContainerRemove(t.Context(), id, RemoveOptions{Force: true}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDonorsThatWereRemoved(t *testing.T) {
	w := newWorld(t)
	donor := w.create("donor", func(r *container.CreateRequest) { r.HostConfig.IpcMode = container.IPCModeShareable }, "sleep", "9")
	guests := map[string]string{
		w.create("net", func(r *container.CreateRequest) { r.HostConfig.NetworkMode = "container:donor" }, "sleep", "9"): "joining network namespace of container: No such container: " + donor,
		w.create("ipc", func(r *container.CreateRequest) { r.HostConfig.IpcMode = "container:donor" }, "sleep", "9"):     "failed to join IPC namespace: No such container: " + donor,
		w.create("pid", func(r *container.CreateRequest) { r.HostConfig.PidMode = "container:donor" }, "sleep", "9"):     "failed to join PID namespace: No such container: " + donor,
	}
	if err := w.ContainerRemove(t.Context(), donor, RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	for id, want := range guests {
		if got := errorText(w.ContainerStart(t.Context(), id)); got != want {
			t.Errorf("start: %s\nwant %s", got, want)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
