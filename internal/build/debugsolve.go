package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/executor"
	"github.com/moby/buildkit/frontend"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerui"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/frontend/gateway/forwarder"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/worker"
	"github.com/opencontainers/go-digest"

	"github.com/portholehq/porthole/internal/build/order"
)

// frontendDebug is the frontend of builds that are debugged: it solves a
// Dockerfile up to one instruction.
const frontendDebug = "porthole.debug"

// debugJob is one instruction that is done.
type debugJob struct {
	in    instruction
	text  []byte // of the Dockerfile, to the end of the instruction
	state debugState
}

// debugJobs finds a job by the reference that its frontend has.
type debugJobs struct {
	mu   sync.Mutex
	list map[string]*debugJob
}

func (d *debugJobs) put(ref string, j *debugJob) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.list == nil {
		d.list = map[string]*debugJob{}
	}
	d.list[ref] = j
}

func (d *debugJobs) remove(ref string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.list, ref)
}

func (d *debugJobs) get(ref string) *debugJob {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.list[ref]
}

type debugFrontend struct {
	s       *debugSession
	workers worker.Infos
}

// Solve solves; see [frontend.Frontend].
func (f *debugFrontend) Solve(ctx context.Context, bridge frontend.FrontendLLBBridge, exec executor.Executor, opt map[string]string, inputs map[string]*pb.Definition, sid string, sm *session.Manager) (*frontend.Result, error) {
	job := f.s.jobs.get(opt[attrBuild])
	if job == nil {
		return nil, errors.New("no such build")
	}
	recorded := &recordingBridge{FrontendLLBBridge: bridge}
	fwd := forwarder.NewGatewayForwarder(f.workers, func(ctx context.Context, gw gateway.Client) (*gateway.Result, error) {
		return gateway.NewResult(), f.s.solveJob(ctx, gw, recorded, job)
	})
	return fwd.Solve(ctx, recorded, exec, opt, inputs, sid, sm)
}

// solveJob solves the job's text and keeps the result.
func (s *debugSession) solveJob(ctx context.Context, gw gateway.Client, recorded *recordingBridge, job *debugJob) error {
	ui, err := dockerui.NewClient(gw)
	if err != nil {
		return err
	}
	source := llb.NewSourceMap(nil, s.attrs["filename"], "Dockerfile", job.text)
	o := dockerfile2llb.ConvertOpt{Config: ui.Config, Client: ui, SourceMap: source, MetaResolver: gw}
	o.Target = "" // the end of the text is the target
	if len(ui.TargetPlatforms) > 0 {
		o.TargetPlatform = &ui.TargetPlatforms[0]
	}
	r, err := dockerfile2llb.Dockerfile2LLB(ctx, job.text, o)
	if err != nil {
		return err
	}
	marshalled, err := r.State.Marshal(ctx)
	if err != nil {
		return err
	}
	def := marshalled.ToPB()
	s.ignoreCache(def, job.in)
	defer s.watchers.add(def, s.classic)()
	if _, err := gw.Solve(ctx, gateway.SolveRequest{Definition: def, CacheImports: ui.CacheImports, Evaluate: true}); err != nil {
		return err
	}
	job.state.image = r.Image
	result := recorded.take()
	if result == nil || result.Ref == nil {
		return nil
	}
	cached, err := result.Ref.Result(ctx)
	if err != nil {
		return err
	}
	ref, ok := cached.Sys().(*worker.WorkerRef)
	if !ok {
		return fmt.Errorf("result of a step is a %T", cached.Sys())
	}
	if ref.ImmutableRef != nil {
		job.state.files = ref.ImmutableRef.Clone()
	}
	return nil
}

// ignoreCache has the instruction done without asking the cache, if that is
// wanted, and nothing else: what was done before, by jobs that have ended, is
// only to be found there. BuildKit's own way would empty the caches that the step
// mounts.
func (s *debugSession) ignoreCache(def *pb.Definition, in instruction) {
	head := headOf(def)
	wanted := s.redo || def.Metadata[string(head)].GetIgnoreCache()
	for _, m := range def.Metadata {
		m.IgnoreCache = false
	}
	if head != "" && wanted && in.works {
		s.salts.set(head)
	}
}

// salts make the keys of vertices in the cache others than they would be, for the
// life of a session.
type salts struct {
	mu   sync.Mutex
	list map[digest.Digest]string
}

func (s *salts) set(vertex digest.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.list == nil {
		s.list = map[digest.Digest]string{}
	}
	s.list[vertex] = identity.NewID()
}

func (s *salts) of(vertex digest.Digest) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list[vertex]
}

// saltedOp is an operation whose key in the cache may be another.
type saltedOp struct {
	solver.Op
	salts  *salts
	vertex digest.Digest
}

// CacheMap tells the operation's key; see [solver.Op].
func (o saltedOp) CacheMap(ctx context.Context, job solver.JobContext, index int) (*solver.CacheMap, bool, error) {
	m, done, err := o.Op.CacheMap(ctx, job, index)
	salt := o.salts.of(o.vertex)
	if err != nil || m == nil || salt == "" {
		return m, done, err
	}
	salted := *m
	salted.Digest = digest.FromString(salt + " " + m.Digest.String())
	return &salted, done, nil
}

func cacheEntries(o order.Options) []frontend.CacheOptionsEntry {
	var list []frontend.CacheOptionsEntry
	for _, im := range cacheImports(o).Imports {
		list = append(list, frontend.CacheOptionsEntry{Type: im.Type, Attrs: im.Attrs})
	}
	return list
}

func marshalRaw(v any) (*json.RawMessage, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	raw := json.RawMessage(text)
	return &raw, nil
}
