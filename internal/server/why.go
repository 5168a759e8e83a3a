package server

import (
	"net/http"

	"github.com/portholehq/porthole/internal/debug/why"
)

// why tells why a container ended, or what it does.
func (s *Server) why(r *request) error {
	run, _, err := r.number("run")
	if err != nil {
		return err
	}
	if run < 0 {
		return invalid("run must not be negative")
	}
	answer, err := why.Explain(r.ctx(), s.backend, why.Options{Container: r.name, Run: run, History: r.flag("history")})
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, answer)
}
