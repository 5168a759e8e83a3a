package server

import (
	"net/http"

	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
)

func (s *Server) execCreate(r *request) error {
	var req container.ExecCreateRequest
	if err := r.readJSON(&req); err != nil {
		return err
	}
	if len(req.Cmd) == 0 {
		return invalid("No exec command specified")
	}
	if r.before(42) {
		req.ConsoleSize = nil
	}
	id, err := s.backend.ContainerExecCreate(r.ctx(), r.name, req)
	if err != nil {
		return err
	}
	return r.json(http.StatusCreated, container.ExecCreateResponse{ID: id})
}

func (s *Server) execStart(r *request) error {
	var req container.ExecStartRequest
	if err := r.readJSON(&req); err != nil {
		return err
	}
	o := engine.ExecStartOptions{Detach: req.Detach, Tty: req.Tty}
	if req.ConsoleSize != nil && req.Tty && !r.before(42) {
		o.ConsoleSize = *req.ConsoleSize
	}
	if req.Detach {
		if err := s.backend.ContainerExecStart(r.ctx(), r.name, o, nil); err != nil {
			return err
		}
		return r.done(http.StatusOK)
	}
	h, ctx, err := s.hijack(r)
	if err != nil {
		return err
	}
	defer h.end()
	err = s.backend.ContainerExecStart(ctx, r.name, o, func() (engine.Stream, error) {
		return h.open(!req.Tty)
	})
	return h.ended(ctx, err)
}

func (s *Server) execResize(r *request) error {
	height, err := r.size("h", "height")
	if err != nil {
		return err
	}
	width, err := r.size("w", "width")
	if err != nil {
		return err
	}
	if err := s.backend.ContainerExecResize(r.ctx(), r.name, height, width); err != nil {
		return err
	}
	return r.done(http.StatusOK)
}

func (s *Server) execInspect(r *request) error {
	out, err := s.backend.ContainerExecInspect(r.ctx(), r.name)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, out)
}

// execForm is the wire's form of an exec that runs.
func execForm(s engine.ExecSession) api.Exec {
	return api.Exec{
		ID: s.ID, ContainerID: s.ContainerID, PID: s.Pid, User: s.User, Command: nonNil(s.Command), TTY: s.TTY,
		StartedAt: s.StartedAt, Client: actorOrNil(s.Client), Attached: s.Attached, DieWithClient: s.DieWithClient,
	}
}

func (s *Server) execList(r *request) error {
	list, err := s.backend.ContainerExecs(r.ctx(), r.name)
	if err != nil {
		return err
	}
	out := make([]api.Exec, len(list))
	for i, session := range list {
		out[i] = execForm(session)
	}
	return r.json(http.StatusOK, out)
}

// execHint tells what to try after an exec that could not be executed.
func (s *Server) execHint(r *request) error {
	hint, err := s.backend.ExecHint(r.name)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, api.ExecHint{Hint: hint})
}

// execSignal answers with what it has sent the signal to.
func (s *Server) execSignal(r *request) error {
	session, err := s.backend.ExecSignal(r.ctx(), r.name, r.form.Get("signal"))
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, execForm(session))
}

// execDieWithClient belongs between the creation of an exec and its start,
// whose requests are Docker's and have no place for it. It is taken back with
// set=0, as by a client that is about to detach.
func (s *Server) execDieWithClient(r *request) error {
	if err := s.backend.ExecDieWithClient(r.ctx(), r.name, r.flagOn("set")); err != nil {
		return err
	}
	return r.json(http.StatusOK, struct{}{})
}
