package engine

import (
	"context"
	"os"
	"path/filepath"

	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/ledger"
	"github.com/portholehq/porthole/internal/network"
)

// Resident is a container, or a step of a build that runs, for those who ask whose something is. Nothing in it may be
// changed.
type Resident struct {
	*state.Container
	Step      bool         // of a build
	Status    state.Status // as people see it
	Pid       int          // of the first process, on the host; 0: it does not run
	NetworkOf string       // the id of the one whose network it has: its own unless it joined another's
	HostNet   bool
	Execs     []ExecSession
	task      Task
}

// NetNS opens the network namespace. The caller closes it.
func (r *Resident) NetNS() (*os.File, error) { return r.task.NetNS() }

// Residents are all containers, the newest first, and behind them the steps of builds that run. It waits for nobody.
func (e *Engine) Residents() []Resident {
	var list []Resident
	for _, c := range e.registry.all() {
		if c.damaged {
			continue
		}
		v := c.view()
		r := residentOf(v)
		r.Status, r.Pid, r.Execs = v.shownStatus(), v.pid(), e.sessions(c)
		list = append(list, r)
	}
	e.steps.mu.Lock()
	defer e.steps.mu.Unlock()
	for _, s := range e.steps.running {
		r := residentOf(s.view)
		r.Step, r.Status, r.Pid, r.task = true, container.StateRunning, s.task.Pid(), s.task
		list = append(list, r)
	}
	return list
}

func residentOf(v *view) Resident {
	return Resident{Container: v.Container, NetworkOf: networkOwner(v), HostNet: v.HostConfig.NetworkMode.IsHost(), task: v.task}
}

// Claim tells whose a path of the data root is, as the nearest claim above it says; an empty owner: nobody's, or not of
// the data root. The path is absolute and clean.
func (e *Engine) Claim(ctx context.Context, path string) (ledger.Claim, error) {
	rel, err := filepath.Rel(e.config.DataRoot, path)
	if err != nil || !filepath.IsLocal(rel) {
		return ledger.Claim{}, nil //nolint:nilerr // as documented
	}
	claims, err := e.claims(ctx)
	if err != nil {
		return ledger.Claim{}, err
	}
	return ledger.Nearest(claims, rel), nil
}

// Places are the directories that are the daemon's own.
type Places struct{ DataRoot, ExecRoot, CgroupParent string }

// Places tells where the daemon keeps things.
func (e *Engine) Places() Places {
	return Places{DataRoot: e.config.DataRoot, ExecRoot: e.config.ExecRoot, CgroupParent: e.config.CgroupParent}
}

// NetworkSurvey is all that is on the network.
func (e *Engine) NetworkSurvey() (network.Survey, error) { return e.deps.Network.Survey() }

// Sockets are those that wait in a network namespace; nil: in the host's.
func (e *Engine) Sockets(ns *os.File) ([]network.Socket, error) { return e.deps.Network.Sockets(ns) }
