package engine

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/portholehq/porthole/internal/linux/bpf"
	"github.com/portholehq/porthole/internal/linux/calltrace"
	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/problem"
	"github.com/portholehq/porthole/internal/record/blackbox"
	"github.com/portholehq/porthole/internal/record/death"
)

// blackBoxKey is the annotation of a container that is to have a black box: its last system calls are kept.
const blackBoxKey = "porthole.blackbox"

// boxEvents are those that a black box keeps: 1.5 MiB of the kernel's memory (calltrace.BoxBytes).
const boxEvents = 4096

// recording is what all black boxes share. The programs in the kernel are there while there are boxes: they cost each
// system call of the host a little. The zero value is ready.
type recording struct {
	mu       sync.Mutex
	recorder *calltrace.Recorder // nil: there are no boxes
	boxes    int
}

// blackBox is that of one run. Its methods may be called on nil, which has none, and by any goroutine.
type blackBox struct {
	from *recording
	when calltrace.Begins

	mu   sync.Mutex // guards box; a reader holds it, so that nobody takes the memory away
	box  *calltrace.Box
	gone bool
}

func wantsBlackBox(v *view) bool { return v.HostConfig.Annotations[blackBoxKey] == "true" }

// blackBoxWarning tells why what was asked for cannot be; empty: it can, or was not asked for.
func (e *Engine) blackBoxWarning(annotations map[string]string) string {
	if annotations[blackBoxKey] != "true" {
		return ""
	}
	err := bpf.Available()
	if err == nil && e.deps.Witness != nil {
		_, err = e.deps.Witness.Counts() // it needs the same of the kernel, and has tried
	}
	if err != nil {
		return "There will be no black box: " + err.Error()
	}
	return ""
}

// record begins the black box of a run, if one is wanted. Where it cannot be the container starts all the same: it was
// warned of at the creation.
func (e *Engine) record(v *view, when calltrace.Begins) *blackBox {
	if !wantsBlackBox(v) {
		return nil
	}
	part, err := e.groupOf(v.ID).ID(cgroup.App)
	var b *blackBox
	if err == nil {
		b, err = e.recording.begin(cgroup.New(e.config.CgroupParent), part, when)
	}
	if err != nil {
		e.log.Warn("there is no black box", "container", v.ID, "err", err)
		return nil
	}
	return b
}

// begin makes a box of a part of one of the groups in parent.
func (r *recording) begin(parent *cgroup.Group, part uint64, when calltrace.Begins) (*blackBox, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.recorder == nil {
		group, err := parent.ID("")
		if err != nil {
			return nil, err
		}
		if r.recorder, err = calltrace.OpenRecorder(group, boxEvents); err != nil {
			r.recorder = nil
			return nil, err
		}
	}
	box, err := r.recorder.Record(part, when)
	if err != nil {
		return nil, errors.Join(err, r.closeUnused())
	}
	r.boxes++
	return &blackBox{from: r, when: when, box: box}, nil
}

// closeUnused ends the watching if there are no boxes. The caller holds mu.
func (r *recording) closeUnused() error {
	if r.boxes > 0 || r.recorder == nil {
		return nil
	}
	err := r.recorder.Close()
	r.recorder = nil
	return err
}

// stop ends the recording, so that nothing of what comes after a run gets into it.
func (b *blackBox) stop() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.gone {
		_ = b.box.Stop() // what it has can be read all the same
	}
}

// read is what the box has so far, with the calls that tasks are in the midst of; nil, nil: it is gone.
func (b *blackBox) read(tids []int) (*blackbox.Kept, error) {
	if b == nil {
		return nil, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gone {
		return nil, nil
	}
	kept, err := b.box.Read()
	if err != nil {
		return nil, err
	}
	inside, err := b.box.Inside(tids)
	if err != nil {
		return nil, err
	}
	kept.Events = append(kept.Events, inside...)
	return blackbox.Of(kept, b.box.Since(), b.when), nil
}

// end gives back what the box has of the kernel. It may be called several times.
func (b *blackBox) end() error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gone {
		return nil
	}
	b.gone = true
	err := b.box.Close()
	b.from.mu.Lock()
	defer b.from.mu.Unlock()
	b.from.boxes--
	return errors.Join(err, b.from.closeUnused())
}

