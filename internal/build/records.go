package build

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	controlapi "github.com/moby/buildkit/api/services/control"

	"github.com/portholehq/porthole/api"
)

// LastBuild is the name of the newest build.
const LastBuild = "last"

// Builds lists the records of builds, newest first, without what makes them
// large.
func (b *Builder) Builds() ([]*api.Build, error) {
	running := map[string]bool{}
	var list []*api.Build
	for _, r := range b.recordings.all() {
		s := r.snapshot()
		running[s.ID] = true
		s.Text, s.Steps = "", nil
		list = append(list, s)
	}
	kept, err := b.history.List()
	if err != nil {
		return nil, err
	}
	for _, s := range kept {
		if !running[s.ID] {
			list = append(list, s)
		}
	}
	slices.SortStableFunc(list, func(a, b *api.Build) int { return b.CreatedAt.Compare(a.CreatedAt) })
	return list, nil
}

// Build is the record of a build: by its ID, the beginning of one, or
// [LastBuild].
func (b *Builder) Build(ref string) (*api.Build, error) {
	id, err := b.buildID(ref)
	if err != nil {
		return nil, err
	}
	for _, r := range b.recordings.all() {
		if s := r.snapshot(); s.ID == id {
			return s, nil
		}
	}
	return b.history.Get(id)
}

// buildID completes what names a build.
func (b *Builder) buildID(ref string) (string, error) {
	list, err := b.Builds()
	if err != nil {
		return "", err
	}
	if ref == LastBuild && len(list) > 0 {
		return list[0].ID, nil
	}
	found := ""
	for _, s := range list {
		if s.ID == ref {
			return ref, nil
		}
		if ref == "" || !strings.HasPrefix(s.ID, ref) {
			continue
		}
		if found != "" {
			return "", errdefs.ErrInvalidArgument.WithMessage("multiple IDs found with provided prefix: " + ref)
		}
		found = s.ID
	}
	if found == "" {
		return "", errdefs.ErrNotFound.WithMessage("no such build: " + ref)
	}
	return found, nil
}

// RemoveBuild removes the record of a build that has ended, the logs of its
// steps, and what BuildKit has recorded of it. It returns the build's ID.
func (b *Builder) RemoveBuild(ctx context.Context, ref string) (string, error) {
	s, err := b.Build(ref)
	if err != nil {
		return "", err
	}
	if s.State == api.BuildRunning {
		return "", errdefs.ErrConflict.WithMessage("build " + s.ID + " is running: end its client first")
	}
	var failures []error
	for _, step := range s.Steps {
		if step.Process != "" && filepath.IsLocal(step.Process) {
			failures = append(failures, os.RemoveAll(filepath.Join(b.logsDir(), step.Process)))
		}
	}
	// BuildKit keeps fewer, so this one may be gone.
	_, _ = b.controller.UpdateBuildHistory(ctx, &controlapi.UpdateBuildHistoryRequest{Ref: s.ID, Delete: true})
	failures = append(failures, b.history.Delete(s.ID))
	return s.ID, errors.Join(failures...)
}

// Steps are the processes of builds: those that run, and with all those of the
// newest builds that have ended, newest first.
func (b *Builder) Steps(all bool) ([]api.BuildProcess, error) {
	var list []api.BuildProcess
	add := func(s *api.Build) {
		for _, step := range s.Steps {
			if step.Process != "" && (all || step.State == api.BuildRunning) {
				list = append(list, api.BuildProcess{Build: s.ID, BuildStep: step})
			}
		}
	}
	if !all {
		for _, r := range b.recordings.all() {
			add(r.snapshot())
		}
	} else {
		builds, err := b.Builds()
		if err != nil {
			return nil, err
		}
		for _, h := range builds[:min(len(builds), recentBuilds)] {
			s, err := b.Build(h.ID)
			if errdefs.IsNotFound(err) {
				continue // removed meanwhile
			}
			if err != nil {
				return nil, err
			}
			add(s)
		}
	}
	slices.SortStableFunc(list, func(a, b api.BuildProcess) int { return b.StartedAt.Compare(a.StartedAt) })
	return list, nil
}

// recentBuilds is how many builds count as the newest.
const recentBuilds = 10
