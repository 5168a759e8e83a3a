package server

import (
	"net/http"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/engine/state"
)

func graftForm(g state.Graft) api.Graft {
	return api.Graft{Source: g.Source, Destination: g.Destination, ReadOnly: !g.RW, Since: g.Since}
}

func graftForms(list []state.Graft) []api.Graft {
	out := make([]api.Graft, len(list))
	for i, g := range list {
		out[i] = graftForm(g)
	}
	return out
}

func (s *Server) graftList(r *request) error {
	list, err := s.backend.ContainerGrafts(r.name)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, graftForms(list))
}

func (s *Server) graftMake(r *request) error {
	g, err := s.backend.ContainerGraft(r.ctx(), r.name, engine.GraftSpec{
		Source: r.form.Get("source"), Destination: r.form.Get("destination"), RW: !r.flag("ro"),
	})
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, graftForm(g))
}

func (s *Server) graftRemove(r *request) error {
	if err := s.backend.ContainerUngraft(r.ctx(), r.name, r.form.Get("destination")); err != nil {
		return err
	}
	return r.json(http.StatusOK, struct{}{})
}
