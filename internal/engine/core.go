package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/portholehq/porthole/internal/event"
	"github.com/portholehq/porthole/internal/ledger"
	"github.com/portholehq/porthole/internal/linux/mount"
	"github.com/portholehq/porthole/internal/record/death"
	"github.com/portholehq/porthole/internal/record/watch"
	"github.com/portholehq/porthole/internal/toolbox/history"
)

// Engine owns the containers of one daemon. Its methods may be called from any goroutine.
type Engine struct {
	deps     Deps
	config   Config
	log      *slog.Logger
	registry *registry
	ids      *idRanges
	steps    steps
	execs    *execTable
	// operations are what is under way, for whoever wonders.
	operations *operations
	pins       *pinboard
	deaths     *deathLog
	recording  recording
	recorded   recordedDeaths // when the daemon started
	kernel     kernelLog
	host       hostFacts
	mapper     mapper
	tools      toolUse
	histories  histories
	remains    *keptFiles
	expected   chan struct{} // one for each start that is expected
	clearing   chan struct{} // one for each step of a build that is cleared away
	traces     chan struct{} // one for each trace that goes on
	activity   activityBook
	groups     groupBook
	gaps       *watch.Book // nil: nobody watches
	cores      coreCapture
	// noMapping is why no container can have a user namespace of its own; nil: they can.
	noMapping error
	started   time.Time

	shipMu sync.Mutex // guards ships
	ships  map[string]*shipping

	feeds logFeeds
	meter *ledger.Meter // remembers sizes of directory trees

	life context.Context // ends when the engine shuts down
	end  context.CancelCauseFunc
	work sync.WaitGroup // goroutines that Shutdown waits for
}

// errShutdown is the cause of what ends because the daemon ends.
var errShutdown = errors.New("the daemon is shutting down")

