package server

import (
	"net/http"

	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/api"
)

func (s *Server) health(r *request) error {
	h, list, err := s.backend.ContainerHealth(r.name)
	if err != nil {
		return err
	}
	out := api.Health{Status: string(container.NoHealthcheck), Results: make([]api.HealthResult, len(list))}
	if h != nil {
		out.Status, out.FailingStreak = string(h.Status), h.FailingStreak
	}
	for i, one := range list {
		out.Results[i] = api.HealthResult{
			Run: one.Run, Start: one.Start, End: one.End, ExitCode: one.ExitCode, TimedOut: one.TimedOut, Output: one.Output,
			Status: one.Status, FailingStreak: one.FailingStreak,
		}
	}
	return r.json(http.StatusOK, out)
}
