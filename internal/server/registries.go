package server

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/auxprogress"
	"github.com/moby/moby/api/types/jsonstream"
	mobyregistry "github.com/moby/moby/api/types/registry"

	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/problem"
)

// registryAuth is the header with a client's credentials: base64url of JSON.
const registryAuth = "X-Registry-Auth"

// credentials reads who the client is at the registry; nobody without the
// header. What the header holds is not repeated in errors.
func (r *request) credentials() (engine.RegistryCredentials, error) {
	text := r.http.Header.Get(registryAuth)
	if text == "" {
		return engine.RegistryCredentials{}, nil
	}
	// Clients pad or do not, and some use the other alphabet.
	text = strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(text, "="))
	data, err := base64.RawURLEncoding.DecodeString(text)
	var auth mobyregistry.AuthConfig
	if err == nil && len(data) > 0 {
		err = json.Unmarshal(data, &auth)
	}
	if err != nil {
		return engine.RegistryCredentials{}, invalid("invalid %s header: not base64url-encoded JSON", registryAuth)
	}
	return credentialsOf(auth), nil
}

func credentialsOf(auth mobyregistry.AuthConfig) engine.RegistryCredentials {
	c := engine.RegistryCredentials{
		Username: auth.Username, Password: auth.Password,
		IdentityToken: auth.IdentityToken, RegistryToken: auth.RegistryToken,
	}
	// Old clients send both as base64 of "user:password".
	if c.Username == "" && auth.Auth != "" {
		if data, err := base64.StdEncoding.DecodeString(auth.Auth); err == nil {
			c.Username, c.Password, _ = strings.Cut(string(data), ":")
		}
	}
	return c
}

// auth checks credentials.
func (s *Server) auth(r *request) error {
	var auth mobyregistry.AuthConfig
	if err := r.readJSON(&auth); err != nil {
		return err
	}
	identity, err := s.backend.RegistryLogin(r.ctx(), auth.ServerAddress, credentialsOf(auth))
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, mobyregistry.AuthResponse{Status: "Login Succeeded", IdentityToken: identity})
}

// imagePull fetches the image "fromImage", whose tag or digest may stand in
// "tag".
func (s *Server) imagePull(r *request) error {
	ref, err := pullReference(r.form.Get("fromImage"), r.form.Get("tag"))
	if err != nil {
		return err
	}
	o := engine.ImagePullOptions{All: reference.IsNameOnly(ref)}
	if text := r.form.Get("platform"); text != "" {
		p, err := platforms.Parse(text)
		if err != nil {
			return argumentError{err}
		}
		o.Platform = &p
	}
	if o.Credentials, err = r.credentials(); err != nil {
		return err
	}
	return r.transfer(func(out jsonStream) error {
		return s.backend.ImagePull(r.ctx(), ref, o, func(m any) { _ = out.write(m) })
	})
}

// pullReference joins a name with a tag or digest. With neither all tags are
// meant, as Docker has it.
func pullReference(name, tag string) (reference.Named, error) {
	ref, err := reference.ParseNormalizedNamed(strings.TrimSuffix(name, ":"))
	if err != nil {
		return nil, argumentError{err}
	}
	switch {
	case tag == "":
		return ref, nil
	case strings.Contains(tag, ":"):
		ref, err = reference.ParseNormalizedNamed(reference.TrimNamed(ref).String() + "@" + tag)
	default:
		ref, err = reference.WithTag(reference.TrimNamed(ref), tag)
	}
	if err != nil {
		return nil, argumentError{err}
	}
	return ref, nil
}

// transfer runs a transfer that reports progress. An error that comes before
// the first report has its own status.
func (r *request) transfer(run func(jsonStream) error) error {
	w := &lateHeader{request: r}
	out := jsonStream{w: w, carriage: true}
	err := run(out)
	switch {
	case err == nil:
		return w.start()
	case !w.started:
		return err
	default:
		return r.fail(out, err)
	}
}

// lateHeader sends the header of a stream with its first byte.
type lateHeader struct {
	request *request
	started bool
}

func (l *lateHeader) start() error {
	if !l.started {
		l.started = true
		l.request.w.Header().Set("Content-Type", "application/json")
		l.request.w.WriteHeader(http.StatusOK)
	}
	return nil
}

