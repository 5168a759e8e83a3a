package server

import (
	"net/http"

	"github.com/portholehq/porthole/internal/debug/mounted"
)

// mounts tells what is mounted in a container.
func (s *Server) mounts(r *request) error {
	answer, err := mounted.Look(r.ctx(), s.backend, mounted.Options{Container: r.name, All: r.flag("all")})
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, answer)
}
