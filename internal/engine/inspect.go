package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"

	"github.com/portholehq/porthole/internal/crilog"
	"github.com/portholehq/porthole/internal/runtime/spec"
)

const driverName = "overlayfs" // of containerd's snapshotter, as Docker's containerd store calls it

// ContainerInspect tells all about one container, or a step of a build that runs. It reads the snapshot and, with size, walks the root filesystem.
func (e *Engine) ContainerInspect(ctx context.Context, ref string, size bool) (*container.InspectResponse, error) {
	c, err := e.lookUp(ref)
	if err != nil {
		return nil, err
	}
	if size && c.step != nil {
		return nil, invalid("the size of a build step is not known while it runs")
	}
	grace, cancel := context.WithTimeout(ctx, readGrace)
	defer cancel()
	_ = e.awaitAdoption(grace, c) // else it is shown as it was saved
	v := c.view()
	files := e.files(v)
	r := &container.InspectResponse{
		ID: v.ID, Created: v.Created.Format(time.RFC3339Nano), Path: v.Path, Args: slices.Concat([]string{}, v.Args),
		State: inspectState(v), Image: v.ImageID, Name: "/" + v.Name, RestartCount: v.Life.RestartCount,
		ResolvConfPath: files.ResolvConf, HostnamePath: files.Hostname, HostsPath: files.Hosts, LogPath: crilog.Current(e.logDir(v.ID)),
		Driver: driverName, Platform: v.Platform.OS, ExecIDs: v.execs, HostConfig: v.HostConfig, Config: v.Config,
		Mounts: mountPoints(v), NetworkSettings: networkSettings(v), ImageManifestDescriptor: v.Manifest,
		Storage: &storage.Storage{RootFS: &storage.RootFSStorage{Snapshot: &storage.RootFSStorageSnapshot{Name: driverName}}},
	}
	if r.AppArmorProfile, err = spec.AppArmorProfile(e.deps.Host, v.HostConfig); err != nil {
		return nil, err
	}
	if v.HostConfig.LogConfig.Type == "none" {
		r.LogPath = ""
	}
	if c.step != nil {
		r.LogPath = crilog.Current(c.step.LogDir)
	}
	if size {
		rw, total, err := e.containerSizes(ctx, ctx, v.ID)
		if err != nil {
			return nil, err
		}
		r.SizeRw, r.SizeRootFs = &rw, &total
	}
	return r, nil
}

// Isolation is what Docker's inspect has no place for.
type Isolation struct {
	IDs        [2]uint32 `json:"ids"`                   // first host id and number of ids of the user namespace; 0, 0: the host's
	UsernsNote string    `json:"userns_note,omitempty"` // why it is the host's
	Signal     int       `json:"signal,omitempty"`      // that ended the last run
	Task       Task      `json:"-"`                     // nil: it does not run
}

// ContainerIsolation tells about a container's place on the host.
func (e *Engine) ContainerIsolation(ref string) (Isolation, error) {
	v, err := e.viewOf(ref)
	if err != nil {
		return Isolation{}, err
	}
	return Isolation{IDs: [2]uint32{v.IDs.Host, v.IDs.Size}, UsernsNote: v.UsernsNote, Signal: v.Life.Signal, Task: v.task}, nil
}

func inspectState(v *view) *container.State {
	return &container.State{
		Status: v.toldStatus(), Running: v.live(), Paused: v.status() == container.StatePaused,
		Restarting: v.status() == container.StateRestarting, OOMKilled: v.Life.OOMKilled, Dead: v.status() == container.StateDead,
		Pid: v.pid(), ExitCode: v.Life.ExitCode, Error: v.Life.Error,
		StartedAt: v.Life.StartedAt.Format(time.RFC3339Nano), FinishedAt: v.Life.FinishedAt.Format(time.RFC3339Nano),
		Health: v.health,
	}
}

func networkSettings(v *view) *container.NetworkSettings {
	n := &container.NetworkSettings{Ports: network.PortMap{}, Networks: v.liveNetworks()}
	if n.Networks == nil {
		n.Networks = map[string]*network.EndpointSettings{}
	}
	if v.pid() > 0 {
		n.SandboxID, n.SandboxKey = v.ID, fmt.Sprintf("/proc/%d/ns/net", v.pid())
		for p := range v.Config.ExposedPorts {
			n.Ports[p] = nil
		}
		maps.Copy(n.Ports, portMap(v.published))
	}
	return n
}
