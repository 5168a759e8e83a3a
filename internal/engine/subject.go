package engine

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/network"
	"github.com/portholehq/porthole/internal/record/death"
)

// Subject is what is known of a container at one moment, for those who explain what it does. Nothing in it may be changed.
type Subject struct {
	*state.Container
	AppArmor  string       // its profile; empty: none
	Status    state.Status // as people see it
	Pid       int          // of the first process, on the host; 0: it does not run
	Pids      []int        // of all processes, on the host, without those that have ended
	PidsLimit uint64       // how many there can be, by its own limit or the engine's; 0: any number
	Published []network.Published
	Health    *container.Health // nil: there are no checks
	OOMKills  []death.OOMKill   // of the present run
	Denials   []death.Denial    // of the present run, where they are logged
	Networks  []string          // by name
	Grafts    []state.Graft     // what was mounted into it while it runs
	Unadopted error             // why the shim of an earlier daemon could not be taken up
}

// Subject tells what is known of a container. It waits for nobody.
func (e *Engine) Subject(ref string) (Subject, error) {
	c, err := e.registry.find(ref)
	if err != nil {
		return Subject{}, err
	}
	v := c.view()
	s := Subject{
		Container: v.Container, AppArmor: e.appArmorOf(v), PidsLimit: e.limitsOf(v.HostConfig).Pids, Status: v.shownStatus(), Pid: v.pid(), Published: v.published, Health: v.health,
		OOMKills: c.kills.all(), Denials: c.denials.Load().all(), Networks: slices.Sorted(maps.Keys(v.Container.Networks)), Unadopted: v.unadopted, Grafts: graftsOf(v),
	}
	if s.Pid == 0 {
		return s, nil
	}
	if s.Pids, err = v.task.Pids(); err != nil {
		e.log.Debug("processes are not known", "container", c.id, "err", err)
		s.Pids = []int{s.Pid}
	}
	return s, nil
}

// VolumeUsers names the containers that have a volume, without one of them, by name.
func (e *Engine) VolumeUsers(volume, but string) []string {
	var names []string
	for _, id := range e.volumeUsers(volume, but) {
		if v, err := e.viewOf(id); err == nil {
			names = append(names, v.Name)
		}
	}
	slices.Sort(names)
	return names
}

// filesWait is how long who only looks waits for a verb that is at work on a container that does not run.
const filesWait = 2 * time.Second

// LookIntoFiles calls fn with a container's files.
func (e *Engine) LookIntoFiles(ctx context.Context, ref string, fn func(OpenFiles)) error {
	c, err := e.registry.find(ref)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, filesWait)
	defer cancel()
	f, err := e.openFS(ctx, c, fsUse{verb: "why"})
	if err != nil {
		return err
	}
	defer f.Close()
	fn(f.files(c.view()))
	return nil
}

// LastLines are the last lines of the present or last run of a container.
func (e *Engine) LastLines(ref string) ([]death.Line, error) {
	v, err := e.viewOf(ref)
	if err != nil {
		return nil, err
	}
	return e.lastLines(v), nil
}
