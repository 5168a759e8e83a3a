package build

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/executor"
	"github.com/moby/buildkit/frontend"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/urlutil"
	"github.com/moby/buildkit/worker"
	"github.com/opencontainers/go-digest"
)

// stateFrontend notes which states the builds of a frontend go through.
//
// Nothing is solved for it, which could run steps that a build had no need of:
// what was executed tells its result itself, and the layers of a result are the
// states that the instructions before it have led to.
type stateFrontend struct {
	frontend.Frontend
	b *Builder
}

// Solve builds; see [frontend.Frontend].
func (f stateFrontend) Solve(ctx context.Context, llb frontend.FrontendLLBBridge, exec executor.Executor, opt map[string]string, inputs map[string]*pb.Definition, sid string, sm *session.Manager) (*frontend.Result, error) {
	n := &stateNotes{FrontendLLBBridge: llb, b: f.b, vertices: map[digest.Digest]*vertexNote{}, defined: map[string]struct{}{}, refs: map[digest.Digest]string{}, users: 1}
	n.doc.Attrs, n.mask = withoutSecrets(opt), newMasker(opt)
	defer n.leave()
	return f.Frontend.Solve(ctx, n, exec, opt, inputs, sid, sm)
}

// stateNotes is a bridge that notes what a frontend has solved.
type stateNotes struct {
	frontend.FrontendLLBBridge
	b *Builder

	mask masker

	mu       sync.Mutex
	users    int // the frontend and the results that may be asked for yet
	vertices map[digest.Digest]*vertexNote
	defined  map[string]struct{} // the operations that are known, as they were sent
	order    []digest.Digest
	refs     map[digest.Digest]string // what is known of where they led to
	doc      buildStates
	unwatch  []func()
	saving   *time.Timer // until it writes doc; nil: that is written
}

// vertexNote is what is known of one vertex. It is a watcher of it.
type vertexNote struct {
	notes *stateNotes
	op    *pb.Op
	state state
	// chain are the records of the layers of what it has led to, the topmost
	// last.
	chain []string
	// inputs are those of what it started from, where it tells that.
	inputs [][]string
}

// ResolveSourceMetadata remembers what base images were found to be.
func (n *stateNotes) ResolveSourceMetadata(ctx context.Context, op *pb.SourceOp, opt sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	asked := op.GetIdentifier()
	r, err := n.FrontendLLBBridge.ResolveSourceMetadata(ctx, op, opt)
	if err != nil || r.Image == nil || len(r.Image.Config) == 0 {
		return r, err
	}
	found := resolvedImage{Asked: asked, Found: r.Op.GetIdentifier(), Digest: r.Image.Digest, Config: r.Image.Config}
	if opt.ImageOpt != nil && opt.ImageOpt.Platform != nil {
		found.Platform = platforms.FormatAll(*opt.ImageOpt.Platform)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.ContainsFunc(n.doc.Images, func(r resolvedImage) bool { return r.Asked == found.Asked && r.Platform == found.Platform }) {
		n.doc.Images = append(n.doc.Images, found)
	}
	return r, nil
}

// Solve solves, and notes the result once it is asked for.
func (n *stateNotes) Solve(ctx context.Context, req frontend.SolveRequest, sid string) (*frontend.Result, error) {
	if req.Definition != nil {
		n.define(req.Definition)
	}
	result, err := n.FrontendLLBBridge.Solve(ctx, req, sid)
	if err != nil && req.Definition != nil && ctx.Err() == nil {
		n.note(headOf(req.Definition), nil)
	}
	if err != nil || req.Definition == nil || result.Ref == nil {
		return result, err
	}
	n.mu.Lock()
	n.users++
	n.mu.Unlock()
	result.Ref = &notedResult{ResultProxy: result.Ref, notes: n, head: headOf(req.Definition)}
	return result, nil
}

// define notes the vertices of a definition and where they are in a Dockerfile.
func (n *stateNotes) define(def *pb.Definition) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var files []int
	for _, info := range def.GetSource().GetInfos() {
		files = append(files, n.file(stateFile{Name: info.GetFilename(), Text: info.GetData()}))
	}
	for _, raw := range def.Def {
		if _, ok := n.defined[string(raw)]; ok {
			continue
		}
		n.defined[string(raw)] = struct{}{}
		key := digest.FromBytes(raw)
		op := &pb.Op{}
		if op.UnmarshalVT(raw) != nil {
			continue
		}
		v := &vertexNote{notes: n, op: op, state: state{Vertex: key}}
		v.state.Name = n.mask.text(def.Metadata[string(key)].GetDescription()["llb.customname"])
		if exec := op.GetExec(); exec != nil {
			meta := exec.GetMeta()
			v.state.Env, v.state.User, v.state.Cwd = n.envOf(meta), meta.GetUser(), meta.GetCwd()
		}
		for _, l := range def.GetSource().GetLocations()[string(key)].GetLocations() {
			if i := int(l.SourceIndex); i < len(files) && v.state.Line == 0 {
				v.state.File = files[i]
				v.state.Line, v.state.End = linesOf(l.Ranges)
			}
		}
		n.vertices[key] = v
		n.order = append(n.order, key)
		n.unwatch = append(n.unwatch, n.b.watchers.addVertices([]digest.Digest{key}, v))
	}
}

