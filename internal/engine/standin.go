package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	mobymount "github.com/moby/moby/api/types/mount"
	mobynet "github.com/moby/moby/api/types/network"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/image"
	"github.com/portholehq/porthole/internal/linux/mount"
	"github.com/portholehq/porthole/internal/network"
	"github.com/portholehq/porthole/internal/runtime"
	"github.com/portholehq/porthole/internal/runtime/spec"
	"github.com/portholehq/porthole/internal/undo"
)

// standIn is a container in place of one that does not run, or of an image: with the same configuration, files, mounts and
// networks, but a process of ours that waits. A debug session is executed in it. It has no record and nobody finds it: if
// its daemon ends, the next one clears it away as a leftover.
type standIn struct {
	e    *Engine
	d    *debugging
	rec  *state.Container
	root func(ctx context.Context) (image.Layers, error) // makes its writable layer
	gone <-chan struct{}                                 // closed when the target is removed; nil: never

	steps undo.Stack
	task  Task
}

// debugStopped prepares a session in place of a container that does not run.
func (e *Engine) debugStopped(c *ctr, v *view, req api.DebugRequest) (*execution, error) {
	if c.damaged || v.removing || v.status() == container.StateRemoving {
		return nil, conflict("container %s is marked for removal", v.ID)
	}
	if req.Live {
		return nil, errNotLive(v.Name)
	}
	d := &debugging{req: req, facts: api.DebugSession{Target: v.ID, Name: v.Name, State: string(v.status()), Writes: "discard"}, subject: v}
	return e.standInOver(d, v.Container, c.gone), nil
}

// debugRemoved prepares a session in place of a container whose files are kept.
func (e *Engine) debugRemoved(kept *remain, req api.DebugRequest) (*execution, error) {
	rec := kept.Record
	if req.Live {
		return nil, errNotLive(rec.Name)
	}
	d := &debugging{req: req, facts: api.DebugSession{Target: rec.ID, Name: rec.Name, State: "removed", Writes: "discard"}}
	return e.standInOver(d, rec, kept.gone), nil
}

// standInOver makes the session's execution with a stand-in above what a container has written.
func (e *Engine) standInOver(d *debugging, target *state.Container, gone <-chan struct{}) *execution {
	x := e.standInFor(d, target)
	d.standIn.gone = gone
	d.standIn.root = func(ctx context.Context) (image.Layers, error) {
		return e.deps.Images.CreateRootFSOver(ctx, x.id, target.ID)
	}
	return x
}

func errNotLive(name string) error {
	return conflict("what a session writes is discarded unless the container runs: %s does not", name)
}

// debugImage prepares a session in a container of an image.
func (e *Engine) debugImage(ctx context.Context, req api.DebugRequest) (*execution, error) {
	img, err := e.deps.Images.Resolve(ctx, req.Target)
	if errdefs.IsNotFound(err) || errdefs.IsInvalidArgument(err) {
		return nil, notFound("No such container or image: %s", req.Target)
	}
	if err != nil {
		return nil, err
	}
	if req.Live {
		return nil, invalid("what a session writes in an image is discarded: images do not change")
	}
	config, err := merge(&container.Config{Image: req.Target, Entrypoint: []string{"sh"}}, img)
	if err != nil {
		return nil, err
	}
	host := withDefaults(nil, container.LogConfig{})
	spec.SetDefaults(e.deps.Host, host)
	rec := &state.Container{Config: config, HostConfig: host, ImageID: img.ID, Platform: img.Platform}
	if rec.Networks, err = e.plannedNetworks(string(host.NetworkMode), nil); err != nil {
		return nil, err
	}
	d := &debugging{req: req, facts: api.DebugSession{Target: img.ID, Name: req.Target, State: "image", Writes: "discard"}}
	x := e.standInFor(d, rec)
	d.standIn.root = func(ctx context.Context) (image.Layers, error) { return e.deps.Images.CreateRootFS(ctx, x.id, img) }
	return x, nil
}

// standInFor makes the session's execution with its stand-in, of which nothing is there yet.
func (e *Engine) standInFor(d *debugging, target *state.Container) *execution {
	s := &standIn{e: e, d: d}
	d.standIn = s
	x := d.execution(nil)
	s.rec = s.record(x.id, target)
	c := newCtr(e.deps.State, s.rec)
	c.deleted = true // it is never saved
	close(c.adopted)
	close(c.booted)
	x.c = c
	return x
}

// standInName is what a stand-in, or the layer of a session in a container that runs, is called where its files are counted.
func standInName(id string) string { return "debug_" + id[:12] }

