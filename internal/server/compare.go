package server

import (
	"net/http"

	"github.com/portholehq/porthole/internal/debug/compare"
)

// compare tells in what two containers, or images, differ.
func (s *Server) compare(r *request) error {
	a, b := r.form.Get("a"), r.form.Get("b")
	if a == "" || b == "" {
		return invalid("a and b must both name a container or an image")
	}
	out, err := compare.Compare(r.ctx(), s.backend, a, b)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, out)
}
