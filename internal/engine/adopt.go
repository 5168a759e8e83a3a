package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"
	mobynet "github.com/moby/moby/api/types/network"

	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/event"
	"github.com/portholehq/porthole/internal/linux/calltrace"
)

// adoptionsAtOnce bounds how many shims are asked at the same time. Most of an adoption is waiting.
const adoptionsAtOnce = 32

// What was saved last may be older than what is so by 50 ms, and after a kill of the daemon that can be seen until a
// container is adopted. So the daemon's start gives adoption startGrace, and an inspect gives that of its container
// readGrace. Neither ever waits longer.
const (
	startGrace = 300 * time.Millisecond
	readGrace  = 500 * time.Millisecond
)

// adoptAll makes the containers of an earlier daemon known, as they were saved, and begins to take them up: those that
// run go on, the ends of others are noted, and what belongs to no container is removed. It does not wait for the end of
// that, so that the daemon can answer; who needs a container's processes waits for its own adoption only, see operate. A
// container that cannot be taken up is an error that is logged and no obstacle to the others.
func (e *Engine) adoptAll(ctx context.Context) error {
	if err := e.loadRecords(); err != nil {
		return err
	}
	exists := func(id string) bool { c, err := e.registry.find(id); return err == nil && c.id == id }
	if err := e.remains.disown(exists); err != nil {
		return err
	}
	e.openKernelLog(len(e.registry.all()) > 0)
	e.recorded = e.knownDeaths()
	leftovers := e.findLeftovers(ctx)
	// The network is put in order before anybody can be connected to it. A shim that is there counts, whatever it answers.
	live := map[string]bool{}
	for _, c := range e.registry.all() {
		live[c.id] = e.deps.Runtime.Alive(c.id)
		for _, m := range c.view().Mounts {
			if live[c.id] && m.Type == mount.TypeVolume {
				e.deps.Volumes.Hold(m.Name, c.id)
			}
		}
	}
	if err := e.deps.Volumes.UnmountUnused(); err != nil {
		e.log.Error("volumes that nobody uses stay mounted", "err", err)
	}
	if err := e.deps.Network.Reconcile(ctx, live); err != nil {
		return err
	}
	slots := make(chan struct{}, adoptionsAtOnce)
	bounded := func(done func(), f func()) {
		e.goWork(func() {
			defer done()
			slots <- struct{}{}
			defer func() { <-slots }()
			f()
		})
	}
	for _, c := range e.registry.all() {
		if !c.damaged {
			bounded(e.begin(e.life, "adoption", c), func() { e.adoptFirst(c, live[c.id]) })
		}
	}
	for id, ids := range leftovers {
		bounded(e.beginNamed(e.life, "removal of a leftover", id), func() {
			ctx, cancel := context.WithTimeout(e.life, leftoverTimeout)
			defer cancel()
			if e.removeLeftover(ctx, id) {
				e.ids.release(ids)
			}
		})
	}
	// Most of it is done before anybody can have asked.
	grace, cancel := context.WithTimeout(ctx, startGrace)
	defer cancel()
	for _, c := range e.registry.all() {
		if e.awaitAdoption(grace, c) != nil {
			break
		}
	}
	return nil
}

// loadRecords makes the saved containers known. What is wrong with one of them is put right, or it is kept as what it is
// so that it can be removed; it is never a reason not to start.
func (e *Engine) loadRecords() error {
	records, damaged, err := e.deps.State.Containers()
	if err != nil {
		return err
	}
	for _, rec := range records {
		if !wholeID.MatchString(rec.ID) {
			e.log.Error("record of a container has an id that is none and is left alone", "container", rec.ID)
			continue
		}
		e.register(newCtr(e.deps.State, rec))
	}
	for _, d := range damaged {
		if !wholeID.MatchString(d.ID) {
			e.log.Error("record of a container cannot be read and is left alone", "container", d.ID, "err", d.Err)
			continue
		}
		c := newCtr(e.deps.State, e.salvage(d))
		c.damaged = true
		close(c.adopted)
		close(c.booted)
		e.register(c)
		e.log.Error("record of a container cannot be read; the container can only be removed", "container", d.ID, "name", c.view().Name, "err", d.Err)
	}
	return nil
}

