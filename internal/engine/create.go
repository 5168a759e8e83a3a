package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/image"
	"github.com/portholehq/porthole/internal/problem"
	"github.com/portholehq/porthole/internal/runtime/spec"
	"github.com/portholehq/porthole/internal/undo"
	"github.com/portholehq/porthole/internal/volume"
)

// creation is one ContainerCreate under way.
type creation struct {
	e        *Engine
	rec      *state.Container
	image    image.Image
	mounted  []image.Image // those that are mounted
	layers   image.Layers
	root     *os.File // of layers, merged; nil until it is needed
	warnings []string
	steps    undo.Stack
	unpin    []func()                    // of its volumes, once the container is known to have them
	saved    func(context.Context) error // waits until the record is on disk; set by make
}

// ContainerCreate makes a container from an image. It answers with the id and warnings. An empty name means one made up;
// platform may be nil. A request that fails leaves nothing behind.
func (e *Engine) ContainerCreate(ctx context.Context, name string, req container.CreateRequest, platform *ocispec.Platform) (container.CreateResponse, error) {
	if req.Config == nil {
		return container.CreateResponse{}, invalid("config cannot be empty in order to create a container")
	}
	defer e.beginNamed(ctx, "create", name)()
	n := e.newCreation()
	defer n.steps.Run() // does nothing after Keep
	defer n.close()
	if err := n.decide(ctx, name, req, platform); err != nil {
		return container.CreateResponse{}, err
	}
	if err := n.make(ctx); err != nil {
		return container.CreateResponse{}, err
	}
	c := n.ctr()
	if err := n.publish(ctx, c); err != nil {
		return container.CreateResponse{}, err
	}
	e.keepUnstarted(c)
	e.expectStart(c)
	return n.response(), nil
}

func (e *Engine) newCreation() *creation {
	return &creation{e: e, rec: &state.Container{ID: randomID(), Created: time.Now().UTC()}}
}

// ctr is the container that was made, not known to anybody yet.
func (n *creation) ctr() *ctr {
	c := newCtr(n.e.deps.State, n.rec)
	close(c.adopted)
	close(c.booted)
	return c
}

func (n *creation) response() container.CreateResponse {
	return container.CreateResponse{ID: n.rec.ID, Warnings: append([]string{}, n.warnings...)}
}

// publish makes the container known, once its record is on disk.
func (n *creation) publish(ctx context.Context, c *ctr) error {
	err := context.Cause(ctx) // a client that has gone is told of nothing, however fast the record was saved
	if err == nil {
		err = n.saved(ctx)
	}
	if err != nil {
		// It may be written yet, if it was only not waited for.
		return errors.Join(err, n.e.deps.State.DeleteLater(n.rec.ID))
	}
	n.e.registry.add(c)
	n.steps.Keep()
	n.close()
	n.e.emit(ctx, c.view(), events.ActionCreate, dangerous(n.e.surrenders(ctx, n.rec, n.e.preciousPlaces(ctx))))
	return nil
}

// close gives back what only the creation needs. It may be called again.
func (n *creation) close() {
	n.root.Close() // nil is fine
	for _, unpin := range n.unpin {
		unpin()
	}
	n.root, n.unpin = nil, nil
}