// endBoxes ends those of containers that go on without this daemon.
func (e *Engine) endBoxes() {
	for _, c := range e.registry.all() {
		if err := c.box.Load().end(); err != nil {
			e.log.Warn("a black box was not ended", "container", c.id, "err", err)
		}
	}
}

// takeBox is what the black box of a run that has ended has kept; nil: it had none.
func (e *Engine) takeBox(c *ctr) *blackbox.Kept {
	b := c.box.Load()
	kept, err := b.read(nil)
	if err = errors.Join(err, b.end()); err != nil {
		e.log.Warn("the black box could not be read", "container", c.id, "err", err)
	}
	return kept
}

// keepBox writes down what the black box of a run that has ended has kept, before anybody is told of the end: all there is
// of it is in the kernel, and goes with the daemon. It returns what could not be written, for a later try.
func (e *Engine) keepBox(c *ctr, rec *death.Record) *blackbox.Kept {
	box := e.takeBox(c)
	if box == nil || e.deaths.store == nil {
		return nil
	}
	rec.Box = box.Summary()
	if err := e.deaths.store.WriteCalls(rec, box); err != nil {
		e.log.Warn("the black box is not written yet", "container", c.id, "err", err)
		return box
	}
	return nil
}

// Recorded is what the black box of a run has kept.
type Recorded struct {
	ID, Name string
	Run      int
	Death    *death.Record // nil: it goes on
	*blackbox.Kept
}

// Recorded reads the black box of a container: of the run that goes on, else of the last one, or of the one with that number
// if it is not 0. The container may be gone.
func (e *Engine) Recorded(ref string, run int) (*Recorded, error) {
	if v, err := e.viewOf(ref); err == nil && v.task != nil && (run == 0 || run == v.Life.Run) {
		return e.recordedLive(v)
	}
	list, err := e.Deaths(DeathsOptions{Container: ref, Run: run, Limit: 1})
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		if run != 0 {
			return nil, notFound("nothing is recorded of run %d of container %s", run, ref)
		}
		return nil, notFound("container %s has not run, or nothing is recorded of it", ref)
	}
	d := list[0]
	kept, err := e.deaths.calls(d)
	switch {
	case errors.Is(err, death.ErrNotFound) && d.Box != nil:
		return nil, notFound("what the black box of container %s kept in run %d was removed to make room", d.Name, d.Run)
	case errors.Is(err, death.ErrNotFound) && d.DaemonAbsent:
		return nil, notFound("container %s has no black box of run %d: no daemon ran when it ended", d.Name, d.Run)
	case errors.Is(err, death.ErrNotFound):
		return nil, problem.WithHint(notFound("container %s had no black box in run %d, or its daemon was killed before that was written", d.Name, d.Run), "the next one has one with: porthole run --blackbox …")
	case err != nil:
		return nil, err
	}
	return &Recorded{ID: d.Container, Name: d.Name, Run: d.Run, Death: d, Kept: kept}, nil
}

func (e *Engine) recordedLive(v *view) (*Recorded, error) {
	c, err := e.registry.find(v.ID)
	if err != nil {
		return nil, err
	}
	pids, err := v.task.Pids()
	if err != nil {
		return nil, err
	}
	kept, err := c.box.Load().read(threadsOf(pids))
	switch {
	case err != nil:
		return nil, err
	case kept != nil:
		return &Recorded{ID: v.ID, Name: v.Name, Run: v.Life.Run, Kept: kept}, nil
	case wantsBlackBox(v):
		return nil, problem.WithHint(conflict("container %s has no black box: it could not be begun", v.Name), "the log of the daemon tells why")
	}
	return nil, problem.WithHint(conflict("container %s has no black box", v.Name),
		"the next one has one with: porthole run --blackbox …; what this one does from now on is shown by: porthole trace "+v.Name)
}

// threadsOf are the threads of processes, as far as they are there still.
func threadsOf(pids []int) (tids []int) {
	for _, pid := range pids {
		entries, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "task"))
		if err != nil {
			continue
		}
		for _, entry := range entries {
			if tid, err := strconv.Atoi(entry.Name()); err == nil {
				tids = append(tids, tid)
			}
		}
	}
	return tids
}
