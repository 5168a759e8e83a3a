// Package remote finds the way to image registries: which host serves a
// name, by which scheme and certificates, with whose credentials. It is built
// on containerd's remotes/docker; what the store does with it is in package
// image.
//
// Credentials are given to the host that they were made for and to the token
// server that this host names. A host that a request was redirected to never
// sees them, and nothing secret goes out in the clear unless the registry was
// configured as insecure or is on this machine.
package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
)

const (
	// hubName is what Docker Hub is called in references, hubHost where its
	// registry is, hubIndex where its credentials are kept and its search is.
	hubName  = "docker.io"
	hubHost  = "registry-1.docker.io"
	hubIndex = "index.docker.io"
)

// Options are the settings of [Registries].
type Options struct {
	// Mirrors are URLs of pull-through caches of Docker Hub, asked in this
	// order before Docker Hub itself.
	Mirrors []string
	// Insecure are registries that may be asked without TLS or with a
	// certificate that nobody vouches for: "host[:port]" or a network as in
	// "10.1.0.0/16". This machine's loopback addresses always are.
	Insecure []string
	// CertDirs are directories of "HOST[:PORT]" directories with ca.crt,
	// client.cert, client.key or hosts.toml, as Docker's certs.d. The first
	// one that has the host counts.
	CertDirs []string
	// UserAgent is sent with each request.
	UserAgent string
}

// Credentials identify a user at one registry. The zero value is nobody.
type Credentials struct {
	Username string
	Password string
	// IdentityToken stands for a password and is exchanged for access tokens.
	IdentityToken string
	// RegistryToken is an access token, sent as it is.
	RegistryToken string
}

// Registries answers how registries are reached. It is safe for concurrent
// use.
type Registries struct{ settings atomic.Pointer[settings] }

// settings are checked options.
type settings struct {
	Options
	mirrors  []*url.URL
	hosts    map[string]bool
	networks []netip.Prefix
}

// New returns registries with the given options; a malformed one is an error of
// class errdefs.ErrInvalidArgument.
func New(o Options) (*Registries, error) {
	r := &Registries{}
	if err := r.Set(o); err != nil {
		return nil, err
	}
	return r, nil
}

// Set changes the options. Work under way goes on with the old ones.
func (r *Registries) Set(o Options) error {
	s := &settings{Options: o, hosts: map[string]bool{}}
	for _, text := range o.Mirrors {
		u, err := parseMirror(text)
		if err != nil {
			return err
		}
		s.mirrors = append(s.mirrors, u)
	}
	for _, text := range o.Insecure {
		if network, err := netip.ParsePrefix(text); err == nil {
			s.networks = append(s.networks, network.Masked())
			continue
		}
		if err := checkHost(text); err != nil {
			return err
		}
		s.hosts[strings.ToLower(text)] = true
	}
	r.settings.Store(s)
	return nil
}

// Options returns the options in force.
func (r *Registries) Options() Options { return r.settings.Load().Options }

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

func parseMirror(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, invalid("invalid mirror: %q is not a valid URI: %s", text, err)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, invalid("invalid mirror: unsupported scheme %q in %q: use http or https", u.Scheme, text)
	case u.Host == "" || u.RawQuery != "" || u.Fragment != "":
		return nil, invalid("invalid mirror: %q must be a host with nothing but a path", text)
	case u.User != nil:
		return nil, invalid("invalid mirror: username/password not allowed in URI %q", u.Redacted())
	}
	return u, nil
}

// checkHost checks a "host[:port]" of the settings.
func checkHost(text string) error {
	if strings.Contains(text, "://") {
		return invalid("insecure registry %s should not contain '://'", text)
	}
	u, err := url.Parse("https://" + text)
	if err != nil || u.Host != text || u.Hostname() == "" {
		return invalid("insecure registry %s is not valid: want host[:port] or a network as in 10.1.0.0/16", text)
	}
	return nil
}

// insecure tells whether a host may be asked in the clear. Names that do not
// stand in the settings themselves are looked up when networks do.
func (s *settings) insecure(ctx context.Context, host string) bool {
	name := hostname(host)
	if docker.IsLocalhost(host) || s.hosts[strings.ToLower(host)] || s.hosts[strings.ToLower(name)] {
		return true
	}
	if len(s.networks) == 0 {
		return false
	}
	addrs := []netip.Addr{}
	if a, err := netip.ParseAddr(name); err == nil {
		addrs = append(addrs, a)
	} else if found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name); err == nil {
		addrs = found
	}
	return slices.ContainsFunc(addrs, func(a netip.Addr) bool {
		return slices.ContainsFunc(s.networks, func(n netip.Prefix) bool { return n.Contains(a.Unmap()) })
	})
}

// hostname is host without its port.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.Trim(host, "[]")
}

// Session is the way to the registries for one piece of work in one user's
// name. Tokens that it gets are kept until it is dropped.
type Session struct {
	ctx      context.Context
	settings *settings
	// host is the only one that sees the credentials.
	host  string
	creds Credentials
	// identity takes the identity token that a login gets; nil for other work.
	identity *string
	tracker  docker.StatusTracker

	mu    sync.Mutex
	idle  []func()          // close the idle connections of a client
	known map[string]bool   // hosts that the user and the settings name, without ports
	near  map[nearness]bool // where one of these was reached
}

