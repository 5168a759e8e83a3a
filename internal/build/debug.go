package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/frontend"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/llbsolver"
	"github.com/moby/buildkit/worker"
	"github.com/moby/moby/api/types/jsonstream"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/build/order"
	"github.com/portholehq/porthole/internal/build/step"
	"github.com/portholehq/porthole/internal/linux/mount"
	"github.com/portholehq/porthole/internal/problem"
	"github.com/portholehq/porthole/internal/undo"
)

// debugSessions are the builds that are debugged.
type debugSessions struct {
	mu   sync.Mutex
	list map[string]*debugSession
}

func (d *debugSessions) put(s *debugSession) (remove func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.list == nil {
		d.list = map[string]*debugSession{}
	}
	d.list[s.id] = s
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.list, s.id)
	}
}

func (d *debugSessions) get(id string) (*debugSession, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.list[id]; s != nil {
		return s, nil
	}
	return nil, problem.Errorf(errdefs.ErrNotFound, "No such build: %s", id)
}

// Debug builds an image as [Builder.Classic] does, and stops where o says, and
// where an instruction fails: until a debugger, by the session that is told to
// report, makes it go on. It ends with ctx.
//
// It has a solver of its own. That reads the cache that all share, but what it
// makes gets into no cache of others: a step that was mended by hand would be
// taken for what its command does. And a step that waits holds up nobody else
// who builds the same.
func (b *Builder) Debug(ctx context.Context, contextTar io.Reader, o order.Options, d order.Debug, report func(jsonstream.Message)) (imageID string, err error) {
	var steps undo.Stack
	defer func() { err = errors.Join(err, steps.Run()) }()
	dir, err := b.receive(ctx, contextTar, o)
	if err != nil {
		return "", err
	}
	steps.Add(func() error { return os.RemoveAll(dir) })
	if o.Remote != "" {
		return "", problem.WithHint(problem.Errorf(errdefs.ErrInvalidArgument, "a build from a URL cannot be debugged"), "fetch the files, and build the directory")
	}
	attrs, err := o.Attributes()
	if err != nil {
		return "", err
	}
	text, err := readDockerfile(dir, attrs["filename"])
	if err != nil {
		return "", problem.WithClass(errdefs.ErrInvalidArgument, err)
	}
	names, err := imageNames(strings.Join(o.Tags, ","))
	if err != nil {
		return "", problem.WithClass(errdefs.ErrInvalidArgument, err)
	}
	sid, end, err := b.localSession(ctx, dir, o.Credentials, secretsprovider.FromMap(d.Secrets))
	if err != nil {
		return "", err
	}
	steps.AddFunc(end)
	s := &debugSession{
		id: newStepID()[:32], b: b, o: o, when: d, attrs: attrs, session: sid, names: names, text: string(text),
		classic: &classic{b: b, o: o, report: report, session: sid}, orders: make(chan debugOrder), ended: make(chan struct{}),
	}
	if s.list, err = instructionsOf(text, o.Target); err != nil {
		return "", &order.Failure{Message: describeError(err), Code: 1, Err: err}
	}
	if s.dir, err = os.MkdirTemp("", "debug-"); err != nil {
		return "", err
	}
	steps.Add(func() error { return os.RemoveAll(s.dir) })
	if s.tools, err = os.MkdirTemp("", "debug-tools-"); err != nil {
		return "", err
	}
	steps.Add(func() error { return os.RemoveAll(s.tools) })
	if err := os.Chmod(s.tools, 0o755); err != nil { // whoever a step runs as reads there
		return "", err
	}
	if err := os.Chmod(s.dir, 0o777); err != nil { // whoever a step runs as writes there
		return "", err
	}
	if err := s.open(ctx, &steps); err != nil {
		return "", err
	}
	steps.AddFunc(b.debugging.put(s))
	recorded, err := s.record(ctx)
	if err != nil {
		return "", err
	}
	defer func() { recorded(ctx, imageID, err) }()
	s.tell(nil)
	return s.run(ctx)
}

// mostDockerfile is the most that is taken for a Dockerfile, as much as BuildKit
// takes in one message.
const mostDockerfile = 16 << 20

// readDockerfile reads a Dockerfile of an unpacked context. Its links are the
// client's, and lead nowhere but in there.
func readDockerfile(dir, name string) ([]byte, error) {
	root, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := mount.OpenRegular(root, name)
	if err != nil {
		return nil, fmt.Errorf("read Dockerfile: %w", err)
	}
	defer f.Close()
	return readBounded(f, mostDockerfile)
}

// readBounded reads a file that somebody else has put there.
func readBounded(f *os.File, most int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("%s has more than %d bytes", f.Name(), most)
	}
	return data, err
}

// open makes the session's solver.
func (s *debugSession) open(ctx context.Context, steps *undo.Stack) error {
	own := *s.b.worker
	own.watchers, own.hook = &s.watchers, s
	workers := &worker.Controller{}
	if err := workers.Add(&own); err != nil {
		return err
	}
	results := worker.NewCacheResultStorage(workers)
	memory := solver.NewCacheManager(ctx, "debug-"+s.id, solver.NewInMemoryCacheStorage(), results)
	var err error
	s.solver, err = llbsolver.New(llbsolver.Opt{
		WorkerController: workers,
		Frontends:        map[string]frontend.Frontend{frontendDebug: &debugFrontend{s: s, workers: workers.Infos()}},
		CacheManager:     solver.NewCombinedCacheManager([]solver.CacheManager{s.b.cache, memory}, memory),
		CacheResolvers:   s.b.cacheImporters,
		SessionManager:   s.b.sessions,
		Entitlements:     s.b.entitlements,
	})
	if err != nil {
		return fmt.Errorf("open solver for a debugger: %w", err)
	}
	steps.Add(s.solver.Close)
	steps.AddFunc(s.forget)
	return nil
}

// finish makes an image of the last instruction's state.
func (s *debugSession) finish(ctx context.Context) (string, error) {
	last := s.states[len(s.states)-1]
	config, err := json.Marshal(last.image)
	if err != nil {
		return "", err
	}
	x := &storeExport{worker: s.b.worker, names: s.names}
	id, err := s.b.makeImage(ctx, last.files, config, s.session, x.name)
	if err != nil {
		return "", err
	}
	if s.isRepaired() {
		s.classic.stream("Files were changed by hand: the Dockerfile alone does not make this image.\n")
	}
	s.classic.finish(id)
	return id, nil
}

// DebugCommand tells a build that is debugged what to do.
func (b *Builder) DebugCommand(ctx context.Context, session string, c api.BuildCommand) (api.BuildAnswer, error) {
	s, err := b.debugging.get(session)
	if err != nil {
		return api.BuildAnswer{}, err
	}
	return s.command(ctx, c)
}

// DebugExec runs a process where a build has stopped, to its end.
func (b *Builder) DebugExec(ctx context.Context, session string, e api.BuildExec, p step.Process, started func()) (step.Exit, error) {
	s, err := b.debugging.get(session)
	if err != nil {
		return step.Exit{}, err
	}
	return s.exec(ctx, e, p, started)
}

// DebugResize tells the size of the terminal of the process that DebugExec runs.
func (b *Builder) DebugResize(session string, size step.Size) error {
	s, err := b.debugging.get(session)
	if err != nil {
		return err
	}
	return s.resize(size)
}

// buildArgs are a build's arguments with a value.
func buildArgs(o order.Options) map[string]string {
	out := map[string]string{}
	for key, value := range maps.All(o.BuildArgs) {
		if value != nil {
			out[key] = *value
		}
	}
	return out
}
