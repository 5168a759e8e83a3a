package server

import (
	"net/http"

	"github.com/portholehq/porthole/api"
)

// buildList lists the records of builds.
func (s *Server) buildList(r *request) error {
	limit, _, err := r.number("limit")
	if err != nil {
		return err
	}
	if limit < 0 {
		return invalid("limit must not be negative")
	}
	if s.opts.Builder == nil {
		return unavailable("build")(r)
	}
	list, err := s.opts.Builder.Builds()
	if err != nil {
		return err
	}
	if limit > 0 {
		list = list[:min(limit, len(list))]
	}
	return r.json(http.StatusOK, nonNil[*api.Build](list))
}

// buildInspect is one record, with its steps.
func (s *Server) buildInspect(r *request) error {
	if s.opts.Builder == nil {
		return unavailable("build")(r)
	}
	b, err := s.opts.Builder.Build(r.name)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, b)
}

// buildRemove removes a record and the logs of its steps.
func (s *Server) buildRemove(r *request) error {
	if s.opts.Builder == nil {
		return unavailable("build")(r)
	}
	id, err := s.opts.Builder.RemoveBuild(r.ctx(), r.name)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, map[string]string{"Id": id})
}

// buildSteps lists the processes of builds.
func (s *Server) buildSteps(r *request) error {
	if s.opts.Builder == nil {
		return r.json(http.StatusOK, []api.BuildProcess{})
	}
	list, err := s.opts.Builder.Steps(r.flag("all"))
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, nonNil[api.BuildProcess](list))
}
