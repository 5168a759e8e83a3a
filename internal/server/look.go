package server

import (
	"net/http"

	"github.com/portholehq/porthole/internal/debug/look"
	"github.com/portholehq/porthole/internal/engine"
)

// processes tells of the processes of all containers, or of those that the filters
// select.
func (s *Server) processes(r *request) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	list, err := look.Trees(r.ctx(), s.backend, engine.ListOptions{All: r.flag("all"), Filters: f})
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, list)
}

func (s *Server) sockets(r *request) error {
	out, err := look.Sockets(r.ctx(), s.backend, r.name, r.flag("all"))
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, out)
}

func (s *Server) openFiles(r *request) error {
	out, err := look.Files(r.ctx(), s.backend, r.name, r.flag("mapped"))
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, out)
}
