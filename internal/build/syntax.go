package build

import (
	"context"
	"maps"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/executor"
	"github.com/moby/buildkit/frontend"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver/pb"
)

// builtinSyntax answers `# syntax=docker/dockerfile…` with the frontend that is
// built in: pulling one would mean to run a program from a registry for each
// build, and to fail without a network. Other frontends are run as they are
// named.
type builtinSyntax struct {
	frontend.Frontend
	dockerfiles frontend.Frontend
}

// Solve builds; see [frontend.Frontend].
func (b builtinSyntax) Solve(ctx context.Context, llb frontend.FrontendLLBBridge, exec executor.Executor, opt map[string]string, inputs map[string]*pb.Definition, sid string, sm *session.Manager) (*frontend.Result, error) {
	if !isDockerfileSyntax(opt[frontend.KeySource]) {
		return b.Frontend.Solve(ctx, llb, exec, opt, inputs, sid, sm)
	}
	opt = maps.Clone(opt)
	// Without it the frontend would find the line again.
	if _, given := opt["cmdline"]; !given {
		opt["cmdline"] = opt[frontend.KeySource]
	}
	return b.dockerfiles.Solve(ctx, llb, exec, opt, inputs, sid, sm)
}

func isDockerfileSyntax(source string) bool {
	ref, err := reference.ParseNormalizedNamed(source)
	if err != nil {
		return false
	}
	name := ref.Name()
	return name == "docker.io/docker/dockerfile" || strings.HasPrefix(name, "docker.io/docker/dockerfile-upstream")
}
