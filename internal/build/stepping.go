package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/platforms"
	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/executor"
	"github.com/moby/buildkit/exporter"
	"github.com/moby/buildkit/exporter/containerimage"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/frontend"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerui"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/frontend/gateway/forwarder"
	"github.com/moby/buildkit/session"
	solvererrors "github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/llbsolver/compat"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/leaseutil"
	"github.com/moby/buildkit/worker"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// frontendClassic is the frontend of classic builds, which steps through
	// the instructions.
	frontendClassic = "porthole.classic"
	// attrBuild names the build to its frontend.
	attrBuild = "porthole-build"
)

// An instruction is one line of a Dockerfile with what continues it.
type instruction struct {
	head    string // as it stands there, on one line
	command string // of a RUN as the kernel gets it; empty for others
	start   int    // its first line, from 1
	end     int    // its last line
	from    bool
	// early is an ARG in front of the first FROM.
	early bool
	// last tells that it is in the stage that the build's result comes of.
	last bool
	// works tells that it makes a layer, which may be in the cache.
	works bool
}

// instructionsOf lists the instructions that a build of target goes through, in
// their order.
func instructionsOf(text []byte, target string) ([]instruction, error) {
	parsed, err := parser.Parse(strings.NewReader(string(text)))
	if err != nil {
		return nil, err
	}
	stages, _, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		return nil, err
	}
	last := len(stages) - 1
	if target != "" {
		found, ok := instructions.HasStage(stages, target)
		if !ok {
			return nil, fmt.Errorf("target stage %q could not be found", target)
		}
		last = found
	}
	var list []instruction
	stage := -1
	var shell []string
	for _, node := range parsed.AST.Children {
		in := instruction{head: node.Original, start: node.StartLine, end: node.EndLine}
		switch strings.ToLower(node.Value) {
		case "from":
			if stage++; stage > last {
				return list, nil
			}
			in.from, shell = true, defaultShell
		case "shell":
			if set, err := instructions.ParseInstruction(node); err == nil {
				shell = set.(*instructions.ShellCommand).Shell
			}
		case "run":
			in.works, in.command = true, runCommand(node, shell)
		case "copy", "add", "workdir":
			in.works = true
		}
		in.early, in.last = stage < 0, stage == last
		list = append(list, in)
	}
	if stage < 0 {
		return nil, errors.New("dockerfile contains no stages to build")
	}
	return list, nil
}

// defaultShell is the one of a stage without SHELL. That of its base is not known
// before the base is.
var defaultShell = []string{"/bin/sh", "-c"}

// runCommand is what a RUN executes, as the classic builder shows it.
func runCommand(node *parser.Node, shell []string) string {
	in, err := instructions.ParseInstruction(node)
	if run, ok := in.(*instructions.RunCommand); ok && err == nil {
		if run.PrependShell {
			return strings.Join(slices.Concat(shell, run.CmdLine), " ")
		}
		return strings.Join(run.CmdLine, " ")
	}
	return node.Original
}

// steppingFrontend goes through a Dockerfile one instruction after the other.
type steppingFrontend struct {
	b       *Builder
	workers worker.Infos
	whole   frontend.Frontend // for the result
}

// Solve builds; see [frontend.Frontend].
func (f *steppingFrontend) Solve(ctx context.Context, bridge frontend.FrontendLLBBridge, exec executor.Executor, opt map[string]string, inputs map[string]*pb.Definition, sid string, sm *session.Manager) (*frontend.Result, error) {
	c := f.b.builds.get(opt[attrBuild])
	if c == nil {
		return nil, errors.New("no such build")
	}
	recorded := &recordingBridge{FrontendLLBBridge: bridge}
	stepping := forwarder.NewGatewayForwarder(f.workers, func(ctx context.Context, gw gateway.Client) (*gateway.Result, error) {
		return gateway.NewResult(), f.steps(ctx, gw, recorded, c)
	})
	if _, err := stepping.Solve(ctx, recorded, exec, opt, inputs, sid, sm); err != nil {
		return nil, err
	}
	return f.whole.Solve(ctx, bridge, exec, opt, inputs, sid, sm)
}

