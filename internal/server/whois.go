package server

import (
	"net/http"

	"github.com/portholehq/porthole/internal/debug/whois"
)

// whois tells whose a process, port, address, interface or path of the host is.
func (s *Server) whois(r *request) error {
	answer, err := whois.Find(r.ctx(), s.backend, r.form.Get("what"))
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, answer)
}