// New loads the saved containers, adopts those that still run, takes note of the exits that happened meanwhile and
// removes leftovers that are its own.
func New(ctx context.Context, deps Deps) (*Engine, error) {
	e := &Engine{
		deps: deps, config: deps.Config, log: deps.Logger, registry: newRegistry(), ids: newIDRanges(), execs: newExecTable(), operations: newOperations(), pins: newPinboard(), deaths: newDeathLog(deps.Deaths), started: time.Now(), ships: map[string]*shipping{}, feeds: logFeeds{byID: map[string]*logFeed{}},
		expected: make(chan struct{}, expectMost), clearing: make(chan struct{}, clearingMost), traces: make(chan struct{}, maxTraces), meter: ledger.NewMeter(),
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	e.histories.e, e.histories.store = e, history.NewStore(filepath.Join(e.config.DataRoot, historyDir))
	if e.config.StopTimeout == 0 {
		e.config.StopTimeout = 10 * time.Second
	}
	e.life, e.end = context.WithCancelCause(context.WithoutCancel(ctx))
	containers := filepath.Join(e.config.DataRoot, containersDir)
	// Older daemons let everybody pass.
	if err := errors.Join(os.MkdirAll(containers, 0o700), os.Chmod(containers, 0o700)); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(e.trashDir(), 0o700); err != nil {
		return nil, err
	}
	var err error
	if e.host, err = readHostFacts(e.config.DataRoot); err != nil {
		return nil, fmt.Errorf("gather facts about the host: %w", err)
	}
	if e.noMapping = e.mapper.try(e.config.DataRoot, mount.Single); e.noMapping != nil {
		e.log.Warn("containers run in the host's user namespace", "err", e.noMapping)
	}
	if e.remains, err = loadRemains(filepath.Join(e.config.DataRoot, remainsDir), e.log); err != nil {
		return nil, err
	}
	deps.State.OnFailure(func(err error) {
		e.log.Error("state was not saved and will be tried again", "err", err)
	})
	if err = e.openWatch(); err != nil {
		return nil, err
	}
	e.goWork(func() { e.deaths.run(e.life, e.deathNotWritten) })
	if err := e.adoptAll(ctx); err != nil {
		e.end(errShutdown)
		_ = e.meter.Close()
		e.work.Wait()
		_ = e.gaps.Close()
		return nil, err
	}
	e.openCores(ctx)
	e.followKernelLog()
	e.goWork(e.followActivity)
	e.goWork(e.keepWatch)
	e.goWork(e.sweepExecs)
	e.goWork(e.trimRemainsRegularly)
	e.goWork(e.emptyOldTrash)
	e.goWork(e.keepLogs)
	for _, c := range e.registry.all() {
		if c.view().Life.Run > 0 {
			e.startShipping(c) // with what an earlier daemon did not get to
		}
	}
	return e, nil
}

// goWork runs f in a goroutine that Shutdown waits for. f must end when e.life ends.
func (e *Engine) goWork(f func()) { e.work.Go(f) }

func (e *Engine) shutdown(ctx context.Context) error {
	e.closeCores()
	e.end(errShutdown)
	for _, c := range e.registry.all() {
		c.stopProbes()
	}
	defer e.meter.Close()
	defer e.gaps.Close()
	defer e.mapper.close()
	defer e.releaseTasks()
	defer e.endBoxes()
	done := make(chan struct{})
	go func() { e.work.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	e.deaths.write(e.deathNotWritten) // of what ended at the very last
	return e.deps.State.Flush(ctx)
}

func (e *Engine) deathNotWritten(r *death.Record, err error) {
	e.log.Error("death record was not written", "container", r.Container, "run", r.Run, "exec", r.Exec, "err", err)
}

// releaseTasks lets go of the containers that go on.
func (e *Engine) releaseTasks() {
	for _, c := range e.registry.all() {
		if r, ok := c.view().task.(interface{ Release() error }); ok {
			if err := r.Release(); err != nil {
				e.log.Warn("container was not let go of", "container", c.id, "err", err)
			}
		}
	}
}

// dir is a container's directory below the data root.
func (e *Engine) dir(id string, more ...string) string {
	return filepath.Join(append([]string{e.config.DataRoot, containersDir, id}, more...)...)
}

// stateDir and logDir are the shim's.
func (e *Engine) stateDir(id string) string { return e.dir(id, "shim") }
func (e *Engine) logDir(id string) string   { return e.dir(id, "logs") }

// behalf is the context of work that o asked for, which nobody can break off.
func behalf(o *event.Origin) context.Context { return event.WithOrigin(context.Background(), o) }

// emit publishes an event about a container: its labels, image and name, and what the action adds. The context tells who
// asked for what happened.
func (e *Engine) emit(ctx context.Context, v *view, action events.Action, extra map[string]string) {
	attributes := map[string]string{}
	maps.Copy(attributes, v.Config.Labels)
	attributes["image"], attributes["name"] = v.Config.Image, v.Name
	maps.Copy(attributes, extra)
	e.publish(ctx, events.Message{Type: events.ContainerEventType, Action: action, Actor: events.Actor{ID: v.ID, Attributes: attributes}})
}

// emitOther publishes an event about something that is not a container.
func (e *Engine) emitOther(ctx context.Context, typ events.Type, action events.Action, id string, attributes map[string]string) {
	if attributes == nil {
		attributes = map[string]string{}
	}
	e.publish(ctx, events.Message{Type: typ, Action: action, Actor: events.Actor{ID: id, Attributes: attributes}})
}

func (e *Engine) publish(ctx context.Context, m events.Message) {
	if _, err := e.deps.Events.PublishBy(event.OriginOf(ctx), m); err != nil {
		// The deed is done; that nobody can read of it is worth a line, not a failure of the deed.
		e.log.Error("event was not recorded", "type", string(m.Type), "action", string(m.Action), "id", m.Actor.ID, "err", err)
	}
}

// Journal gives the events' journal to inspectors.
func (e *Engine) Journal() *event.Journal { return e.deps.Events }

// saved logs a failure to save what has happened already and cannot be taken back.
func (e *Engine) saved(c *ctr, err error) {
	if err != nil {
		e.log.Error("state was not saved", "container", c.id, "err", err)
	}
}
