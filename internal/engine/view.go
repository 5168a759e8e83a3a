package engine

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/build/step"
	"github.com/portholehq/porthole/internal/engine/state"
	phnet "github.com/portholehq/porthole/internal/network"
)

// transitions says which status may follow which. What each means:
//
//	created     it exists and has never run (or its only starts failed)
//	running     its first process lives
//	paused      as running, but all its processes are frozen
//	restarting  it ended and the restart policy waits to start it again
//	exited      it ended and stays so
//	removing    somebody removes it; there is no way back but dead
//	dead        its removal failed; only removing can be tried again
var transitions = map[state.Status][]state.Status{
	container.StateCreated:    {container.StateRunning, container.StateRemoving},
	container.StateRunning:    {container.StatePaused, container.StateRestarting, container.StateExited},
	container.StatePaused:     {container.StateRunning, container.StateRestarting, container.StateExited},
	container.StateRestarting: {container.StateRunning, container.StateExited, container.StateRestarting},
	container.StateExited:     {container.StateRunning, container.StateRemoving},
	container.StateRemoving:   {container.StateDead},
	container.StateDead:       {container.StateRemoving},
}

// view is all that is known about a container at one moment. It never changes after it was published.
type view struct {
	*state.Container // the saved part

	// The unsaved part.
	task         Task                                 // nil: no process
	document     *specs.Spec                          // of the last start by this daemon, see execBase
	settled      <-chan struct{}                      // closed once what the last run left has been cleared away
	endpoints    map[string]*network.EndpointSettings // live addresses by network name
	published    []phnet.Published                    // ports of the host that lead to it
	health       *container.Health
	execs        []string      // ids of execs that run
	exits        uint64        // how often it ended since the daemon knows it
	lastExit     int           // exit code of the last time, not reset by a start
	restartDelay time.Duration // last delay of the restart policy
	noRestart    bool          // the restart policy is off until the next start by hand
	once         *once         // what the present run has of its own, or the next one is to have
	unadopted    error         // why the shim of an earlier daemon could not be taken up
	removing     bool          // claimed by a removal, which may still wait for the end
	next         chan struct{}
}

func (v *view) status() state.Status { return v.Life.Status }

// live tells that the container counts as running for Docker: also paused, also between two starts.
func (v *view) live() bool {
	switch v.Life.Status {
	case container.StateRunning, container.StatePaused, container.StateRestarting:
		return true
	case container.StateCreated, container.StateExited, container.StateRemoving, container.StateDead:
	}
	return false
}

func (v *view) pid() int {
	if v.task == nil || !v.live() || v.Life.Status == container.StateRestarting {
		return 0
	}
	return v.task.Pid()
}

// ctr is one container of the engine.
//
// Order of locks: turn, then mu, then whatever the state file needs. Nothing slow happens under mu.
type ctr struct {
	id   string
	snap atomic.Pointer[view]
	turn turn
	gone chan struct{} // closed when the container was removed
	// erased is closed after that, when its record is about to go as well.
	erased chan struct{}
	// detail is what the streams of statistics share.
	detail atomic.Pointer[statsDetail]
	// adopted is closed once the shim that an earlier daemon may have left was asked, whether or not it has answered.
	adopted chan struct{}
	// booted is closed when the daemon has done with such a container what it does at its start: it goes on, rests, or was
	// started by its restart policy.
	booted chan struct{}
	// damaged is set if the record could not be read: of the container not more is known than its id.
	damaged bool
	// adopting is held while a container of an earlier daemon, whose shim did not answer, is taken up or given up.
	adopting sync.Mutex
	kills    oomKills
	denials  atomic.Pointer[denialLog] // of the present or last run; nil: they are not logged
	box      atomic.Pointer[blackBox]  // as denials; nil: it has none
	telling  atomic.Int32              // signals that are being sent, whose events have not been told yet
	step     *step.Step                // of a build, of which it is the container; nil: it is one by itself

	mu      sync.Mutex // guards what follows, and writes of snap
	deleted bool       // no more saves
	pending []*pendingAttach
	held    int    // restarts under way, during which --rm does nothing
	cancel  func() // ends a waiting restart; nil: none
	// starting breaks off the start that is under way; nil: none is.
	starting context.CancelCauseFunc
	goes     chan struct{} // closed once the start under way has let the program run and said so; nil: it has not come to that
	probes   func()        // ends the health probes and waits for them; nil: none
	db       *state.DB
}

func newCtr(db *state.DB, rec *state.Container) *ctr {
	c := &ctr{id: rec.ID, gone: make(chan struct{}), erased: make(chan struct{}), adopted: make(chan struct{}), booted: make(chan struct{}), db: db, turn: newTurn(), kills: oomKills{news: make(chan struct{}, 1)}}
	settled := make(chan struct{})
	close(settled)
	c.snap.Store(&view{Container: rec, settled: settled, lastExit: rec.Life.ExitCode, next: make(chan struct{})})
	return c
}

func (c *ctr) view() *view { return c.snap.Load() }

// move brings the container from its status to another. It is the only function that changes a status. change, which
// may be nil, alters a copy of the view and of the record in the same step.
func (c *ctr) move(to state.Status, change func(*view)) error { return c.moveAnd(to, change, nil) }

// moveAnd is move with events: announce publishes them once the new status can be seen, and before those who wait for it
// go on and publish their own.
func (c *ctr) moveAnd(to state.Status, change func(*view), announce func()) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.moveLocked(to, change, announce)
}

// resume makes a paused container one that runs. One that has ended meanwhile, since it was killed, stays so.
func (c *ctr) resume() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.view().status(); s != container.StatePaused {
		return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("container %s is %s and not paused", c.id, s))
	}
	return c.moveLocked(container.StateRunning, nil, nil)
}

func (c *ctr) moveLocked(to state.Status, change func(*view), announce func()) error {
	from := c.view().Life.Status
	if !slices.Contains(transitions[from], to) {
		return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("container %s is %s and cannot become %s", c.id, from, to))
	}
	old := c.replace(func(v *view) {
		v.Life.Status = to
		if change != nil {
			change(v)
		}
	})
	if announce != nil {
		announce()
	}
	close(old.next)
	return c.save()
}

// update alters a copy of the view and publishes it, without a change of status and without saving.
func (c *ctr) update(change func(*view)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.publish(change)
}

// updateSaved is update for a change of the saved part.
func (c *ctr) updateSaved(change func(*view)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.publish(change)
	return c.save()
}

// publish is called with mu held.
func (c *ctr) publish(change func(*view)) { close(c.replace(change).next) }

// replace makes an altered copy of the view the current one and returns the old one, whose next is still to be closed.
func (c *ctr) replace(change func(*view)) (old *view) {
	old = c.view()
	v, rec := *old, *old.Container
	v.Container, v.next = &rec, make(chan struct{})
	change(&v)
	c.snap.Store(&v)
	return old
}

// save hands the record to the state file, which writes it soon. It is called with mu held, so that records reach the
// file in the order in which they were published.
func (c *ctr) save() error {
	if c.deleted {
		return nil
	}
	return c.db.PutLater(c.view().Container)
}
