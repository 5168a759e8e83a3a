package engine

import (
	"context"
	"strings"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/image"
)

// CommitOptions belong to [Engine.ContainerCommit].
type CommitOptions struct {
	Repo, Tag       string // empty: no name; no tag: latest
	Author, Comment string
	Changes         []string          // Dockerfile instructions
	Pause           bool              // freeze a container that runs meanwhile
	Config          *container.Config // instead of the container's; what it leaves open is the container's
}

// ContainerChanges lists the paths of a container that are not as in its image.
func (e *Engine) ContainerChanges(ctx context.Context, ref string) ([]container.FilesystemChange, error) {
	c, done, err := e.operate(ctx, "diff", ref)
	if err != nil {
		return nil, err
	}
	defer done()
	changes, err := e.deps.Images.RootFSChanges(ctx, c.id, mountTargets(c.view()))
	if err != nil {
		return nil, err
	}
	out := make([]container.FilesystemChange, len(changes))
	for i, ch := range changes {
		out[i] = container.FilesystemChange{Path: ch.Path, Kind: container.ChangeType(ch.Kind)}
	}
	return out, nil
}

// mountTargets are the places where something is mounted into a container.
func mountTargets(v *view) []string {
	targets := []string{"/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/console", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/sbin/docker-init", "/sys/fs/cgroup"}
	for _, m := range v.Mounts {
		targets = append(targets, m.Destination)
	}
	for _, g := range v.Life.Grafts {
		targets = append(append(targets, g.Destination), g.Made...)
	}
	return targets
}

// ContainerCommit makes an image of a container, which may run or not, and returns its id.
func (e *Engine) ContainerCommit(ctx context.Context, ref string, o CommitOptions) (string, error) {
	c, done, err := e.operate(ctx, "commit", ref)
	if err != nil {
		return "", err
	}
	defer done()
	v := c.view()
	if err := notGoing(v, "commit"); err != nil {
		return "", err
	}
	config, err := committedConfig(v.Config, o.Config)
	if err != nil {
		return "", err
	}
	if o.Pause && v.status() == container.StateRunning {
		if err := e.ContainerPause(ctx, c.id); err != nil {
			return "", err
		}
		defer func() {
			// Somebody may have killed it meanwhile, or let it go on.
			if err := e.ContainerUnpause(context.WithoutCancel(ctx), c.id); err != nil && c.view().status() == container.StatePaused {
				e.log.Error("container stays paused after commit", "container", c.id, "err", err)
			}
		}()
	}
	img, err := e.deps.Images.Commit(ctx, image.CommitOptions{
		ContainerID: c.id, ImageID: v.ImageID, Config: config, Changes: o.Changes,
		Author: o.Author, Comment: o.Comment, CreatedBy: strings.Join(v.Config.Cmd, " "),
		Repo: o.Repo, Tag: o.Tag, Targets: mountTargets(v),
	})
	if err != nil {
		return "", err
	}
	if img.Name != "" {
		e.emitImage(ctx, events.ActionTag, img.ID, img.Name)
	}
	e.emit(ctx, c.view(), events.ActionCommit, map[string]string{"comment": o.Comment, "imageID": img.ID, "imageRef": img.Name})
	return img.ID, nil
}

// committedConfig is a container's configuration in the form of an image's. What over says, if there is one, goes first.
func committedConfig(c, over *container.Config) (dockerspec.DockerOCIImageConfig, error) {
	own := imageConfig(c)
	if over == nil {
		return own, nil
	}
	merged, err := merge(over, image.Image{Config: dockerspec.DockerOCIImage{Config: own}})
	if err != nil {
		return own, err
	}
	return imageConfig(merged), nil
}

func imageConfig(c *container.Config) dockerspec.DockerOCIImageConfig {
	var ports map[string]struct{}
	for p := range c.ExposedPorts {
		if ports == nil {
			ports = map[string]struct{}{}
		}
		ports[p.String()] = struct{}{}
	}
	return dockerspec.DockerOCIImageConfig{
		ImageConfig: ocispec.ImageConfig{
			User: c.User, ExposedPorts: ports, Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd, Volumes: c.Volumes,
			WorkingDir: c.WorkingDir, Labels: c.Labels, StopSignal: c.StopSignal,
		},
		DockerOCIImageConfigExt: dockerspec.DockerOCIImageConfigExt{Healthcheck: c.Healthcheck, OnBuild: c.OnBuild, Shell: c.Shell},
	}
}