// decide works out what the container will be. It reserves a name and ids and touches nothing else.
func (n *creation) decide(ctx context.Context, name string, req container.CreateRequest, platform *ocispec.Platform) error {
	var err error
	if n.image, err = n.e.resolveImage(ctx, req.Image, platform); err != nil {
		return err
	}
	if w := n.e.deps.Images.PlatformWarning(n.image); w != "" && platform == nil {
		n.warnings = append(n.warnings, w)
	}
	rec := n.rec
	rec.ImageID, rec.Platform, rec.Manifest = n.image.ID, n.image.Platform, &n.image.Manifest
	config := *req.Config
	rec.HostConfig = withDefaults(req.HostConfig, n.e.config.LogConfig)
	rec.Life.Status = container.StateCreated
	warnings, err := spec.Validate(n.e.deps.Host, &config, rec.HostConfig)
	n.warnings = append(n.warnings, warnings...)
	for _, w := range []string{n.e.denialsWarning(rec.HostConfig.Annotations), n.e.blackBoxWarning(rec.HostConfig.Annotations)} {
		if w != "" {
			n.warnings = append(n.warnings, w)
		}
	}
	if err != nil {
		return err
	}
	if rec.Config, err = merge(&config, n.image); err != nil {
		return err
	}
	spec.SetDefaults(n.e.deps.Host, rec.HostConfig)
	if !knownRuntime(rec.HostConfig.Runtime) {
		return invalid("unknown or invalid runtime name: %s", rec.HostConfig.Runtime)
	}
	rec.Path, rec.Args = command(rec.Config)
	if rec.Config.Hostname == "" {
		rec.Config.Hostname = n.hostname()
	}
	if rec.Mounts, err = planMounts(rec.Config, rec.HostConfig, n.e.viewOf); err != nil {
		return err
	}
	if err := n.imageMounts(ctx); err != nil {
		return err
	}
	if err := n.networks(req); err != nil {
		return err
	}
	if rec.Name, err = n.e.registry.reserve(name, rec.ID); err != nil {
		return err
	}
	n.steps.AddFunc(func() { n.e.registry.release(rec.Name, rec.ID) })
	if err := n.e.checkLogging(rec); err != nil { // a tag may show the name
		return err
	}
	return n.userNamespace()
}

// imageMounts finds the images that are mounted. None is pulled for that.
func (n *creation) imageMounts(ctx context.Context) error {
	for i, m := range n.rec.Mounts {
		if m.Type != mount.TypeImage {
			continue
		}
		ref := cmp.Or(m.Source, m.Name) // taken from another container, it is the very image that this has
		img, err := n.e.deps.Images.Resolve(ctx, ref)
		if errdefs.IsNotFound(err) { // of NotFound clients conclude that the container's own image has to be pulled
			return problem.WithHint(invalid("No such image: %s", m.Name), "porthole pull "+m.Name)
		}
		if err != nil {
			return err
		}
		n.rec.Mounts[i].Source = img.ID
		n.mounted = append(n.mounted, img)
	}
	return nil
}

// knownRuntime accepts our own name and those by which clients ask for the usual way to run containers.
func knownRuntime(name string) bool {
	_, ok := runtimes()[name]
	return ok || name == ""
}

// hostname is the one that nobody asked for. Containers in the host's UTS or network namespace have the host's.
func (n *creation) hostname() string {
	if n.rec.HostConfig.UTSMode.IsHost() || string(n.rec.HostConfig.NetworkMode) == network.NetworkHost {
		if name, err := os.Hostname(); err == nil {
			return name
		}
	}
	return n.rec.ID[:12]
}

// networks checks the network mode and notes what was asked of each endpoint.
func (n *creation) networks(req container.CreateRequest) error {
	h := n.rec.HostConfig
	for _, ref := range []struct {
		spec string
		to   *state.Reference
	}{{string(h.NetworkMode), &n.rec.ResolvedNet}, {string(h.PidMode), &n.rec.ResolvedPID}, {string(h.IpcMode), &n.rec.ResolvedIPC}} {
		other, ok := strings.CutPrefix(ref.spec, "container:")
		if !ok {
			continue
		}
		c, err := n.e.registry.find(other)
		if err != nil {
			return cannotJoin(err)
		}
		*ref.to = state.Reference(c.id)
	}
	mode := string(h.NetworkMode)
	if n.rec.ResolvedNet != "" {
		other, err := n.e.viewOf(string(n.rec.ResolvedNet))
		if err != nil {
			return cannotJoin(err)
		}
		// They share the files that say who is called so.
		n.rec.Config.Hostname, n.rec.Config.Domainname = other.Config.Hostname, other.Config.Domainname
		h.NetworkMode = container.NetworkMode("container:" + string(n.rec.ResolvedNet))
		return nil
	}
	var err error
	n.rec.Networks, err = n.e.plannedNetworks(mode, req.NetworkingConfig)
	if err == nil {
		err = n.e.checkLinks(n.rec)
	}
	return err
}