// steps solves the Dockerfile up to each instruction in turn. What was solved
// before is not solved again: it is all one job.
func (f *steppingFrontend) steps(ctx context.Context, gw gateway.Client, recorded *recordingBridge, c *classic) error {
	ui, err := dockerui.NewClient(gw)
	if err != nil {
		return err
	}
	source, err := ui.ReadEntrypoint(ctx, "Dockerfile")
	if err != nil {
		return err
	}
	list, err := instructionsOf(source.Data, ui.Target)
	if err != nil {
		return placed(err, source.SourceMap, 0, 0)
	}
	for _, r := range f.b.recordings.ofSession(c.session) {
		r.expect(c.o.Dockerfile, list)
	}
	lines := strings.SplitAfter(string(source.Data), "\n")
	st := &stepping{f: f, gw: gw, ui: ui, bases: &onceResolver{ImageMetaResolver: gw}, recorded: recorded, c: c, source: source}
	defer st.convert(ctx)()
	for i, in := range list {
		c.begin(i+1, len(list), in.head, in.command)
		if in.early {
			continue
		}
		text := strings.Join(lines[:min(in.end, len(lines))], "")
		id, err := st.step(ctx, in, []byte(text))
		if err != nil {
			return placed(err, source.SourceMap, in.start, in.end)
		}
		c.state(id, in.works)
	}
	return nil
}

// stepping is one way through a Dockerfile.
type stepping struct {
	f        *steppingFrontend
	gw       gateway.Client
	ui       *dockerui.Client
	bases    *onceResolver
	recorded *recordingBridge
	c        *classic
	source   *dockerui.Source

	whole *wholeFile // nil: it could not be converted as a whole
	// image and result are those after the instruction before.
	image  *dockerspec.DockerOCIImage
	result *frontend.Result
}

// options are those of converting the Dockerfile, or the beginning of it: then the
// target is the end of it.
func (s *stepping) options(target string) dockerfile2llb.ConvertOpt {
	o := dockerfile2llb.ConvertOpt{Config: s.ui.Config, Client: s.ui, SourceMap: s.source.SourceMap, MetaResolver: s.bases}
	o.Target = target
	if len(s.ui.TargetPlatforms) > 0 {
		o.TargetPlatform = &s.ui.TargetPlatforms[0]
	}
	return o
}

// convert converts the Dockerfile as a whole. An error is that of an instruction,
// which tells it when it is reached. done ends what was begun for it.
func (s *stepping) convert(ctx context.Context) (done func()) {
	whole, err := convertWhole(ctx, s.source.Data, s.options(s.ui.Target))
	if err != nil {
		s.f.b.log.Debug("Dockerfile is converted for each instruction", "err", err)
		return func() {}
	}
	s.whole = whole
	for _, r := range s.f.b.recordings.ofSession(s.c.session) {
		r.define(whole.def)
	}
	return s.f.b.watchers.add(whole.def, s.c)
}

// placed adds to an error where in the Dockerfile it is, unless it tells. Without a
// place of its own it is in the lines first to last; 0: that is not known.
func placed(err error, sm *llb.SourceMap, first, last int) error {
	if sm == nil || len(solvererrors.Sources(err)) > 0 {
		return err
	}
	if located, ok := errors.AsType[*parser.LocationError](err); ok && len(located.Locations) > 0 && len(located.Locations[0]) > 0 {
		lines := located.Locations[0]
		first, last = lines[0].Start.Line, lines[len(lines)-1].End.Line
	}
	if first <= 0 {
		return err
	}
	return solvererrors.WithSource(err, &solvererrors.Source{
		Info:   &pb.SourceInfo{Data: sm.Data, Filename: sm.Filename, Language: sm.Language, Definition: sm.Definition.ToPB()},
		Ranges: []*pb.Range{{Start: &pb.Position{Line: int32(first)}, End: &pb.Position{Line: int32(last)}}},
	})
}

