package remote

import (
	"errors"
	"fmt"
	"net/http"
)

// guard makes a client keep secrets where they belong.
func (s *Session) guard(client *http.Client) error {
	if t, ok := client.Transport.(*http.Transport); ok {
		s.mu.Lock()
		s.idle = append(s.idle, t.CloseIdleConnections)
		s.mu.Unlock()
	}
	client.Transport = guarded{next: client.Transport, session: s}
	client.CheckRedirect = checkRedirect
	return nil
}

// checkRedirect follows redirects without the credentials, unless they stay on
// the host: net/http takes ports of one host for the same place, and the
// library would ask for new credentials.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("stopped after 10 redirects")
	}
	from := via[0].URL
	if req.URL.Host != from.Host || (from.Scheme == "https" && req.URL.Scheme != "https") {
		req.Header.Del("Authorization")
	}
	return nil
}

// guarded refuses to send anything but plain reads over an open line to a
// registry that was not configured as insecure. What is read without TLS, as
// from storage that a registry redirects to, is checked by its digest.
type guarded struct {
	next    http.RoundTripper
	session *Session
}

func (g guarded) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme == "http" && !g.session.settings.insecure(req.Context(), req.URL.Host) {
		reads := req.Method == http.MethodGet || req.Method == http.MethodHead
		if !reads || req.Header.Get("Authorization") != "" {
			return nil, fmt.Errorf("refused to send credentials or content to %s without TLS", req.URL.Host)
		}
	}
	return g.next.RoundTrip(req)
}
