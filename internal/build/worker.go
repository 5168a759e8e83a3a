package build

import (
	"context"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter"
	"github.com/moby/buildkit/exporter/containerimage"
	"github.com/moby/buildkit/frontend"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/llbsolver/linuxresources"
	"github.com/moby/buildkit/solver/llbsolver/ops"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/worker"
	"github.com/moby/buildkit/worker/base"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/image"
)

// buildWorker is BuildKit's worker with steps that know their instruction, and
// with results that go into the image store without a copy.
type buildWorker struct {
	*base.Worker
	store    image.Backend
	images   *containerimage.ImageWriter
	watchers *watchers
	dirs     *cacheDirs
	// recordings are told of the files that clients have sent; nil: nobody is.
	recordings *recordings
	hook       *debugSession // runs the steps; nil: the executor does
	// tellImage tells of an image that a build has led to.
	tellImage func(ctx context.Context, id string, names []string)
}

// ResolveOp makes the operation of a vertex.
func (w *buildWorker) ResolveOp(v solver.Vertex, s frontend.FrontendLLBBridge, sm *session.Manager, proxy worker.ProxyOpt) (solver.Op, error) {
	op, err := w.resolveOp(v, s, sm, proxy)
	if w.hook != nil && err == nil {
		op = saltedOp{Op: op, salts: &w.hook.salts, vertex: v.Digest()}
	}
	return op, err
}

func (w *buildWorker) resolveOp(v solver.Vertex, s frontend.FrontendLLBBridge, sm *session.Manager, proxy worker.ProxyOpt) (solver.Op, error) {
	baseOp, ok := v.Sys().(*pb.Op)
	if !ok {
		return w.Worker.ResolveOp(v, s, sm, proxy)
	}
	op, ok := baseOp.Op.(*pb.Op_Exec)
	if !ok || proxy.Network {
		resolved, err := w.Worker.ResolveOp(v, s, sm, proxy)
		if _, file := baseOp.Op.(*pb.Op_File); file && err == nil {
			resolved = watchedOp{Op: resolved, watchers: w.watchers, vertex: v.Digest()}
		}
		if name := localName(baseOp); name != "" && err == nil && w.recordings != nil {
			resolved = clientFiles{Op: resolved, recordings: w.recordings, vertex: v.Digest(), name: name}
		}
		return resolved, err
	}
	var resources *pb.LinuxResources
	if m, ok := v.Options().Metadata.(*linuxresources.Metadata); ok && m != nil {
		resources = m.LinuxResources
	}
	exec := w.WorkerOpt.Executor
	roots := &rootKeeper{Manager: w.CacheMgr, watchers: w.watchers, dirs: w.dirs, vertex: v.Digest()}
	if x, ok := exec.(*stepExecutor); ok {
		exec = x.of(v, roots, w.hook)
	}
	return ops.NewExecOp(v, op, baseOp.Platform, roots, w.ParallelismSem, sm, exec, w, resources, false)
}

// Exporter finds the exporter of a name. The docker driver of buildx asks for
// "moby", which is the image store.
func (w *buildWorker) Exporter(name string, sm *session.Manager) (exporter.Exporter, error) {
	switch name {
	case "moby", client.ExporterImage:
		inner, err := w.Worker.Exporter(client.ExporterImage, sm)
		if err != nil {
			return nil, err
		}
		return &storeExporter{inner: inner, worker: w}, nil
	default:
		return w.Worker.Exporter(name, sm)
	}
}

// namespacedImages puts BuildKit's requests into the store's namespace, which
// BuildKit takes for its client's business.
type namespacedImages struct {
	images.Store
	namespace string
}

func (n namespacedImages) in(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, n.namespace)
}

func (n namespacedImages) Get(ctx context.Context, name string) (images.Image, error) {
	return n.Store.Get(n.in(ctx), name)
}

func (n namespacedImages) List(ctx context.Context, filters ...string) ([]images.Image, error) {
	return n.Store.List(n.in(ctx), filters...)
}

func (n namespacedImages) Create(ctx context.Context, i images.Image) (images.Image, error) {
	return n.Store.Create(n.in(ctx), i)
}

func (n namespacedImages) Update(ctx context.Context, i images.Image, fields ...string) (images.Image, error) {
	return n.Store.Update(n.in(ctx), i, fields...)
}

func (n namespacedImages) Delete(ctx context.Context, name string, opts ...images.DeleteOpt) error {
	return n.Store.Delete(n.in(ctx), name, opts...)
}

// keepIntermediate keeps the state after an instruction as an image of its own.
func (w *buildWorker) keepIntermediate(ctx context.Context, target ocispec.Descriptor) error {
	x := &storeExport{worker: w}
	return x.setName(ctx, images.Image{Name: image.StepName(target.Digest), Target: target})
}