// withoutSecrets are a build's attributes as they may be kept: the values of
// arguments that are secret are not, nor the passwords in URLs of contexts.
func withoutSecrets(attrs map[string]string) map[string]string {
	kept := map[string]string{}
	for key, value := range attrs {
		if name, ok := strings.CutPrefix(key, buildArgPrefix); ok {
			value = argument(name, value)
		} else if key == "context" || strings.HasPrefix(key, "context:") {
			value = urlutil.RedactCredentials(value)
		}
		kept[key] = value
	}
	return kept
}

// envOf is the environment of a step as it may be kept.
func (n *stateNotes) envOf(meta *pb.Meta) []string {
	var env []string
	for _, e := range meta.GetEnv() {
		name, _, _ := strings.Cut(e, "=")
		if value, isArg := n.doc.Attrs[buildArgPrefix+name]; isArg {
			e = name + "=" + value
		}
		env = append(env, e)
	}
	return env
}

func (n *stateNotes) file(f stateFile) int {
	for i, known := range n.doc.Files {
		if known.Name == f.Name && string(known.Text) == string(f.Text) {
			return i
		}
	}
	n.doc.Files = append(n.doc.Files, f)
	return len(n.doc.Files) - 1
}

// linesOf is the first and the last line of an instruction.
func linesOf(ranges []*pb.Range) (first, last int) {
	for _, r := range ranges {
		start, end := int(r.GetStart().GetLine()), int(r.GetEnd().GetLine())
		if first == 0 || start < first {
			first = start
		}
		last = max(last, end)
	}
	return first, last
}

// headOf is the vertex that a definition asks for: the last operation stands
// for its only input.
func headOf(def *pb.Definition) digest.Digest {
	if len(def.Def) == 0 {
		return ""
	}
	op := &pb.Op{}
	if op.UnmarshalVT(def.Def[len(def.Def)-1]) != nil || op.Op != nil || len(op.Inputs) != 1 {
		return ""
	}
	return digest.Digest(op.Inputs[0].Digest)
}

// leave ends the watching when nobody asks any more.
func (n *stateNotes) leave() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.users--; n.users > 0 {
		return
	}
	for _, unwatch := range n.unwatch {
		unwatch()
	}
	n.save()
}

// A notedResult notes what it turns out to be.
type notedResult struct {
	solver.ResultProxy
	notes   *stateNotes
	head    digest.Digest
	noted   sync.Once
	release sync.Once
}

// Result waits for the result; see [solver.ResultProxy].
func (r *notedResult) Result(ctx context.Context) (solver.CachedResult, error) {
	result, err := r.ResultProxy.Result(ctx)
	if ctx.Err() != nil {
		return result, err
	}
	r.noted.Do(func() {
		var chain []string
		if err == nil {
			chain = chainOf(result)
		}
		r.notes.note(r.head, chain)
	})
	return result, err
}

// Release gives the result back; see [solver.ResultProxy].
func (r *notedResult) Release(ctx context.Context) error {
	r.release.Do(r.notes.leave)
	return r.ResultProxy.Release(ctx)
}

// chainOf are the records of a result's layers, the topmost last.
func chainOf(r solver.Result) []string {
	ref, ok := r.Sys().(*worker.WorkerRef)
	if !ok || ref.ImmutableRef == nil {
		return nil
	}
	return layerRecords(ref.ImmutableRef)
}