// step solves the Dockerfile up to an instruction, at which text ends, and makes an
// image of the result.
func (s *stepping) step(ctx context.Context, in instruction, text []byte) (string, error) {
	def := s.whole.upTo(in.start)
	var image *dockerspec.DockerOCIImage
	if def != nil && in.last && in.command != "" {
		image = s.whole.afterRun(s.image)
	}
	if image == nil {
		r, err := dockerfile2llb.Dockerfile2LLB(ctx, text, s.options(""))
		if err != nil {
			return "", err
		}
		if image = r.Image; in.from && r.BaseImage != nil {
			s.c.triggers(len(r.BaseImage.Config.OnBuild))
		}
		// What makes no layer leaves the files of the instruction before.
		if def == nil && (in.works || in.from) {
			if def, err = s.marshal(ctx, r); err != nil {
				return "", err
			}
			defer s.f.b.watchers.add(def, s.c)()
		}
	}
	if in.works || in.from {
		if _, err := s.gw.Solve(ctx, gateway.SolveRequest{Definition: def, CacheImports: s.ui.CacheImports, Evaluate: true}); err != nil {
			return "", err
		}
		s.result = s.recorded.take()
	}
	s.image = image
	config, err := json.Marshal(image)
	if err != nil {
		return "", err
	}
	if in.from {
		if id, ok := s.f.b.untouched(ctx, s.bases, config); ok {
			return id, nil
		}
	}
	return s.f.b.keepStep(ctx, s.result, config, s.c.session)
}

func (s *stepping) marshal(ctx context.Context, r *dockerfile2llb.Result) (*pb.Definition, error) {
	def, err := r.State.Marshal(ctx)
	if err != nil {
		return nil, err
	}
	return def.ToPB(), nil
}

// keepStep makes an image of the state after an instruction, which is not shown
// among the others and can be run by its ID.
func (b *Builder) keepStep(ctx context.Context, result *frontend.Result, config []byte, sid string) (string, error) {
	if result == nil || result.Ref == nil {
		return b.keepState(ctx, nil, config, sid)
	}
	cached, err := result.Ref.Result(ctx)
	if err != nil {
		return "", err
	}
	ref, ok := cached.Sys().(*worker.WorkerRef)
	if !ok {
		return "", fmt.Errorf("result of a step is a %T", cached.Sys())
	}
	return b.keepState(ctx, ref.ImmutableRef, config, sid)
}

// keepState makes such an image of files, which may be nil, and returns its ID.
func (b *Builder) keepState(ctx context.Context, files cache.ImmutableRef, config []byte, sid string) (string, error) {
	of := madeOf(files, config)
	if id, ok := b.madeBefore(ctx, of); ok {
		return id, nil
	}
	made := madeImage{}
	id, err := b.makeImage(ctx, files, config, sid, func(ctx context.Context, target ocispec.Descriptor) error {
		made.target = target.Digest
		return b.worker.keepIntermediate(ctx, target)
	})
	if err == nil {
		made.id = id
		b.made.put(of, made)
	}
	return id, err
}

// makeImage makes an image of files, which may be nil, has name give it a name,
// and returns its ID.
func (b *Builder) makeImage(ctx context.Context, files cache.ImmutableRef, config []byte, sid string, name func(context.Context, ocispec.Descriptor) error) (string, error) {
	src := &exporter.Source{Metadata: map[string][]byte{exptypes.ExporterImageConfigKey: config}, Ref: files}
	ctx = namespaces.WithNamespace(ctx, b.worker.store.Namespace)
	ctx, done, err := leaseutil.WithLease(ctx, b.worker.LeaseManager(), leaseutil.MakeTemporary)
	if err != nil {
		return "", err
	}
	defer func() { _ = done(context.WithoutCancel(ctx)) }() // the next start would end it
	o := containerimage.ImageCommitOpts{}
	if _, err := o.Load(ctx, map[string]string{string(exptypes.OptKeyLayerCompression): "uncompressed"}); err != nil {
		return "", err
	}
	desc, _, err := b.worker.images.Commit(ctx, src, sid, nil, &o, compat.CompatibilityVersionCurrent, client.ExporterImage)
	if err != nil {
		return "", err
	}
	c, err := images.Config(ctx, b.worker.store.Content, *desc, platforms.Default())
	if err != nil {
		return "", err
	}
	x := &storeExport{worker: b.worker}
	if err := x.tie(ctx, src, c.Digest); err != nil {
		return "", err
	}
	return c.Digest.String(), name(ctx, *desc)
}
