package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerui"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// StateImage makes an image of the state of a build that ref names, as
// "step:ID", or "step:ID-before" for the one that the step has started from. It
// has the configuration of that line of the Dockerfile. ok is false when ref
// does not look like the name of a state; the error is errdefs.ErrNotFound for
// one that there is not, or no more.
//
// The image is a step's: not listed unless all are, and removed by `image
// prune`.
func (b *Builder) StateImage(ctx context.Context, ref string) (imageID string, ok bool, err error) {
	build, st, before, ok, err := b.states.find(ref)
	if err != nil || !ok {
		return "", ok, err
	}
	record := st.Ref
	if before {
		record = st.Before
	}
	var files cache.ImmutableRef
	if record != noFiles {
		if record == "" {
			return "", true, st.gone(ref)
		}
		files, err = b.worker.CacheMgr.Get(ctx, record, nil)
		if cache.IsNotFound(err) {
			return "", true, st.gone(ref)
		}
		if err != nil {
			return "", true, fmt.Errorf("look up the files of %s: %w", st, err)
		}
		defer func() { _ = files.Release(context.WithoutCancel(ctx)) }()
	}
	config, err := build.configAt(ctx, st, before)
	if err != nil {
		b.log.Debug("configuration of a build's state is made of its step's process", "state", st.ID, "err", err)
		config = configOf(st)
	}
	data, err := json.Marshal(config)
	if err != nil {
		return "", true, err
	}
	imageID, err = b.keepState(ctx, files, data, "")
	if err != nil {
		return "", true, fmt.Errorf("make an image of %s: %w", st, err)
	}
	return imageID, true, nil
}

// hasRecord tells whether the cache has a record.
func (b *Builder) hasRecord(ctx context.Context, ref string) bool {
	files, err := b.worker.CacheMgr.Get(ctx, ref, nil, cache.NoUpdateLastUsed)
	if err != nil {
		return !cache.IsNotFound(err)
	}
	_ = files.Release(ctx)
	return true
}

// configOf is the configuration that a step's own process had.
func configOf(st state) *dockerspec.DockerOCIImage {
	p := platforms.Normalize(platforms.DefaultSpec())
	out := &dockerspec.DockerOCIImage{}
	out.Platform = ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
	out.RootFS.Type = "layers"
	out.Config.Env, out.Config.User, out.Config.WorkingDir = st.Env, st.User, st.Cwd
	return out
}

// configAt is the image's configuration after, or before, the instruction of a
// state: what the Dockerfile makes of it when it ends there.
func (b *buildStates) configAt(ctx context.Context, st state, before bool) (*dockerspec.DockerOCIImage, error) {
	if st.File >= len(b.Files) {
		return nil, errors.New("its Dockerfile is not known")
	}
	text := b.Files[st.File].Text
	list, err := instructionsOf(text, "")
	if err != nil {
		return nil, err
	}
	end := 0
	for _, in := range list {
		if before && in.end >= st.End && !in.from {
			break
		}
		if end = in.end; end >= st.End {
			break
		}
	}
	lines := strings.SplitAfter(string(text), "\n")
	ui, err := dockerui.NewClient(recordedBuild{b})
	if err != nil {
		return nil, err
	}
	o := dockerfile2llb.ConvertOpt{Config: ui.Config, MetaResolver: recordedBuild{b}}
	o.Target = "" // the end of the text is the target
	if len(ui.TargetPlatforms) > 0 {
		o.TargetPlatform = &ui.TargetPlatforms[0]
	}
	r, err := dockerfile2llb.Dockerfile2LLB(ctx, []byte(strings.Join(lines[:min(end, len(lines))], "")), o)
	if err != nil {
		return nil, err
	}
	return r.Image, nil
}

// recordedBuild answers what a Dockerfile's frontend asks for as it was
// answered when the build ran.
type recordedBuild struct{ *buildStates }

var errRecorded = errors.New("the build has ended")

// BuildOpts returns the build's attributes.
func (r recordedBuild) BuildOpts() gateway.BuildOpts {
	return gateway.BuildOpts{Opts: r.Attrs, LLBCaps: pb.Caps.CapSet(pb.Caps.All())}
}

// ResolveSourceMetadata finds what a base image was.
func (r recordedBuild) ResolveSourceMetadata(_ context.Context, op *pb.SourceOp, opt sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	platform := ""
	if opt.ImageOpt != nil && opt.ImageOpt.Platform != nil {
		platform = platforms.FormatAll(*opt.ImageOpt.Platform)
	}
	for _, i := range r.Images {
		if i.Asked == op.GetIdentifier() && (i.Platform == platform || i.Platform == "" || platform == "") {
			return &sourceresolver.MetaResponse{
				Op:    &pb.SourceOp{Identifier: i.Found, Attrs: op.Attrs},
				Image: &sourceresolver.ResolveImageResponse{Digest: i.Digest, Config: i.Config},
			}, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", op.GetIdentifier(), errRecorded)
}

// ResolveImageConfig is [recordedBuild.ResolveSourceMetadata] for images.
func (r recordedBuild) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	return sourceresolver.NewImageMetaResolver(r).ResolveImageConfig(ctx, ref, opt)
}

// Solve is refused: there is nothing to be solved any more.
func (recordedBuild) Solve(context.Context, gateway.SolveRequest) (*gateway.Result, error) {
	return nil, errRecorded
}

// Inputs are none.
func (recordedBuild) Inputs(context.Context) (map[string]llb.State, error) { return nil, nil }

// NewContainer is refused.
func (recordedBuild) NewContainer(context.Context, gateway.NewContainerRequest) (gateway.Container, error) {
	return nil, errRecorded
}

// Warn does nothing: the build has warned.
func (recordedBuild) Warn(context.Context, digest.Digest, string, gateway.WarnOpts) error { return nil }
