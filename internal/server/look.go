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
