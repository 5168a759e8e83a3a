package build

import (
	"cmp"
	"context"
	"io"
	"slices"
	"sync"

	"github.com/moby/buildkit/frontend"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// A watcher hears what becomes of one instruction while it is worked on. Its
// methods may be called by several goroutines.
type watcher interface {
	// running tells that a process has begun as a step.
	running(stepID string)
	// worked tells that something was done: the result was not in the cache.
	worked()
	// output is where the process's output goes as well; nil: nowhere.
	output() io.Writer
}

// A stateWatcher is a watcher that wants to know what an operation has led to.
type stateWatcher interface {
	// began has, for each input, the records of its layers, the topmost last.
	began(inputs [][]string)
	// reached has those of the result.
	reached(chain []string)
	// failed tells the status of a process that failed, before reached. It
	// returns where the instruction is, as "Dockerfile:7", if that is known.
	failed(exit int) (place string)
}

// watchers finds who watches a vertex. Builds that share one share its step, so
// each may have several.
type watchers struct {
	mu   sync.Mutex
	list map[digest.Digest][]watcher
}

// add makes w watch the vertices of a definition until remove.
func (ws *watchers) add(def *pb.Definition, w watcher) (remove func()) {
	var keys []digest.Digest
	for _, op := range def.Def {
		keys = append(keys, digest.FromBytes(op))
	}
	return ws.addVertices(keys, w)
}

// addVertices makes w watch vertices until remove, those that it does not watch
// anyway.
func (ws *watchers) addVertices(keys []digest.Digest, w watcher) (remove func()) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.list == nil {
		ws.list = map[digest.Digest][]watcher{}
	}
	var added []digest.Digest
	for _, key := range keys {
		if !slices.Contains(ws.list[key], w) {
			ws.list[key] = append(ws.list[key], w)
			added = append(added, key)
		}
	}
	return func() {
		ws.mu.Lock()
		defer ws.mu.Unlock()
		for _, key := range added {
			var left []watcher
			for _, other := range ws.list[key] {
				if other != w {
					left = append(left, other)
				}
			}
			if ws.list[key] = left; len(left) == 0 {
				delete(ws.list, key)
			}
		}
	}
}

func (ws *watchers) of(key digest.Digest) []watcher {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return append([]watcher(nil), ws.list[key]...)
}

// alsoTo is an output that goes to a watcher as well, whose writes never fail.
func alsoTo(w io.Writer, watch watcher) io.Writer {
	also := watch.output()
	switch {
	case also == nil:
		return w
	case w == nil:
		return also
	}
	return io.MultiWriter(also, w)
}

// watchedOp tells when an operation is executed.
type watchedOp struct {
	solver.Op
	watchers *watchers
	vertex   digest.Digest
}

func (o watchedOp) Exec(ctx context.Context, job solver.JobContext, inputs []solver.Result) ([]solver.Result, error) {
	for _, w := range o.watchers.of(o.vertex) {
		w.worked()
	}
	o.watchers.began(o.vertex, inputs)
	results, err := o.Op.Exec(ctx, job, inputs)
	if err == nil && len(results) == 1 {
		o.watchers.reached(o.vertex, chainOf(results[0]))
	}
	return results, err
}

// began tells all who watch a vertex what it starts from.
func (ws *watchers) began(key digest.Digest, inputs []solver.Result) {
	var chains [][]string
	for _, w := range ws.of(key) {
		s, ok := w.(stateWatcher)
		if !ok {
			continue
		}
		for len(chains) < len(inputs) {
			chains = append(chains, chainOf(inputs[len(chains)]))
		}
		s.began(chains)
	}
}

// reached tells all who watch a vertex what it has led to.
func (ws *watchers) reached(key digest.Digest, chain []string) {
	for _, w := range ws.of(key) {
		if s, ok := w.(stateWatcher); ok {
			s.reached(chain)
		}
	}
}

// failed tells all who watch a vertex that its process has failed.
func (ws *watchers) failed(key digest.Digest, exit int) (place string) {
	for _, w := range ws.of(key) {
		if s, ok := w.(stateWatcher); ok {
			place = cmp.Or(place, s.failed(exit))
		}
	}
	return place
}

// recordingBridge remembers the last result that a frontend got.
type recordingBridge struct {
	frontend.FrontendLLBBridge
	mu   sync.Mutex
	last *frontend.Result
}

func (b *recordingBridge) Solve(ctx context.Context, req frontend.SolveRequest, sid string) (*frontend.Result, error) {
	r, err := b.FrontendLLBBridge.Solve(ctx, req, sid)
	if err == nil {
		b.mu.Lock()
		b.last = r
		b.mu.Unlock()
	}
	return r, err
}

func (b *recordingBridge) take() *frontend.Result {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.last
	b.last = nil
	return r
}