// cannotJoin keeps clients from taking a missing container for a missing image: of NotFound they conclude at create
// that the image has to be pulled.
func cannotJoin(err error) error {
	if errdefs.IsNotFound(err) {
		return invalid("%v", err)
	}
	return err
}

// userNamespace gives the container ids on the host. See hostUserReason for who gets the host's own.
func (n *creation) userNamespace() error {
	rec := n.rec
	wants := string(rec.HostConfig.UsernsMode)
	if shared, err := n.sharedIDs(); err != nil || shared {
		if err == nil {
			err = n.e.checkSwaps(rec.Mounts)
		}
		return err
	}
	reason := hostUserReason(rec.HostConfig)
	if reason == "" {
		reason = n.e.unmappable(rec.Mounts)
		if reason != "" && wants == "private" {
			return invalid("--userns=private: %s", reason)
		}
		if reason != "" {
			n.warnings = append(n.warnings, "the container runs in the host's user namespace: "+reason)
		}
	} else if wants == "private" {
		return invalid("--userns=private cannot be combined with %s", reason)
	}
	if err := n.e.checkSwaps(rec.Mounts); err != nil {
		return err
	}
	if reason != "" {
		rec.UsernsNote = reason
		return nil
	}
	ids, err := n.e.ids.allocate()
	if err != nil {
		return err
	}
	rec.IDs = ids
	n.steps.AddFunc(func() { n.e.ids.release(ids) })
	return nil
}

// sharedIDs takes the ids of the containers whose namespaces are joined.
func (n *creation) sharedIDs() (bool, error) {
	rec := n.rec
	shared := false
	for _, ref := range []state.Reference{rec.ResolvedNet, rec.ResolvedPID, rec.ResolvedIPC} {
		if ref == "" {
			continue
		}
		other, err := n.e.registry.find(string(ref))
		if err != nil {
			return false, err
		}
		v := other.view()
		if shared && rec.IDs != v.IDs {
			return false, invalid("containers %s cannot be joined together: they have different user namespaces", ref)
		}
		rec.IDs, shared = v.IDs, true
		if v.IDs.Size == 0 {
			rec.UsernsNote = "it joins a container that runs in the host's user namespace"
		}
	}
	if !shared {
		return false, nil
	}
	if reason := hostUserReason(rec.HostConfig); reason != "" && rec.IDs.Size != 0 {
		return false, invalid("%s needs the host's user namespace, but the container that is joined has one of its own", reason)
	}
	n.e.ids.share(rec.IDs)
	ids := rec.IDs
	n.steps.AddFunc(func() { n.e.ids.release(ids) })
	return true, nil
}

// hostUserReason names the option that puts a container into the host's user namespace; empty: none does. A namespace
// of the host can only be used with the host's rights: a port below 1024, for one, could not be bound otherwise.
func hostUserReason(h *container.HostConfig) string {
	switch {
	case h.UsernsMode.IsHost():
		return "--userns=host"
	case h.Privileged:
		return "--privileged"
	case h.PidMode.IsHost():
		return "--pid=host"
	case h.IpcMode.IsHost():
		return "--ipc=host"
	case h.UTSMode.IsHost():
		return "--uts=host"
	case h.CgroupnsMode.IsHost():
		return "--cgroupns=host"
	case string(h.NetworkMode) == network.NetworkHost:
		return "--network=host"
	}
	return ""
}

