package engine

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/portholehq/porthole/internal/linux/kmsg"
	"github.com/portholehq/porthole/internal/record/death"
)

// oomTellWait is how long the news of a kill waits for the kernel's log to name the victim. The kernel writes it right
// after the kill.
const oomTellWait = 100 * time.Millisecond

// oomCounter is a task that knows how many of its processes were killed.
type oomCounter interface{ OOMKills() (uint64, error) }

// oomKills are the victims of a container's present run, as the kernel's log names them.
type oomKills struct {
	news chan struct{} // of capacity 1: there is one more

	mu   sync.Mutex
	list []death.OOMKill
}

// begin forgets the last run's.
func (k *oomKills) begin() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.list = nil
	select {
	case <-k.news:
	default:
	}
}

func (k *oomKills) add(kill death.OOMKill) {
	k.mu.Lock()
	k.list = append(k.list, kill)
	k.list = k.list[max(0, len(k.list)-death.MaxOOMKills):]
	k.mu.Unlock()
	select {
	case k.news <- struct{}{}:
	default:
	}
}

func (k *oomKills) all() []death.OOMKill {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.list)
}

// kernelLog follows the kernel's log for all containers. The zero value, where the log cannot be read, knows of nothing.
type kernelLog struct {
	reader  *kmsg.Reader
	parser  kmsg.OOMParser
	earlier map[string][]kmsg.OOMKill // by container, from before this daemon
	// samePIDs tells that the daemon runs in the pid namespace in which the kernel counts.
	samePIDs bool
}

// initPIDNamespace is the first pid namespace (PROC_PID_INIT_INO in include/linux/proc_ns.h).
const initPIDNamespace = "pid:[4026531836]"

// openKernelLog begins to read the kernel's log: what is there already if there are containers that it may be about.
func (e *Engine) openKernelLog(past bool) {
	if !e.deps.KernelLog {
		return
	}
	where := kmsg.End
	if past {
		where = kmsg.Beginning
	}
	r, err := kmsg.Open(where)
	if err != nil {
		e.log.Warn("victims of OOM kills stay unknown", "err", err)
		return
	}
	e.kernel.reader, e.kernel.earlier = r, map[string][]kmsg.OOMKill{}
	if ns, err := os.Readlink("/proc/self/ns/pid"); err == nil {
		e.kernel.samePIDs = ns == initPIDNamespace
	}
	if !past {
		return
	}
	err = r.Drain(func(rec kmsg.Record) error {
		if kill, ok := e.kernel.parser.Take(rec); ok {
			if id := e.victimOf(kill); id != "" {
				e.kernel.earlier[id] = append(e.kernel.earlier[id], kill)
			}
		}
		return nil
	})
	if err != nil {
		e.log.Warn("earlier OOM kills stay unknown", "err", err)
	}
}

// followKernelLog hands the kills to their containers.
func (e *Engine) followKernelLog() {
	r := e.kernel.reader
	if r == nil {
		return
	}
	e.goWork(func() {
		defer r.Close()
		err := r.Follow(e.life, func(rec kmsg.Record) error {
			if rec.Lost > 0 {
				e.log.Warn("records of the kernel's log were overwritten before they were read", "lost", rec.Lost)
			}
			if kill, ok := e.kernel.parser.Take(rec); ok {
				id := e.victimOf(kill)
				if c, err := e.registry.find(id); err == nil {
					e.noteKill(c, kill)
				} else if r := e.steps.find(id); r != nil {
					e.noteStepKill(r, kill)
				}
			}
			return nil
		})
		if e.life.Err() == nil {
			e.log.Error("victims of OOM kills stay unknown from now on", "err", err)
		}
	})
}

// victimOf is the id of the container in which a process was killed; empty: none of ours.
func (e *Engine) victimOf(kill kmsg.OOMKill) string {
	rest, ok := strings.CutPrefix(kill.TaskGroup, strings.TrimSuffix(e.config.CgroupParent, "/")+"/")
	id, _, _ := strings.Cut(rest, "/")
	if !ok || !wholeID.MatchString(id) {
		return ""
	}
	return id
}

