package remote

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"
)

// guard makes a client keep secrets where they belong.
func (s *Session) guard(client *http.Client) error {
	if t, ok := client.Transport.(*http.Transport); ok {
		t.DialContext = s.dialer(t.DialContext)
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
// library would ask for new credentials. What asks for a token has them in its
// body, which a 307 or 308 would carry along: that redirect is refused.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("stopped after 10 redirects")
	}
	from := via[0].URL
	if req.URL.Host != from.Host || (from.Scheme == "https" && req.URL.Scheme != "https") {
		req.Header.Del("Authorization")
		if isForm(via[0]) && req.Method == http.MethodPost {
			return fmt.Errorf("refused to send the credentials for %s on to %s", from.Host, req.URL.Host)
		}
	}
	return nil
}

// isForm tells a request for a token that has credentials in its body.
func isForm(req *http.Request) bool {
	return strings.HasPrefix(req.Header.Get("Content-Type"), "application/x-www-form-urlencoded")
}

// guarded refuses to send anything but plain reads over an open line to a
// registry that was not configured as insecure. What is read without TLS, as
// from storage that a registry redirects to, is checked by its digest. Answers
// that are no blobs may have maxAnswer bytes: the library reads some, as tokens,
// to the end into memory.
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
	res, err := g.next.RoundTrip(g.session.strange(req))
	if err == nil && !mayBeLarge(req) {
		res.Body = &boundedBody{ReadCloser: res.Body, left: maxAnswer, host: req.URL.Host}
	}
	return res, err
}

// mayBeLarge tells a request for a blob, or one that such a request was
// redirected to. Only requests for blobs and manifests say what they accept; the
// addresses of others are the registry's to choose.
func mayBeLarge(req *http.Request) bool {
	for req.Response != nil && req.Response.Request != nil {
		req = req.Response.Request
	}
	return req.Header.Get("Accept") != "" && !strings.Contains(req.URL.Path, "/manifests/")
}

// boundedBody is an answer that ends with an error when it is too long.
type boundedBody struct {
	io.ReadCloser
	left int64
	host string
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errdefs.ErrResourceExhausted.WithMessage(fmt.Sprintf("%s answers with more than %d bytes", b.host, int64(maxAnswer)))
	}
	return n, err
}
