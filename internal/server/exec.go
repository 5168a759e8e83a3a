package server

import (
	"net/http"

	"github.com/moby/moby/api/types/container"

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