// salvage makes of what is left of a record one that is dead and can be removed.
func (e *Engine) salvage(d state.Damaged) *state.Container {
	rec := *d.Rest
	rec.Life = state.Life{Status: container.StateDead, Error: d.Err.Error(), ExitCode: exitOther}
	if rec.Config == nil {
		rec.Config = &container.Config{}
	}
	if rec.HostConfig == nil {
		rec.HostConfig = &container.HostConfig{}
	}
	if rec.Name == "" {
		rec.Name = "damaged_" + d.ID[:12]
	}
	if rec.IDs.Size == 0 {
		// What runs of it has them still: nobody else may get them.
		if ids, err := e.deps.Runtime.IDs(d.ID); err == nil {
			rec.IDs = state.IDRange(ids)
		}
	}
	return &rec
}

// register adds a container from the state file. Of two with the same name the newer one keeps it.
func (e *Engine) register(c *ctr) {
	e.ids.share(c.view().IDs)
	older := e.registry.adopt(c)
	if older == nil {
		return
	}
	old := older.view().Name
	name := e.registry.rename(older, old+"_"+older.id[:8])
	e.log.Error("two containers had the same name, and the older one got another", "container", older.id, "name", name, "other", c.id, "old_name", old)
	if older.damaged {
		older.update(func(v *view) { v.Name = name })
	} else {
		e.saved(older, older.updateSaved(func(v *view) { v.Name = name }))
	}
	e.emit(e.life, older.view(), events.ActionRename, map[string]string{"oldName": "/" + old})
}

// awaitAdoption returns when it is known what became of a container that an earlier daemon has left, or that its shim
// does not answer. That is a matter of seconds.
func (e *Engine) awaitAdoption(ctx context.Context, c *ctr) error {
	select {
	case <-c.adopted:
		return nil
	default:
	}
	select {
	case <-c.adopted:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-e.life.Done():
		return errShutdown
	}
}

// adoptFirst is the first attempt to take a container up. One whose shim does not answer is tried again, beside.
func (e *Engine) adoptFirst(c *ctr, alive bool) {
	adopted := e.adoptNow(c, attempt{first: true, alive: alive})
	close(c.adopted)
	if !adopted && e.life.Err() == nil {
		e.log.Error("container was not adopted", "container", c.id, "err", c.view().unadopted)
		e.goWork(func() { e.adoptLater(c) })
	}
}

// attempt is one try to take a container up.
type attempt struct {
	first bool
	alive bool // there was a shim, so that there may be an endpoint
}

// adoptRetry is how often a shim that does not answer is asked again.
const adoptRetry = time.Second

// adoptLater tries to take up a container, whose shim may have been stopped by somebody, until that works or the
// container has been ended without it, see discard.
func (e *Engine) adoptLater(c *ctr) {
	for {
		select {
		case <-e.life.Done():
			return
		case <-c.gone:
			return
		case <-time.After(adoptRetry):
		}
		if e.adoptNow(c, attempt{alive: true}) {
			return
		}
	}
}

// adoptNow tells whether nothing remains to be done.
func (e *Engine) adoptNow(c *ctr, a attempt) bool {
	c.adopting.Lock()
	defer c.adopting.Unlock()
	if !a.first && c.view().unadopted == nil {
		return true // somebody has given it up
	}
	kills := e.orphanKills(c.id)
	task, err := e.deps.Runtime.Load(e.life, c.id, e.stateDir(c.id), e.logDir(c.id))
	switch {
	case err == nil:
		e.takeUp(c, task)
	case errdefs.IsNotFound(err):
		if a.alive {
			e.detachEnded(e.life, c.view())
		}
		c.update(func(v *view) { v.unadopted = nil })
		e.restoreHealth(c)
		if !e.noteExit(c, unseen(kills)) {
			e.recordMissing(c)
		}
		if e.restartsAtBoot(c.view()) {
			e.goWork(func() {
				defer close(c.booted)
				e.startAgain(c)
			})
			return true
		}
	default:
		c.update(func(v *view) { v.unadopted = err })
		return false
	}
	close(c.booted)
	return true
}

// detachEnded takes a container off its network that has ended without this daemon.
func (e *Engine) detachEnded(ctx context.Context, v *view) {
	if err := e.deps.Network.Detach(ctx, v.ID); err != nil {
		e.log.Error("container was not taken off its network", "container", v.ID, "err", err)
	}
}