// Close closes the connections of the session that nobody uses any more.
func (s *Session) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, closeIdle := range s.idle {
		closeIdle()
	}
}

// Session opens a session for work on ref.
func (r *Registries) Session(ctx context.Context, ref reference.Named, creds Credentials) *Session {
	return r.session(ctx, reference.Domain(ref), creds)
}

func (r *Registries) session(ctx context.Context, domain string, creds Credentials) *Session {
	host := domain
	if host == hubName {
		host = hubHost
	}
	s := &Session{
		ctx: ctx, settings: r.settings.Load(), host: host, creds: creds,
		tracker: docker.NewInMemoryTracker(),
	}
	s.know(host, domain)
	return s
}

// Resolver returns containerd's resolver for the session.
func (s *Session) Resolver() remotes.Resolver {
	return docker.NewResolver(docker.ResolverOptions{
		Hosts:   s.Hosts,
		Tracker: s.tracker,
		Headers: s.headers(),
	})
}

// MountedFrom tells what has become of a push by its reference key
// ([remotes.MakeRefKey]): the repository that a blob was mounted from, or
// nothing.
func (s *Session) MountedFrom(key string) string {
	status, err := s.tracker.GetStatus(key)
	if err != nil {
		return ""
	}
	return status.MountedFrom
}

func (s *Session) headers() http.Header {
	h := http.Header{}
	if s.settings.UserAgent != "" {
		h.Set("User-Agent", s.settings.UserAgent)
	}
	return h
}

// Hosts is a [docker.RegistryHosts]: the hosts that serve a domain, in the
// order in which they are asked.
func (s *Session) Hosts(domain string) ([]docker.RegistryHost, error) {
	var hosts []docker.RegistryHost
	if domain == hubName {
		for _, m := range s.settings.mirrors {
			mirror, err := s.configure(m.Host)
			if err != nil {
				return nil, err
			}
			for i := range mirror {
				mirror[i].Path = strings.TrimSuffix(m.Path, "/") + "/v2"
				mirror[i].Capabilities = docker.HostCapabilityPull | docker.HostCapabilityResolve
				if m.Scheme == "http" {
					mirror[i].Scheme = "http"
				}
			}
			hosts = append(hosts, mirror...)
		}
	}
	own, err := s.configure(domain)
	return append(hosts, own...), err
}

// configure lets containerd read what certs.d has on a domain.
func (s *Session) configure(domain string) ([]docker.RegistryHost, error) {
	o := config.HostOptions{
		HostDir:      s.certDir,
		Credentials:  s.credentials,
		UpdateClient: s.guard,
	}
	if s.settings.insecure(s.ctx, domain) {
		// With both of these TLS is tried first, and falls back.
		o.DefaultScheme = "http"
		o.DefaultTLS = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the user said that this registry is insecure
	}
	if s.identity != nil {
		o.AuthorizerOpts = append(o.AuthorizerOpts, docker.WithFetchRefreshToken(
			func(_ context.Context, token string, _ *http.Request) { *s.identity = token }))
	}
	hosts, err := config.ConfigureHosts(s.ctx, o)(domain)
	if err != nil {
		return nil, fmt.Errorf("settings of registry %q: %w", domain, err)
	}
	for _, h := range hosts {
		s.know(h.Host)
	}
	if s.creds.RegistryToken != "" {
		for i := range hosts {
			hosts[i].Authorizer = bearer{host: s.host, token: s.creds.RegistryToken}
		}
	}
	return hosts, nil
}

// certDir finds the directory of a host. Names that would lead out of the
// directories are no names of hosts.
func (s *Session) certDir(host string) (string, error) {
	if strings.ContainsAny(host, "/\\") || strings.HasPrefix(host, ".") {
		return "", errdefs.ErrNotFound
	}
	for _, root := range s.settings.CertDirs {
		dir, err := config.HostDirFromRoot(root)(host)
		switch {
		case err == nil:
			return dir, nil
		case errdefs.IsNotFound(err) || errors.Is(err, os.ErrNotExist):
		default:
			return "", fmt.Errorf("look for certificates of %q: %w", host, err)
		}
	}
	return "", errdefs.ErrNotFound
}

// credentials gives the secrets to the host that they are for. An identity
// token is told from a password by the missing name.
func (s *Session) credentials(host string) (user, secret string, err error) {
	if host != s.host {
		return "", "", nil
	}
	if s.creds.IdentityToken != "" {
		return "", s.creds.IdentityToken, nil
	}
	return s.creds.Username, s.creds.Password, nil
}

// bearer sends an access token to one host.
type bearer struct{ host, token string }

func (b bearer) Authorize(_ context.Context, req *http.Request) error {
	if req.URL.Host == b.host {
		req.Header.Set("Authorization", "Bearer "+b.token)
	}
	return nil
}

func (b bearer) AddResponses(context.Context, []*http.Response) error {
	return docker.ErrInvalidAuthorization
}

// Hosts is a [docker.RegistryHosts] in nobody's name, for a builder that
// brings its own credentials.
func (r *Registries) Hosts(domain string) ([]docker.RegistryHost, error) {
	return r.session(context.Background(), domain, Credentials{}).Hosts(domain)
}
