package remote

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/containerd/errdefs"
)

// Found is one repository that a search came up with.
type Found struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	StarCount   int    `json:"star_count"`
	IsOfficial  bool   `json:"is_official"`
	IsAutomated bool   `json:"is_automated"`
}

// Search looks for repositories on Docker Hub, or on the host that the term
// begins with ("HOST/TERM"). Registries of the distribution specification have
// no search: that is an error of class errdefs.ErrNotImplemented.
func (r *Registries) Search(ctx context.Context, term string, limit int, creds Credentials) ([]Found, error) {
	domain := hubName
	if first, rest, ok := strings.Cut(term, "/"); ok && (strings.ContainsAny(first, ".:") || first == "localhost") {
		domain, term = ServerDomain(first), rest
	}
	s := r.session(ctx, domain, creds)
	defer s.Close()
	hosts, err := s.configure(domain)
	if err != nil {
		return nil, err
	}
	if len(hosts) == 0 {
		return nil, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("registry %q has no host in its settings", domain))
	}
	h := hosts[len(hosts)-1]
	if domain == hubName {
		h.Host = hubIndex
	}
	target := fmt.Sprintf("%s://%s/v1/search?q=%s&n=%d", h.Scheme, h.Host, url.QueryEscape(term), limit)
	var answer struct {
		Results []Found `json:"results"`
	}
	_, err = s.get(ctx, h, target, &answer)
	if errdefs.IsNotFound(err) {
		return nil, errdefs.ErrNotImplemented.WithMessage("registry " + domain + " has no search")
	}
	return answer.Results, err
}
