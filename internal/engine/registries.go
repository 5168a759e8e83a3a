package engine

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/netip"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"
	mobyregistry "github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/image"
	"github.com/portholehq/porthole/internal/image/remote"
)

// Registries checks credentials and searches; images are the store's to fetch.
type Registries interface {
	Login(ctx context.Context, server string, creds remote.Credentials) (identity string, err error)
	Search(ctx context.Context, term string, limit int, creds remote.Credentials) ([]remote.Found, error)
	Archive(ctx context.Context, address string) (body io.ReadCloser, size int64, shown string, err error)
	Options() remote.Options
}

// What registries are asked with and answer.
type (
	// RegistryCredentials identify a user at one registry.
	RegistryCredentials = remote.Credentials
	// RegistryFound is one repository that a search came up with.
	RegistryFound = remote.Found
	// ImagePushOptions belong to [Engine.ImagePush].
	ImagePushOptions = image.PushOptions
	// ImagePushed is what a registry has after a push.
	ImagePushed = image.Pushed
	// ImageDistribution is what a registry has under a name.
	ImageDistribution = image.Distribution
)

// ImagePullOptions belong to [Engine.ImagePull].
type ImagePullOptions struct {
	All         bool // all tags of the repository
	Platform    *ocispec.Platform
	Credentials remote.Credentials
}

// ImagePull fetches an image from its registry. progress, which may be nil, gets values of jsonstream.Message.
func (e *Engine) ImagePull(ctx context.Context, ref reference.Named, o ImagePullOptions, progress func(any)) error {
	if reference.FamiliarName(ref) == "scratch" {
		return invalid("'scratch' is a reserved name")
	}
	forward := messages(progress)
	options := image.PullOptions{Credentials: o.Credentials}
	if o.Platform != nil {
		options.Platforms = []ocispec.Platform{*o.Platform}
	}
	if o.All {
		pulled, err := e.deps.Images.PullAll(ctx, ref, options, forward)
		for _, p := range pulled {
			e.emitPulled(ctx, ref, p)
		}
		return err
	}
	p, err := e.deps.Images.Pull(ctx, reference.TagNameOnly(ref), options, forward)
	if err == nil {
		e.emitPulled(ctx, ref, p)
	}
	return err
}

func (e *Engine) emitPulled(ctx context.Context, ref reference.Named, p image.Pulled) {
	e.emitOther(ctx, events.ImageEventType, events.ActionPull, p.Name, map[string]string{"name": reference.FamiliarName(ref)})
}

func messages(progress func(any)) func(jsonstream.Message) {
	if progress == nil {
		return nil
	}
	return func(m jsonstream.Message) { progress(m) }
}

// ImagePush sends an image, or with all each tag of the repository, to its registry. pushed is called with what the
// registry has after each.
func (e *Engine) ImagePush(ctx context.Context, ref reference.Named, all bool, o image.PushOptions, progress func(any), pushed func(image.Pushed)) error {
	var names []reference.NamedTagged
	if all {
		found, err := e.deps.Images.PushNames(ctx, ref)
		if err != nil {
			return err
		}
		names = found
	} else {
		tagged, ok := reference.TagNameOnly(ref).(reference.NamedTagged)
		if _, byDigest := ref.(reference.Digested); !ok || byDigest {
			return invalid("cannot push a digest reference")
		}
		names = []reference.NamedTagged{tagged}
	}
	var failures []error
	for _, name := range names {
		p, err := e.deps.Images.Push(ctx, name, o, messages(progress))
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			failures = append(failures, err)
			continue
		}
		e.emitOther(ctx, events.ImageEventType, events.ActionPush, reference.FamiliarString(name), map[string]string{"name": reference.FamiliarName(name)})
		pushed(p)
	}
	return errors.Join(failures...)
}

// ImageDistribution asks a registry what it has under a name.
func (e *Engine) ImageDistribution(ctx context.Context, ref reference.Named, creds remote.Credentials) (image.Distribution, error) {
	return e.deps.Images.Distribution(ctx, reference.TagNameOnly(ref), creds)
}

// RegistryLogin checks credentials and returns the identity token that stands for the password, if there is one.
func (e *Engine) RegistryLogin(ctx context.Context, server string, creds remote.Credentials) (identity string, err error) {
	return e.deps.Registries.Login(ctx, server, creds)
}

// RegistrySearch looks for repositories.
func (e *Engine) RegistrySearch(ctx context.Context, term string, limit int, creds remote.Credentials) ([]remote.Found, error) {
	return e.deps.Registries.Search(ctx, term, limit, creds)
}

// ImageImportURL is ImageImport of an archive from a web server. progress, which may be nil, gets values of
// jsonstream.Message.
func (e *Engine) ImageImportURL(ctx context.Context, address string, o ImageImportOptions, progress func(any)) (string, error) {
	body, size, shown, err := e.deps.Registries.Archive(ctx, address)
	if err != nil {
		return "", err
	}
	defer body.Close()
	o.Message = cmp.Or(o.Message, "Imported from "+shown)
	report := messages(progress)
	if report == nil {
		return e.ImageImport(ctx, body, o)
	}
	report(jsonstream.Message{Status: "Downloading from " + shown})
	return e.ImageImport(ctx, image.Watch(body, size, "Importing", report), o)
}

// registryConfig is how info shows the settings of registries, as dockerd does: this machine's own addresses are among
// the insecure networks, and mirrors end with a slash.
func registryConfig(o remote.Options) *mobyregistry.ServiceConfig {
	c := &mobyregistry.ServiceConfig{InsecureRegistryCIDRs: []netip.Prefix{}, IndexConfigs: map[string]*mobyregistry.IndexInfo{}, Mirrors: []string{}}
	for _, m := range o.Mirrors {
		c.Mirrors = append(c.Mirrors, strings.TrimSuffix(m, "/")+"/")
	}
	for _, text := range o.Insecure {
		if network, err := netip.ParsePrefix(text); err == nil {
			c.InsecureRegistryCIDRs = append(c.InsecureRegistryCIDRs, network.Masked())
			continue
		}
		c.IndexConfigs[text] = &mobyregistry.IndexInfo{Name: text, Mirrors: []string{}}
	}
	c.InsecureRegistryCIDRs = append(c.InsecureRegistryCIDRs, netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("127.0.0.0/8"))
	c.IndexConfigs["docker.io"] = &mobyregistry.IndexInfo{Name: "docker.io", Mirrors: c.Mirrors, Secure: true, Official: true}
	return c
}
