package engine

import (
	"context"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/runtime/spec"
)

// document makes a container's OCI document, and logs what it lacks.
func (e *Engine) document(v *view) (*specs.Spec, error) {
	document, warnings, err := e.describe(v)
	if err != nil {
		return nil, err
	}
	for _, w := range warnings {
		e.log.Warn("container starts with less than was asked for", "container", v.ID, "warning", w)
	}
	return document, nil
}

func (e *Engine) describe(v *view) (*specs.Spec, []string, error) {
	return spec.Build(spec.Input{
		ID: v.ID, Config: v.Config, HostConfig: v.HostConfig, Mounts: specMounts(v.Mounts), Files: e.files(v),
		IDs: spec.IDRange(v.IDs), CgroupParent: e.config.CgroupParent, Host: e.deps.Host,
	})
}

// appArmorOf is the profile that a container runs under; empty: none.
func (e *Engine) appArmorOf(v *view) string {
	profile, err := spec.AppArmorProfile(e.deps.Host, v.HostConfig)
	if err != nil || profile == "unconfined" { // with options that are wrong it could not be made
		return ""
	}
	return profile
}

// loadAppArmor loads our profile into the kernel, if that is the one that a document names.
func (e *Engine) loadAppArmor(ctx context.Context, document *specs.Spec) error {
	if profile := document.Process.ApparmorProfile; profile == "" || profile != e.deps.Host.AppArmorProfile || e.deps.AppArmor == nil {
		return nil
	}
	return e.deps.AppArmor(ctx)
}

// documentOf is what execs in a running container are made from; of one adopted from an earlier daemon it is compiled
// again, which gives the same.
func (e *Engine) documentOf(v *view) (*specs.Spec, error) {
	if v.document != nil {
		return v.document, nil
	}
	return e.document(v)
}

// execBase keeps of a document what execs are made from. The rest, most of it a seccomp profile, is as large as all that
// the engine knows of the container besides.
func execBase(d *specs.Spec) *specs.Spec {
	return &specs.Spec{Process: d.Process, Linux: &specs.Linux{Namespaces: d.Linux.Namespaces}}
}

func specMounts(list []state.Mount) []spec.Mount {
	mounts := make([]spec.Mount, 0, len(list))
	for _, m := range list {
		if m.Type == mount.TypeImage {
			m.Source = m.Name // which names it in errors; its files are the runtime's to find
		}
		mounts = append(mounts, spec.Mount{
			Type: m.Type, Source: m.Source, Destination: m.Destination, RW: m.RW, Propagation: m.Propagation,
			NonRecursive: m.NonRecursive, ReadOnlyNonRecursive: m.ReadOnlyNonRecursive, ReadOnlyForceRecursive: m.ReadOnlyForce,
			Options: m.Options,
		})
	}
	return mounts
}

// parts tells the runtime which volumes are mounted in part.
func parts(list []state.Mount) map[string]string {
	parts := map[string]string{}
	for _, m := range list {
		if m.Subpath != "" {
			parts[m.Destination] = m.Subpath
		}
	}
	return parts
}

// execProcess is one more process for a running container.
func (e *Engine) execProcess(v *view, req container.ExecCreateRequest) (*specs.Process, error) {
	base, err := e.documentOf(v)
	if err != nil {
		return nil, err
	}
	return spec.ExecProcess(e.deps.Host, base, req)
}

// Files are the host's paths of the files that every container gets.
type Files = spec.Files