// make puts on disk what was decided. The record comes last: what has no record is a leftover that the next daemon
// removes. It is still on its way when make returns.
func (n *creation) make(ctx context.Context) error {
	e, rec := n.e, n.rec
	dir := e.dir(rec.ID)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	n.steps.AddFunc(func() { e.removeFiles(dir) })
	var err error
	if n.layers, err = e.deps.Images.CreateRootFS(ctx, rec.ID, n.image, n.mounted...); err != nil {
		return err
	}
	n.steps.Add(func() error { return e.deps.Images.RemoveRootFS(context.WithoutCancel(ctx), rec.ID) })
	if err := n.volumes(ctx); err != nil {
		return err
	}
	n.saved, err = e.deps.State.BeginPut(rec)
	return err
}

// volumes makes the volumes that do not exist and fills the empty ones with what the image has at their place.
func (n *creation) volumes(ctx context.Context) error {
	mounts := slices.Clone(n.rec.Mounts)
	for i := range mounts {
		m := &mounts[i]
		if m.Type != mount.TypeVolume {
			continue
		}
		unpin, err := n.e.pins.pin(m.Name)
		if err != nil {
			return err
		}
		n.unpin = append(n.unpin, unpin)
		if m.Source != "" {
			continue // taken from another container
		}
		if err := n.volume(ctx, m); err != nil {
			return err
		}
	}
	n.rec.Mounts = mounts
	return nil
}

func (n *creation) volume(ctx context.Context, m *state.Mount) error {
	if m.Driver != "local" {
		return invalid("error looking up volume plugin %s: plugin %q not found", m.Driver, m.Driver)
	}
	vol, err := n.e.deps.Volumes.Create(m.Name, volume.CreateOptions{Labels: m.VolumeLabels, Options: m.VolumeOptions, Anonymous: m.Anonymous})
	if errdefs.IsInvalidArgument(err) {
		return fmt.Errorf("create %s: %w", m.Name, err)
	}
	if err != nil {
		return err
	}
	if vol.Created {
		n.steps.Add(func() error {
			err := n.e.removeVolume(context.WithoutCancel(ctx), m.Name, "")
			if errdefs.IsConflict(err) { // another container has got it meanwhile
				return nil
			}
			return err
		})
		n.e.emitOther(ctx, events.VolumeEventType, events.ActionCreate, m.Name, map[string]string{"driver": "local"})
	}
	m.Source = vol.Path
	// A tmpfs would lose the copy with the mount, before the container starts.
	if !m.CopyUp || vol.Options["type"] == "tmpfs" {
		return nil
	}
	if len(vol.Options) > 0 {
		user := "create-" + n.rec.ID
		if err := n.e.deps.Volumes.Mount(m.Name, user); err != nil {
			return err
		}
		defer func() { _, _ = n.e.deps.Volumes.Unmount(m.Name, user) }() // it is tried again with the next use
	}
	root, err := n.rootFS()
	if err != nil {
		return err
	}
	return n.e.deps.Volumes.CopyUp(ctx, m.Name, root, m.Destination)
}

// rootFS opens the merged root filesystem, for reading only, once for all volumes.
func (n *creation) rootFS() (*os.File, error) {
	if n.root != nil {
		return n.root, nil
	}
	root, err := n.layers.OpenImage()
	if err != nil {
		return nil, fmt.Errorf("open the image's files: %w", err)
	}
	n.root = root
	return root, nil
}

// resolveImage finds the image and checks the platform if one was asked for.
func (e *Engine) resolveImage(ctx context.Context, ref string, platform *ocispec.Platform) (image.Image, error) {
	if platform == nil {
		return e.deps.Images.Resolve(ctx, ref)
	}
	return e.deps.Images.ResolvePlatform(ctx, ref, *platform)
}

// viewOf is the snapshot of the container that ref names.
func (e *Engine) viewOf(ref string) (*view, error) {
	c, err := e.registry.find(ref)
	if err != nil {
		return nil, err
	}
	return c.view(), nil
}
