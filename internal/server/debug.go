package server

import (
	"net/http"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
)

// debugCreate prepares a debug session. Its id is an exec's: the client goes on
// with /exec/{id}/start, resize and json.
func (s *Server) debugCreate(r *request) error {
	var req api.DebugRequest
	if err := r.readJSON(&req); err != nil {
		return err
	}
	if req.Target == "" {
		return invalid("No target specified")
	}
	out, err := s.backend.DebugCreate(r.ctx(), req)
	if err != nil {
		return err
	}
	return r.json(http.StatusCreated, out)
}

// debugForm is the wire's form of a session.
func debugForm(s engine.DebugSession) api.DebugSession {
	out := s.DebugSession
	out.Client = actorOrNil(s.Client)
	return out
}

func (s *Server) debugInspect(r *request) error {
	session, err := s.backend.DebugSession(r.ctx(), r.name)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, debugForm(session))
}

func (s *Server) debugList(r *request) error {
	list, err := s.backend.DebugSessions(r.ctx())
	if err != nil {
		return err
	}
	out := make([]api.DebugSession, len(list))
	for i, session := range list {
		out[i] = debugForm(session)
	}
	return r.json(http.StatusOK, out)
}