// discard ends a container that could not be adopted, or whose record is damaged, and notes its end.
func (e *Engine) discard(ctx context.Context, c *ctr) error {
	c.adopting.Lock()
	defer c.adopting.Unlock()
	v := c.view()
	if v.task != nil || v.unadopted == nil && !c.damaged {
		return nil
	}
	exit := unseen(e.orphanKills(c.id))
	if err := e.deps.Runtime.Discard(ctx, c.id); err != nil {
		return err
	}
	if c.damaged {
		return e.deps.Network.Detach(ctx, c.id)
	}
	e.detachEnded(ctx, v)
	c.update(func(v *view) { v.unadopted = nil })
	exit.Observed = true // it has just been killed
	e.noteExit(c, exit)
	close(c.booted)
	return nil
}

// unseen is the exit of what ended without leaving a record, with the count of OOM kills that it left.
func unseen(kills uint64) Exit {
	return Exit{
		Code: 128 + int(syscall.SIGKILL), Signal: syscall.SIGKILL, WaitStatus: uint32(syscall.SIGKILL), At: time.Now().UTC(),
		OOMKills: kills, OOMKilled: kills > 0,
	}
}

// takeUp goes on with a container whose shim still runs, or has only just ended.
func (e *Engine) takeUp(c *ctr, task Task) {
	settled := make(chan struct{})
	status, known := container.StateRunning, false
	if frozen, err := task.Frozen(); err == nil && frozen {
		status = container.StatePaused
	}
	e.leaveUnrecorded(c.view(), task)
	err := c.updateSaved(func(v *view) {
		// Whatever was saved last, this is what is true. The daemon may have ended before it could save the start: then
		// an OOM kill that is noted was in an earlier run.
		known = v.live() && v.Life.OOMKilled
		v.Life.Status = status
		v.task, v.settled, v.unadopted = task, settled, nil
		v.resumeOnce()
		v.endpoints, v.published = e.endpointsOf(v), e.deps.Network.Published(v.ID)
		if at := task.StartedAt().UTC(); !at.IsZero() {
			if last, ok := v.Life.Last(); !ok || !last.StartedAt.Equal(at) {
				v.Life.Begin(state.RunUnknown, nil, at)
			}
			v.Life.StartedAt, v.Life.FinishedAt = at, time.Time{}
		}
		v.Life.ExitCode, v.Life.Error, v.Life.OOMKilled = 0, "", known
	})
	e.saved(c, err)
	e.earlierKills(c)
	if known {
		select {
		case <-task.OOM(): // told already
		default:
		}
	}
	e.log.Info("container adopted", "container", c.id, "pid", task.Pid(), "status", string(status))
	e.inheritExecs(c, task)
	e.goWork(e.inheritTools(c.id, task)) // ends what belongs to no session any more
	e.startSampling(c.view(), task)
	e.startProbes(c)
	e.noteGroup(c.view(), c.view().Life.Run)
	c.denials.Store(e.logDenials(c.view(), true))
	c.box.Store(e.record(c.view(), calltrace.Amidst))
	e.goWork(func() { e.watch(c, task, settled) })
}

// endpointsOf are the addresses that the network remembers for a container.
func (e *Engine) endpointsOf(v *view) map[string]*mobynet.EndpointSettings {
	if v.ResolvedNet != "" {
		return nil
	}
	all := map[string]*mobynet.EndpointSettings{}
	for name, es := range v.Networks {
		if all[name] = es.Copy(); es == nil {
			all[name] = &mobynet.EndpointSettings{}
		}
	}
	for _, ep := range e.deps.Network.Endpoints(v.ID) {
		if es := all[ep.Network]; es != nil {
			all[ep.Network] = endpointSettings(v, es, ep)
		}
	}
	return all
}