// record is the target's, without what would keep a second container from being like it: what only one can have, such as
// ports, addresses and names, what belongs to its program, and limits, which are not meant for tools.
func (s *standIn) record(id string, target *state.Container) *state.Container {
	config, host := *target.Config, *target.HostConfig
	config.Healthcheck, config.Tty, config.OpenStdin, config.ExposedPorts = nil, false, false, nil
	if config.Hostname == "" {
		config.Hostname = id[:12]
	}
	host.PortBindings, host.PublishAllPorts, host.Links, host.AutoRemove = nil, false, nil, false
	host.RestartPolicy = container.RestartPolicy{Name: container.RestartPolicyDisabled}
	host.LogConfig = withLogDefaults(container.LogConfig{Type: "json-file"}, container.LogConfig{})
	host.Resources = container.Resources{Devices: host.Devices, DeviceCgroupRules: host.DeviceCgroupRules, DeviceRequests: host.DeviceRequests}
	host.ReadonlyRootfs = false // what is written is discarded anyhow
	if target.ResolvedPID != "" {
		host.PidMode = ""
	}
	if target.ResolvedIPC != "" {
		host.IpcMode = "private"
	}
	rec := &state.Container{
		ID: id, Name: standInName(id), Created: target.Created, Config: &config, HostConfig: &host, ImageID: target.ImageID, Platform: target.Platform,
		Life: state.Life{Status: container.StateRunning, Copied: true},
	}
	rec.Networks = s.networks(target, &host)
	rec.Mounts = s.mounts(target)
	return rec
}

// networks are the target's that are still there, without its addresses and names.
func (s *standIn) networks(target *state.Container, host *container.HostConfig) map[string]*mobynet.EndpointSettings {
	networks := map[string]*mobynet.EndpointSettings{}
	for name := range target.Networks {
		if _, err := s.e.deps.Network.Resolve(name); err != nil {
			s.d.note("network %s is gone", name)
			continue
		}
		networks[name] = &mobynet.EndpointSettings{}
	}
	if target.ResolvedNet != "" {
		s.d.note("it had the network of another container; this session has none")
	}
	if _, ok := networks[string(host.NetworkMode)]; ok {
		return networks
	}
	host.NetworkMode = mobynet.NetworkNone
	for name := range networks { // any of those that are left can be the first
		host.NetworkMode = container.NetworkMode(name)
		return networks
	}
	return map[string]*mobynet.EndpointSettings{mobynet.NetworkNone: {}}
}

// mounts are the target's that are still there. What is on the host, or in a volume, must not change.
func (s *standIn) mounts(target *state.Container) []state.Mount {
	var list []state.Mount
	readOnly := false
	for _, m := range target.Mounts {
		if why := s.missing(m); why != "" {
			s.d.note("%s is not mounted: %s", m.Destination, why)
			continue
		}
		if m.Type != mobymount.TypeTmpfs && m.RW {
			m.RW, m.ReadOnlyForce, readOnly = false, false, true
		}
		if m.Type != mobymount.TypeTmpfs {
			m.ReadOnlyNonRecursive = false
		}
		m.CopyUp, m.MakeSource = false, false
		list = append(list, m)
	}
	if readOnly {
		s.d.note("volumes and bind mounts are read-only")
	}
	return list
}

// missing tells why something cannot be mounted any more; empty: it can.
func (s *standIn) missing(m state.Mount) string {
	switch m.Type {
	case mobymount.TypeVolume:
		if _, err := s.e.deps.Volumes.Get(m.Name); err != nil {
			return fmt.Sprintf("volume %s is gone", m.Name)
		}
	case mobymount.TypeBind:
		f, err := mount.OpenSource(m.Source, m.Subpath)
		if err != nil {
			return err.Error()
		}
		f.Close()
	case mobymount.TypeTmpfs, mobymount.TypeImage, mobymount.TypeCluster, mobymount.TypeNamedPipe:
	}
	return ""
}

// open makes the stand-in and starts its process.
func (s *standIn) open(ctx context.Context, x *execution) (*view, error) {
	layers, err := s.start(ctx, x)
	if err != nil {
		return nil, errors.Join(err, s.steps.Run())
	}
	s.d.onClose(func(ctx context.Context) {
		if err := s.task.Delete(ctx); err != nil {
			s.e.log.Error("debug session left something behind", "session", x.id, "err", err)
		}
	})
	s.d.onClose(func(ctx context.Context) { s.e.takeChanges(ctx, x, layers, x.c.view()) })
	s.d.onClose(func(context.Context) {
		if err := s.steps.Run(); err != nil {
			s.e.log.Error("debug session left something behind", "session", x.id, "err", err)
		}
	})
	s.endWithTarget(x)
	return x.c.view(), nil
}