func layerRecords(ref cache.ImmutableRef) []string {
	layers := ref.LayerChain()
	defer func() { _ = layers.Release(context.Background()) }()
	var chain []string
	for _, l := range layers {
		chain = append(chain, l.ID())
	}
	if len(chain) > 0 {
		chain[len(chain)-1] = ref.ID()
	}
	return chain
}

// note writes down which states there are now that one more result is known. A
// chain of nil is that of a result that there is not.
func (n *stateNotes) note(head digest.Digest, chain []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fill(head, chain)
	for key, v := range n.vertices {
		n.fill(key, v.chain)
		for i, chain := range v.inputs[:min(len(v.inputs), len(v.op.GetInputs()))] {
			n.fill(digest.Digest(v.op.GetInputs()[i].GetDigest()), chain)
		}
	}
	n.doc.States = n.doc.States[:0]
	for _, key := range n.order {
		v := n.vertices[key]
		st := v.state
		st.Ref = n.refs[key]
		if st.Line == 0 || st.Ref == "" {
			continue
		}
		if before := n.parent(v); before == "" {
			st.Before = noFiles
		} else {
			st.Before = n.refs[before]
		}
		n.doc.States = append(n.doc.States, st)
	}
	if len(n.doc.States) == 0 {
		return
	}
	if n.doc.At.IsZero() {
		n.doc.At = time.Now().UTC()
	}
	if err := n.b.states.hold(&n.doc); err != nil {
		n.b.log.Warn("states of a build are not remembered", "err", err)
		return
	}
	// To write all of them after each of many would take long.
	if n.saving == nil {
		n.saving = time.AfterFunc(saveInterval, func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.save()
		})
	}
}

// save writes what is not written yet. The caller holds mu.
func (n *stateNotes) save() {
	if n.saving == nil {
		return
	}
	n.saving.Stop()
	n.saving = nil
	if err := n.doc.write(); err != nil {
		n.b.log.Warn("states of a build are not remembered", "err", err)
	}
}

// fill finds what the instructions up to a vertex have led to: each has added
// one layer to its parent's.
func (n *stateNotes) fill(at digest.Digest, chain []string) {
	for _, ref := range slices.Backward(chain) {
		v := n.vertices[at]
		if v == nil || v.op.GetExec() == nil && v.op.GetFile() == nil && !isImage(v.op) {
			return
		}
		switch n.refs[at] {
		case ref:
			return // from there on it was filled in with this: a record has its layers for ever
		case "":
			n.refs[at] = ref
		}
		if at = n.parent(v); at == "" {
			return
		}
	}
}

func isImage(op *pb.Op) bool {
	return strings.HasPrefix(op.GetSource().GetIdentifier(), "docker-image://")
}

// parent is the vertex whose files an operation has started from; empty when it
// has started from none.
func (n *stateNotes) parent(v *vertexNote) digest.Digest {
	input := int64(-1)
	if exec := v.op.GetExec(); exec != nil {
		for _, m := range exec.GetMounts() {
			if m.GetDest() == "/" {
				input = m.GetInput()
			}
		}
	}
	if actions := v.op.GetFile().GetActions(); len(actions) > 0 {
		input = actions[0].GetInput()
	}
	if input < 0 || int(input) >= len(v.op.GetInputs()) {
		return ""
	}
	return digest.Digest(v.op.GetInputs()[input].GetDigest())
}

// began tells what the vertex started from.
func (v *vertexNote) began(inputs [][]string) {
	v.notes.mu.Lock()
	defer v.notes.mu.Unlock()
	v.inputs = inputs
}

// reached tells that the vertex was executed, and what it has led to.
func (v *vertexNote) reached(chain []string) {
	v.notes.mu.Lock()
	defer v.notes.mu.Unlock()
	v.chain = chain
}

// failed tells that the vertex's step ended with a status that means failure.
func (v *vertexNote) failed(exit int) (place string) {
	v.notes.mu.Lock()
	defer v.notes.mu.Unlock()
	v.state.Exit = exit
	if v.state.Line == 0 {
		return ""
	}
	return fmt.Sprintf("%s:%d", v.notes.doc.Files[v.state.File].Name, v.state.Line)
}

func (v *vertexNote) running(stepID string) {
	v.notes.mu.Lock()
	defer v.notes.mu.Unlock()
	v.state.ID = stepID
}

func (v *vertexNote) worked()           {}
func (v *vertexNote) output() io.Writer { return nil }