func (e *Engine) noteKill(c *ctr, kill kmsg.OOMKill) {
	// Whether it was the first process is found out when that ends.
	k, ok := death.OOMKillIn(kill, e.appGroup(c.id), 0)
	if !ok {
		return
	}
	if v := c.view(); len(k.Largest) == 0 && !kill.Whole && v.task != nil && time.Since(k.Time) < oomLeftWithin {
		k.Largest, k.LargestAfter = largestLeft(v.task, k), true
	}
	c.kills.add(k)
}

func (e *Engine) noteStepKill(r *runningStep, kill kmsg.OOMKill) {
	if k, ok := death.OOMKillIn(kill, e.appGroup(r.step.ID), 0); ok {
		r.ctr.kills.add(k)
	}
}

// appGroup is the control group of a container's processes.
func (e *Engine) appGroup(id string) string { return path.Join(e.config.CgroupParent, id, "app") }

// earlierKills gives a container that is adopted the kills of its present run that happened before.
func (e *Engine) earlierKills(c *ctr) {
	since := c.view().Life.StartedAt.Add(-time.Second) // the two clocks differ a little
	if since.After(time.Now()) {
		since = time.Time{} // the clock was set back
	}
	for _, kill := range e.kernel.earlier[c.id] {
		if kill.Time.After(since) {
			e.noteKill(c, kill)
		}
	}
}

// oomKilled notes that the kernel has killed processes of the container for want of memory, whether or not it goes on,
// and publishes one event for each of which nothing was told yet. counted is how many the kernel counts.
func (e *Engine) oomKilled(c *ctr, counted int) {
	told := c.view().Life.OOMTold
	kills := e.awaitKills(c, counted)
	if counted <= told && len(kills) <= told {
		return
	}
	e.saved(c, c.updateSaved(func(v *view) { v.Life.OOMKilled, v.Life.OOMTold = true, max(counted, len(kills)) }))
	v := c.view()
	for _, k := range kills[min(told, len(kills)):] {
		e.emit(behalf(nil), v, events.ActionOOM, oomAttributes(k))
	}
	if len(kills) <= told {
		e.emit(behalf(nil), v, events.ActionOOM, nil)
	}
}

// awaitKills returns the victims that are known, after a moment if there should be more.
func (e *Engine) awaitKills(c *ctr, counted int) []death.OOMKill {
	kills := c.kills.all()
	if e.kernel.reader == nil {
		return kills
	}
	timer := time.NewTimer(oomTellWait)
	defer timer.Stop()
	for len(kills) < counted {
		select {
		case <-c.kills.news:
		case <-timer.C:
			return c.kills.all()
		}
		kills = c.kills.all()
	}
	return kills
}

// countKills asks the kernel how many were killed; a task that cannot tell has one more than was told of.
func (e *Engine) countKills(c *ctr, task Task) int {
	if k, ok := task.(oomCounter); ok {
		n, err := k.OOMKills()
		if err == nil {
			return int(n)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			e.log.Warn("OOM kills cannot be counted", "container", c.id, "err", err)
		}
	}
	return c.view().Life.OOMTold + 1
}

// oomAttributes name the victim and the limit, in bytes.
func oomAttributes(k death.OOMKill) map[string]string {
	a := map[string]string{
		"victim": k.Task, "pid": strconv.Itoa(k.PID), "uid": strconv.FormatUint(uint64(k.UID), 10),
		"rss": strconv.FormatUint(k.RSS, 10), "whose": string(k.Whose), "reason": k.Text(),
	}
	if k.Limit > 0 {
		a["limit"] = strconv.FormatUint(k.Limit, 10)
	}
	if text := k.LargestText(); text != "" {
		a["largest"] = text
	}
	return a
}

// orphanKills counts the kills of a container without a shim, before what it has left is cleared away.
func (e *Engine) orphanKills(id string) uint64 {
	r, ok := e.deps.Runtime.(interface {
		OOMKills(id string) (uint64, error)
	})
	if !ok {
		return 0
	}
	n, err := r.OOMKills(id)
	if err != nil {
		e.log.Warn("OOM kills of an ended container cannot be counted", "container", id, "err", err)
	}
	return n
}
