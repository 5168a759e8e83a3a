package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteserrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
)

// Login checks credentials at the registry "host[:port]", or at Docker Hub by
// any of its names. It returns the identity token that stands for the password
// from now on, where the registry gives one. Wrong credentials are an error of
// class errdefs.ErrUnauthenticated.
func (r *Registries) Login(ctx context.Context, server string, creds Credentials) (identity string, err error) {
	s := r.session(ctx, ServerDomain(server), creds)
	defer s.Close()
	s.identity = &identity
	hosts, err := s.configure(ServerDomain(server))
	if err != nil {
		return "", err
	}
	for _, h := range hosts {
		if err = s.login(ctx, h); err == nil {
			return identity, nil
		}
	}
	if err == nil {
		err = errdefs.ErrNotFound.WithMessage(fmt.Sprintf("registry %q has no host in its settings", server))
	}
	return "", err
}

// ServerDomain is the domain that references have for what people log in to:
// a URL, or "host[:port]"; Docker Hub for nothing.
func ServerDomain(server string) string {
	if _, rest, ok := strings.Cut(server, "://"); ok {
		server = rest
	}
	host, _, _ := strings.Cut(server, "/")
	switch host {
	case "", hubIndex, hubHost, "www.docker.io":
		return hubName
	default:
		return host
	}
}

// login asks for the root of the API, and again with what the registry wants.
func (s *Session) login(ctx context.Context, h docker.RegistryHost) error {
	target := h.Scheme + "://" + h.Host + h.Path + "/"
	var answers []*http.Response
	for range 3 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
		if err != nil {
			return invalid("registry %q: %s", h.Host, err)
		}
		req.Header = s.headers()
		if err := h.Authorizer.Authorize(ctx, req); err != nil {
			return loginError(target, err)
		}
		res, err := h.Client.Do(req)
		if err != nil {
			return errdefs.ErrUnknown.WithMessage(err.Error())
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
		_ = res.Body.Close()
		switch {
		case res.StatusCode == http.StatusOK:
			return nil
		case res.StatusCode != http.StatusUnauthorized:
			return fmt.Errorf("login attempt to %s failed with status: %s", target, res.Status)
		}
		answers = append(answers, res)
		if err := h.Authorizer.AddResponses(ctx, answers); err != nil {
			return loginError(target, err)
		}
	}
	return unauthorized(target)
}

// loginError words what came of the attempt to get a token.
func loginError(target string, err error) error {
	var status remoteserrors.ErrUnexpectedStatus
	if errors.Is(err, docker.ErrInvalidAuthorization) ||
		errors.As(err, &status) && (status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden) {
		return unauthorized(target)
	}
	return fmt.Errorf("get %q: %w", target, err)
}

func unauthorized(target string) error {
	return errdefs.ErrUnauthenticated.WithMessage(fmt.Sprintf("Get %q: unauthorized: incorrect username or password", target))
}
