package server

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// maxLoggedBody is the size up to which a JSON body is logged.
const maxLoggedBody = 4096

// secretKeys are masked wherever they occur in a body, in any case.
var secretKeys = []string{"auth", "data", "identitytoken", "jointoken", "password", "registrytoken", "secret", "signingcakey", "unlockkey"}

// secretHeaders are shown masked.
var secretHeaders = []string{"X-Registry-Auth", "X-Registry-Config", "Authorization"}

const masked = "*****"

// logRequest writes a request to the log, as dockerd does in debug mode.
func (s *Server) logRequest(r *request, ver string) {
	attrs := []any{
		slog.Group("vars", slog.String("version", ver), slog.String("name", r.name)),
		slog.String("peer", r.op.peer.String()),
	}
	for _, name := range secretHeaders {
		if r.http.Header.Get(name) != "" {
			attrs = append(attrs, slog.String("header "+name, masked))
		}
	}
	if body, ok := peekJSON(r); ok {
		attrs = append(attrs, slog.String("body", body))
	}
	r.log.Debug("handling request", attrs...)
}

// peekJSON returns a small JSON body with its secrets masked, and leaves the
// body to be read again.
func peekJSON(r *request) (string, bool) {
	hr := r.http
	if hr.Method != http.MethodPost || hr.Body == nil || hr.ContentLength == 0 ||
		hr.ContentLength > maxLoggedBody || r.checkJSON() != nil {
		return "", false
	}
	head, err := io.ReadAll(io.LimitReader(hr.Body, maxLoggedBody+1))
	hr.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), hr.Body), hr.Body}
	if err != nil || len(head) > maxLoggedBody {
		return "", false
	}
	var value any
	if json.Unmarshal(head, &value) != nil {
		return "", false
	}
	mask(value)
	text, err := json.Marshal(value)
	return string(text), err == nil
}

func mask(value any) {
	switch value := value.(type) {
	case []any:
		for _, v := range value {
			mask(v)
		}
	case map[string]any:
		for key, v := range value {
			if slices.Contains(secretKeys, strings.ToLower(key)) {
				value[key] = masked
				continue
			}
			mask(v)
		}
	}
}

// addresses are parameters with an address of a file, which may have secrets in
// its user and query.
var addresses = []string{"fromSrc", "remote"}

// loggedURI is what a request asks for, with secrets masked.
func loggedURI(hr *http.Request) string {
	query := hr.URL.Query()
	found := false
	for _, name := range addresses {
		if value := query.Get(name); value != "" && shownAddress(value) != value {
			query.Set(name, shownAddress(value))
			found = true
		}
	}
	if !found {
		return hr.RequestURI
	}
	return hr.URL.Path + "?" + query.Encode()
}

// shownAddress is the address of a file without its user and query.
func shownAddress(value string) string {
	u, err := url.Parse(value)
	switch {
	case err != nil, u.Host == "" && strings.ContainsAny(value, "@?"):
		return masked
	case u.User != nil, u.RawQuery != "":
		u.User, u.RawQuery = nil, ""
		return u.String()
	}
	return value
}