func (l *lateHeader) Write(p []byte) (int, error) {
	if err := l.start(); err != nil {
		return 0, err
	}
	return flushWriter{l.request.w}.Write(p)
}

func (s *Server) imagePush(r *request) error {
	ref, err := pullReference(r.name, r.form.Get("tag"))
	if err != nil {
		return err
	}
	var o engine.ImagePushOptions
	if !r.before(46) {
		wanted, err := r.platforms("platform")
		if err != nil {
			return err
		}
		if len(wanted) > 1 {
			return invalid("only one platform can be pushed at a time")
		}
		if len(wanted) == 1 {
			o.Platform = &wanted[0]
		}
	}
	if o.Credentials, err = r.credentials(); err != nil {
		return err
	}
	return r.transfer(func(out jsonStream) error {
		return s.backend.ImagePush(r.ctx(), ref, reference.IsNameOnly(ref), o,
			func(m any) { _ = out.write(m) },
			func(p engine.ImagePushed) { writePushed(out, p) })
	})
}

// writePushed ends one push with what clients read from its stream.
func writePushed(out jsonStream, p engine.ImagePushed) {
	if p.Single {
		writeAux(out, auxprogress.ManifestPushedInsteadOfIndex{
			ManifestPushedInsteadOfIndex: true, OriginalIndex: p.Original, SelectedManifest: p.Target,
		})
	}
	writeAux(out, struct {
		Tag    string
		Digest string
		Size   int64
	}{p.Tag, p.Digest.String(), p.Size})
}

func writeAux(out jsonStream, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		return
	}
	raw := json.RawMessage(data)
	_ = out.write(jsonstream.Message{Aux: &raw})
}

// searchLimits are Docker's: without a limit, and at most.
const (
	searchDefault = 25
	searchMost    = 100
)

func (s *Server) imageSearch(r *request) error {
	term := r.form.Get("term")
	if term == "" {
		return invalid("search term is empty")
	}
	limit := searchDefault
	if text := r.form.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > searchMost {
			return invalid("limit %s is outside the range of [1, %d]", text, searchMost)
		}
		if n > 0 {
			limit = n
		}
	}
	keep, err := searchFilter(r)
	if err != nil {
		return err
	}
	creds, err := r.credentials()
	if err != nil {
		return err
	}
	found, err := s.backend.RegistrySearch(r.ctx(), term, limit, creds)
	if errdefs.IsNotImplemented(err) {
		return problem.WithHint(err, "name the image: porthole pull HOST/NAME:TAG")
	}
	if err != nil {
		return err
	}
	found = slices.DeleteFunc(found, func(f engine.RegistryFound) bool { return !keep(f) })
	return r.json(http.StatusOK, nonNil(found))
}

// searchFilter reads the filters is-official, is-automated and stars.
func searchFilter(r *request) (func(engine.RegistryFound) bool, error) {
	f, err := r.filters()
	if err != nil {
		return nil, err
	}
	stars := 0
	for key, values := range f {
		for _, v := range values {
			switch key {
			case "is-official", "is-automated":
				if _, err := strconv.ParseBool(v); err != nil {
					return nil, invalid("invalid filter '%s=%s'", key, v)
				}
			case "stars":
				n, err := strconv.Atoi(v)
				if err != nil {
					return nil, invalid("invalid filter 'stars=%s'", v)
				}
				stars = max(stars, n)
			default:
				return nil, invalid("invalid filter '%s'", key)
			}
		}
	}
	is := func(key string, value bool) bool {
		return len(f[key]) == 0 || slices.ContainsFunc(f[key], func(v string) bool {
			want, err := strconv.ParseBool(v)
			return err == nil && want == value
		})
	}
	return func(found engine.RegistryFound) bool {
		return found.StarCount >= stars && is("is-official", found.IsOfficial) && is("is-automated", found.IsAutomated)
	}, nil
}

// distribution tells what a registry has under a name.
func (s *Server) distribution(r *request) error {
	ref, err := reference.ParseNormalizedNamed(r.name)
	if err != nil {
		return argumentError{err}
	}
	creds, err := r.credentials()
	if err != nil {
		return err
	}
	d, err := s.backend.ImageDistribution(r.ctx(), ref, creds)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, mobyregistry.DistributionInspect{Descriptor: d.Descriptor, Platforms: nonNil(d.Platforms)})
}