// noteExit brings a container without a shim to rest. If it ran when the earlier daemon ended, its end is noted from the
// record that the shim left, else as unrecorded, which also has the count of OOM kills. It tells whether it noted an end.
func (e *Engine) noteExit(c *ctr, unrecorded Exit) bool {
	v := c.view()
	switch v.status() {
	case container.StateRemoving, container.StateDead:
		e.recordMissing(c) // of what was saved as removed before its death was written
		e.finishRemoval(c)
		return true
	case container.StateCreated, container.StateRunning, container.StatePaused, container.StateRestarting, container.StateExited: // what became of it is seen below
	}
	exit, err := e.deps.Runtime.ReadExit(e.stateDir(c.id))
	recorded := err == nil
	if err != nil && !errdefs.IsNotFound(err) && !errors.Is(err, fs.ErrNotExist) {
		e.log.Error("exit record cannot be read", "container", c.id, "err", err)
	}
	rests := !v.live() || v.status() == container.StateRestarting // as far as was saved
	began, begun := time.Time{}, false
	if rests && !recorded {
		began, begun = e.begunUnsaved(v)
	}
	if rests && !begun && (!recorded || !exit.At.After(v.Life.FinishedAt)) {
		if v.live() {
			// Its end is known already; the policy is looked at afterwards, as for all others. The restart that was waited
			// for has been counted and did not come.
			e.saved(c, c.move(container.StateExited, func(v *view) { v.Life.RestartCount = max(v.Life.RestartCount-1, 0) }))
		}
		e.autoRemoveRest(c)
		e.removeUnstarted(c)
		return false
	}
	if recorded {
		began = exit.Started().UTC()
		exit.OOMKills, exit.OOMKilled = unrecorded.OOMKills, unrecorded.OOMKilled
	} else {
		exit = unrecorded
	}
	// A start and an end that the earlier daemon did not get to save.
	if rests {
		e.saved(c, c.updateSaved(func(v *view) {
			if v.live() {
				v.Life.Begin(state.RunPolicy, v.startedBy().Follows(), began)
			} else {
				v.Life.Begin(state.RunUnknown, nil, began)
			}
			v.Life.Status = container.StateRunning
			if !began.IsZero() {
				v.Life.StartedAt = began
			}
		}))
	}
	settled := make(chan struct{})
	c.update(func(v *view) { v.settled = settled })
	e.exitedWithout(c, exit, settled)
	return true
}

// begunUnsaved tells of a run that has begun when daemon and shim were killed, before the one could save that and the other
// write down its end.
func (e *Engine) begunUnsaved(v *view) (at time.Time, ok bool) {
	run, at, err := e.deps.Runtime.ReadBegun(e.stateDir(v.ID))
	return at.UTC(), err == nil && run > v.Life.Run
}

// exitedWithout is exited for a run that another daemon started and that has nothing left to clear away.
func (e *Engine) exitedWithout(c *ctr, exit Exit, settled chan struct{}) {
	e.earlierKills(c)
	if exit.OOMKilled || len(c.kills.all()) > 0 {
		e.oomKilled(c, int(exit.OOMKills))
	}
	before := c.view()
	ctx := behalf(before.endedBy(exit))
	err := c.moveAnd(container.StateExited, func(v *view) { noteEnd(v, exit) }, func() { e.emitEnd(ctx, before, exit) })
	e.saved(c, err)
	e.deathWithout(c, before, exit, exit.At.Before(e.started))
	close(settled)
	e.autoRemoveRest(c)
}

// autoRemoveRest removes a container that has ended and was meant to be removed then.
func (e *Engine) autoRemoveRest(c *ctr) {
	v := c.view()
	if o, by, ok := v.removalAtEnd(); ok && v.status() == container.StateExited {
		e.removeLater(c, by, o)
	}
}

// finishRemoval goes on with a removal that the earlier daemon did not finish.
func (e *Engine) finishRemoval(c *ctr) {
	if v := c.view(); v.status() == container.StateRemoving {
		e.saved(c, c.move(container.StateDead, nil))
	}
	// Its volumes go only if somebody has said so.
	o, by, ok := c.view().removalAtEnd()
	if !ok {
		o = RemoveOptions{Force: true}
	}
	e.removeLater(c, by, o)
}

// restartsAtBoot tells whether a container that does not run is started with the daemon: by policy always even if
// somebody stopped it, by the others only if nobody did, and if its last run was as it is meant to be.
func (e *Engine) restartsAtBoot(v *view) bool {
	if v.status() != container.StateExited || v.removing {
		return false
	}
	p := v.HostConfig.RestartPolicy
	rests := v.Life.Stopped || v.Life.Once != nil
	switch p.Name {
	case container.RestartPolicyAlways:
		return true
	case container.RestartPolicyUnlessStopped:
		return !rests
	case container.RestartPolicyOnFailure:
		return !rests && v.Life.ExitCode != 0 && (p.MaximumRetryCount == 0 || v.Life.RestartCount < p.MaximumRetryCount)
	}
	return false
}

