package remote

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
)

const (
	// tagsPerPage is how many tags are asked for at once, maxTags how many a
	// repository may have, maxPages how many answers they may come in, which is
	// enough for registries that give no more than 50. maxTag is how long a tag
	// may be by the distribution specification, maxAnswer how long one answer may
	// be, both in bytes.
	tagsPerPage = 1000
	maxTags     = 100_000
	maxPages    = 2000
	maxTag      = 128
	maxAnswer   = 8 << 20
)

// Tags returns the tags of a repository, in the registry's order.
func (s *Session) Tags(ctx context.Context, repo reference.Named) ([]string, error) {
	hosts, err := s.Hosts(reference.Domain(repo))
	if err != nil {
		return nil, err
	}
	err = errdefs.ErrNotFound.WithMessage("no registry for " + repo.Name())
	for _, h := range hosts {
		var tags []string
		if tags, err = s.tagsAt(ctx, h, reference.Path(repo)); err == nil {
			return tags, nil
		}
	}
	return nil, err
}

func (s *Session) tagsAt(ctx context.Context, h docker.RegistryHost, path string) ([]string, error) {
	ctx = docker.WithScope(ctx, "repository:"+path+":pull")
	next := fmt.Sprintf("%s://%s%s/%s/tags/list?n=%d", h.Scheme, h.Host, h.Path, path, tagsPerPage)
	var tags []string
	for pages := 0; next != ""; pages++ {
		if pages == maxPages {
			return nil, errdefs.ErrResourceExhausted.WithMessage(fmt.Sprintf("repository %s lists its tags on more than %d pages", path, maxPages))
		}
		var page struct {
			Tags []string `json:"tags"`
		}
		header, err := s.get(ctx, h, next, &page)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(page.Tags, func(tag string) bool { return len(tag) > maxTag }) {
			return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("repository %s lists a tag of more than %d bytes", path, maxTag))
		}
		tags = append(tags, page.Tags...)
		if len(tags) > maxTags {
			return nil, errdefs.ErrResourceExhausted.WithMessage(fmt.Sprintf("repository %s has more than %d tags", path, maxTags))
		}
		if next, err = nextPage(next, header.Get("Link")); err != nil {
			return nil, err
		}
	}
	return tags, nil
}

// nextPage follows a header as in `</v2/x/tags/list?last=b&n=2>; rel="next"`.
// It stays on the host.
func nextPage(current, link string) (string, error) {
	target, params, ok := strings.Cut(link, ">")
	if !ok || !strings.Contains(params, `rel="next"`) {
		return "", nil
	}
	base, err := url.Parse(current)
	if err != nil {
		return "", fmt.Errorf("list of tags: %w", err)
	}
	next, err := base.Parse(strings.TrimPrefix(strings.TrimSpace(target), "<"))
	if err != nil || next.Host != base.Host || next.Scheme != base.Scheme || next.String() == current {
		return "", fmt.Errorf("list of tags: the registry continues at %q", target)
	}
	return next.String(), nil
}

// get asks for a JSON document of the registry, with a token when it wants
// one.
func (s *Session) get(ctx context.Context, h docker.RegistryHost, target string, into any) (http.Header, error) {
	var answers []*http.Response
	for range 3 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
		if err != nil {
			return nil, invalid("registry %q: %s", h.Host, err)
		}
		req.Header = s.headers()
		if err := h.Authorizer.Authorize(ctx, req); err != nil {
			return nil, err
		}
		res, err := h.Client.Do(req)
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(res.Body) // which the guard bounds
		_ = res.Body.Close()
		switch {
		case err != nil:
			return nil, fmt.Errorf("read %s: %w", target, err)
		case res.StatusCode == http.StatusOK:
			if err := json.Unmarshal(data, into); err != nil {
				return nil, fmt.Errorf("read %s: %w", target, err)
			}
			return res.Header, nil
		case res.StatusCode != http.StatusUnauthorized:
			return nil, statusError(target, res)
		}
		answers = append(answers, res)
		if err := h.Authorizer.AddResponses(ctx, answers); err != nil {
			return nil, err
		}
	}
	return nil, unauthorized(target)
}

func statusError(target string, res *http.Response) error {
	text := fmt.Sprintf("%s answers %s", target, res.Status)
	switch res.StatusCode {
	case http.StatusNotFound:
		return errdefs.ErrNotFound.WithMessage(text)
	case http.StatusUnauthorized, http.StatusForbidden:
		return errdefs.ErrPermissionDenied.WithMessage(text)
	case http.StatusTooManyRequests:
		return errdefs.ErrUnavailable.WithMessage(text)
	default:
		return errdefs.ErrUnknown.WithMessage(text)
	}
}
