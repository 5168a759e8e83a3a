package server

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
)

// builderVersion tells clients to build with BuildKit.
const builderVersion = "2"

func (s *Server) ping(r *request) error {
	h := r.w.Header()
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Builder-Version", builderVersion)
	h.Set("Swarm", "inactive")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if r.http.Method == http.MethodHead {
		h.Set("Content-Length", "0")
		return nil
	}
	_, err := r.w.Write([]byte("OK"))
	return err
}

func (s *Server) info(r *request) error {
	info, err := s.backend.Info(r.ctx())
	if err != nil {
		return err
	}
	if info.Swarm.LocalNodeState == "" {
		info.Swarm.LocalNodeState = swarm.LocalNodeStateInactive
	}
	if r.before(44) {
		for name, rt := range info.Runtimes {
			info.Runtimes[name] = system.RuntimeWithStatus{Runtime: rt.Runtime}
		}
	}
	if r.before(46) {
		info.Containerd = nil
	}
	extra := fields{}
	if r.before(47) {
		extra["RegistryConfig"] = fields{
			"AllowNondistributableArtifactsCIDRs":     nil,
			"AllowNondistributableArtifactsHostnames": nil,
		}
	}
	if r.before(49) {
		info.FirewallBackend = nil
		extra["ContainerdCommit"] = fields{"Expected": info.ContainerdCommit.ID}
		extra["RuncCommit"] = fields{"Expected": info.RuncCommit.ID}
		extra["InitCommit"] = fields{"Expected": info.InitCommit.ID}
	}
	if r.before(50) {
		info.DiscoveredDevices = nil
		extra["BridgeNfIptables"], extra["BridgeNfIp6tables"] = false, false
	}
	return r.jsonWith(info, extra)
}

func (s *Server) version(r *request) error {
	info, err := s.backend.Version(r.ctx())
	if err != nil {
		return err
	}
	info.APIVersion, info.MinAPIVersion = MaxVersion, MinVersion
	for i := range info.Components {
		if d := info.Components[i].Details; info.Components[i].Name == "Engine" && d != nil {
			d["ApiVersion"], d["MinAPIVersion"] = MaxVersion, MinVersion
		}
	}
	return r.json(http.StatusOK, info)
}

func (s *Server) diskUsage(r *request) error {
	kinds, err := usageKinds(r)
	if err != nil {
		return err
	}
	du, err := s.backend.SystemDiskUsage(r.ctx(), kinds, true)
	if err != nil {
		return err
	}
	out := fields{}
	if u := du.ImageUsage; u != nil {
		out["LayersSize"] = u.TotalSize
		images := make([]any, len(u.Items))
		for i := range u.Items {
			images[i] = imageFormCounted(r, u.Items[i])
		}
		out["Images"] = images
	}
	if u := du.ContainerUsage; u != nil {
		containers := make([]*container.Summary, len(u.Items))
		for i := range u.Items {
			containers[i] = summaryForm(r, &u.Items[i])
		}
		out["Containers"] = containers
	}
	if u := du.VolumeUsage; u != nil {
		out["Volumes"] = nonNil[volume.Volume](u.Items)
	}
	if len(kinds) == 0 || slices.Contains(kinds, system.BuildCacheObject) {
		records, err := s.buildCache(r.ctx())
		if err != nil {
			return err
		}
		out["BuildCache"] = nonNil[build.CacheRecord](records)
	}
	return r.json(http.StatusOK, out)
}

// usageKinds reads what a disk usage request asks for; nothing means all.
func usageKinds(r *request) ([]system.DiskUsageObject, error) {
	if r.before(42) {
		return nil, nil
	}
	var out []system.DiskUsageObject
	for _, text := range r.form["type"] {
		switch kind := system.DiskUsageObject(text); kind {
		case system.ContainerObject, system.ImageObject, system.VolumeObject, system.BuildCacheObject:
			out = append(out, kind)
		default:
			return nil, invalid("unknown object type: %s", text)
		}
	}
	return out, nil
}

// unavailable returns the handler of an endpoint that this build does not have.
func unavailable(what string) handler {
	return func(*request) error {
		return errdefs.ErrNotImplemented.WithMessage(what + " is not available in this build of Porthole")
	}
}

// noSwarm answers as a Docker Engine that is not part of a swarm.
func noSwarm(*request) error {
	return errdefs.ErrUnavailable.WithMessage(
		`This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`)
}

func (s *Server) pluginList(r *request) error {
	return r.json(http.StatusOK, []struct{}{})
}

func (s *Server) pluginInspect(r *request) error {
	return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("plugin %q not found", r.name))
}