func (e *Engine) startAgain(c *ctr) {
	// Those whose namespaces it joins go first.
	for _, ref := range []state.Reference{c.view().ResolvedNet, c.view().ResolvedIPC, c.view().ResolvedPID} {
		donor, err := e.registry.find(string(ref))
		if ref == "" || err != nil {
			continue // the start will tell
		}
		select {
		case <-donor.booted:
		case <-e.life.Done():
			return
		}
	}
	defer e.begin(e.life, "start with the daemon", c)()
	release, err := c.turn.take(e.life, "restart policy")
	if err != nil {
		return
	}
	defer release()
	if v := c.view(); v.status() != container.StateExited || v.removing {
		return
	}
	e.saved(c, c.updateSaved(func(v *view) { v.Life.RestartCount++; v.noRestart, v.Life.Stopped, v.Life.Once = false, false, nil }))
	ctx := event.WithOrigin(e.life, c.view().startedBy().Follows())
	if err := e.start(ctx, c, state.RunDaemon); err != nil {
		e.log.Error("container was not started with the daemon", "container", c.id, "err", err)
	}
}

var wholeID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// findLeftovers lists what no record knows: of creations that were interrupted, and of removals. The ids on the host that
// they have, if they ran, are given to nobody else until they are gone.
func (e *Engine) findLeftovers(ctx context.Context) map[string]state.IDRange {
	left := map[string]state.IDRange{}
	look := func(id string) {
		if c, err := e.registry.find(id); wholeID.MatchString(id) && (err != nil || c.id != id) {
			left[id] = state.IDRange{}
		}
	}
	for _, dir := range []string{e.config.ExecRoot, filepath.Join(e.config.DataRoot, containersDir)} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			e.log.Error("leftovers were not looked for", "dir", dir, "err", err)
		}
		for _, entry := range entries {
			look(entry.Name())
		}
	}
	roots, err := e.deps.Images.RootFSList(ctx)
	if err != nil {
		e.log.Error("leftovers were not looked for", "what", "root filesystems", "err", err)
	}
	for _, id := range roots {
		if !e.remains.has(id) {
			look(id)
		}
	}
	for id := range left {
		if ids, err := e.deps.Runtime.IDs(id); err == nil {
			left[id] = state.IDRange(ids)
			e.ids.share(left[id])
		}
	}
	return left
}

// leftoverTimeout bounds the removal of a leftover. What cannot be removed is tried again by the next daemon.
const leftoverTimeout = time.Minute

// removeLeftover tells whether nothing of it is left. It asks no shim.
func (e *Engine) removeLeftover(ctx context.Context, id string) bool {
	err := func() error {
		if err := e.deps.Runtime.Discard(ctx, id); err != nil {
			return fmt.Errorf("end what runs: %w", err)
		}
		if err := e.deps.Images.RemoveRootFS(ctx, id); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
		return removeDir(e.dir(id))
	}()
	if err != nil {
		e.log.Error("leftover of a container was not removed", "container", id, "err", err)
		return false
	}
	e.log.Info("leftover of a container removed", "container", id)
	return true
}

// noteEnd records how a run ended.
func noteEnd(v *view, exit Exit) {
	v.Life.ExitCode, v.Life.Signal = exit.Code, int(exit.Signal)
	v.Life.OOMKilled = v.Life.OOMKilled || exit.OOMKilled // the start has reset it
	v.Life.FinishedAt = exit.At.UTC()
	v.Life.Amend(func(r *state.Run) {
		r.FinishedAt, r.ExitCode, r.Signal = v.Life.FinishedAt, exit.Code, int(exit.Signal)
		r.OOMKilled, r.Unobserved = v.Life.OOMKilled, !exit.Observed
	})
	v.task, v.endpoints, v.published, v.execs, v.once = nil, nil, nil, nil, nil
	v.exits++
	v.lastExit = exit.Code
	if v.health != nil {
		v.health = endedHealth(v.health)
	}
}
