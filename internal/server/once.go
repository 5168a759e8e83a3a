package server

import (
	"net/http"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
)

// containerOnce makes a container ready to be started once with a command of
// its own. The client attaches then, as Docker's does, and starts it by
// containerStartOnce.
func (s *Server) containerOnce(r *request) error {
	var req api.OnceRequest
	if err := r.readJSON(&req); err != nil {
		return err
	}
	token, err := s.backend.ContainerOnce(r.ctx(), r.name, engine.OnceOptions{Cmd: req.Command, TTY: req.TTY, Stdin: req.Stdin})
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, api.OnceReady{Token: token})
}

func (s *Server) containerStartOnce(r *request) error {
	if err := s.backend.ContainerStartOnce(r.ctx(), r.name, r.form.Get("token")); err != nil {
		return err
	}
	return r.done(http.StatusNoContent)
}
