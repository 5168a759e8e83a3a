package server

import (
	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/event"
)

// portholeMember is what inspect shows besides Docker's members.
func portholeMember(runs []state.Run) api.Container {
	out := api.Container{Runs: make([]api.Run, len(runs))}
	for i, r := range runs {
		out.Run, out.Runs[i] = r.Number, runForm(r)
	}
	return out
}

func runForm(r state.Run) api.Run {
	out := api.Run{
		Number: r.Number, Cause: string(r.Cause), By: actorOrNil(r.By), StartedAt: r.StartedAt, FinishedAt: r.FinishedAt,
		Signal: r.Signal, OOMKilled: r.OOMKilled, Error: r.Error, Unobserved: r.Unobserved,
	}
	if !r.FinishedAt.IsZero() {
		out.ExitCode = &r.ExitCode
	}
	return out
}

func actorOrNil(o *event.Origin) *api.Actor {
	if o == nil {
		return nil
	}
	a := actor(o)
	return &a
}