// endWithTarget ends the session when its target is removed, since the files that it shows go.
func (s *standIn) endWithTarget(x *execution) {
	if s.gone == nil {
		return
	}
	s.e.goWork(func() {
		select {
		case <-s.gone:
			ctx, cancel := context.WithTimeout(s.e.life, debugTimeout)
			defer cancel()
			if err := s.task.Kill(ctx); err != nil {
				s.e.log.Warn("debug session of a removed container goes on", "session", x.id, "err", err)
			}
		case <-s.task.Done():
		case <-s.e.life.Done():
		}
	})
}

func (s *standIn) start(ctx context.Context, x *execution) (layers image.Layers, err error) {
	e, id := s.e, x.id
	if _, err := e.registry.reserve(s.rec.Name, id); err != nil { // so that what is its is nobody's leftover
		return layers, err
	}
	s.steps.AddFunc(func() { e.registry.release(s.rec.Name, id) })
	if err := s.takeIDs(x); err != nil {
		return layers, err
	}
	v := x.c.view()
	if layers, err = s.root(ctx); err != nil {
		return layers, err
	}
	s.steps.Add(func() error { return e.deps.Images.RemoveRootFS(context.WithoutCancel(ctx), id) }) // if it is still there
	if err := os.MkdirAll(e.dir(id), 0o700); err != nil {
		return layers, err
	}
	s.steps.AddFunc(func() { e.removeFiles(e.dir(id)) })
	if err := e.mountVolumes(v, id, &s.steps); err != nil {
		return layers, err
	}
	b, document, err := s.bundle(ctx, v, layers)
	if err != nil {
		return layers, err
	}
	if s.task, err = e.deps.Runtime.Create(ctx, b); err != nil {
		return layers, err
	}
	s.steps.Add(func() error { return s.task.Delete(context.WithoutCancel(ctx)) })
	if err := s.connect(ctx, v); err != nil {
		return layers, err
	}
	if err := s.task.Start(ctx); err != nil {
		return layers, err
	}
	x.c.update(func(v *view) { v.task, v.document = s.task, execBase(document) })
	return layers, nil
}

// takeIDs gives the stand-in ids on the host, if the target would have had some.
func (s *standIn) takeIDs(x *execution) error {
	if hostUserReason(s.rec.HostConfig) != "" || s.e.unmappable(s.rec.Mounts) != "" {
		return nil
	}
	ids, err := s.e.ids.allocate()
	if err != nil {
		return err
	}
	s.steps.AddFunc(func() { s.e.ids.release(ids) })
	x.c.update(func(v *view) { v.IDs = ids })
	return nil
}

// bundle is what the runtime needs, and the document of what the target would run.
func (s *standIn) bundle(ctx context.Context, v *view, layers image.Layers) (Bundle, *specs.Spec, error) {
	b, err := s.e.bundle(ctx, v)
	if err != nil {
		return b, nil, err
	}
	document := *b.Spec
	waiting := *document.Process
	waiting.Args, waiting.User, waiting.OOMScoreAdj = []string{toolsPath + "/sleep", "infinity"}, specs.User{}, nil
	started := document
	started.Process = &waiting
	b.Spec, b.RootFS, b.Init, b.Tools = &started, runtime.Layers(layers), true, s.d.view.Tools
	return b, &document, nil
}

// connect gives the stand-in addresses in its networks.
func (s *standIn) connect(ctx context.Context, v *view) error {
	if !isBridged(v) {
		return nil
	}
	ns, err := s.task.NetNS()
	if err != nil {
		return err
	}
	defer ns.Close()
	s.steps.Add(func() error { return s.e.deps.Network.Detach(context.WithoutCancel(ctx), v.ID) })
	var all []network.Endpoint
	endpoints := map[string]*mobynet.EndpointSettings{}
	for _, name := range networkNames(v) {
		ep, err := s.e.deps.Network.Attach(ctx, attachSpec(v, name, nil, ns))
		if err != nil {
			return err
		}
		all = append(all, ep)
		es := endpointSettings(v, nil, ep)
		es.DNSNames = slices.DeleteFunc(es.DNSNames, func(n string) bool { return n != v.Name }) // not the target's
		endpoints[name] = es
	}
	if _, err := s.e.serve(ctx, v, s.task, endpoints); err != nil {
		return err
	}
	return s.e.addAddresses(v, all)
}
