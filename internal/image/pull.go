package image

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/portholehq/porthole/internal/image/document"
	"github.com/portholehq/porthole/internal/image/remote"
)

// PullOptions are the options of [Store.Pull].
type PullOptions struct {
	// Platforms are those that the caller wants; the image must have one of
	// them. Empty means this machine's.
	Platforms   []ocispec.Platform
	Credentials remote.Credentials
}

// Pulled tells what came of a pull.
type Pulled struct {
	ID     string // of the image, "sha256:…"
	Name   string // familiar: repository:tag or repository@digest
	Digest digest.Digest
	// Changed is false when the name has stood for this very image before.
	Changed bool
}

// Pull fetches the image ref, a name with tag or digest, from its registry:
// the documents first, then the layers side by side, while those that are
// complete are unpacked in their order. All content is checked against its
// digest while it comes in. progress, which may be nil, gets what Docker's
// clients expect; it is called by one goroutine at a time, and if it blocks, only
// the end of the pull waits for it.
//
// A connection that breaks is taken up where it broke, and errors that may
// pass are tried again some times. In the end an error has the class of its
// cause: errdefs.ErrNotFound (no such image or platform, or none for this
// user), errdefs.ErrUnavailable, errdefs.ErrInvalidArgument (content that is
// not what it claims), errdefs.ErrResourceExhausted (disk full). It leaves
// nothing behind. When the process is killed, what has come in stays for a while
// and is not fetched again by the next pull of ref.
func (s *Store) Pull(ctx context.Context, ref reference.Named, o PullOptions, progress func(jsonstream.Message)) (Pulled, error) {
	if err := s.noState(ctx, ref); err != nil {
		return Pulled{}, err
	}
	session, err := s.session(ctx, ref, o.Credentials)
	if err != nil {
		return Pulled{}, err
	}
	defer session.Close()
	out := reportTo(progress)
	defer out.end() // after all else is given back
	name, object := pullName(ref)
	ctx, done, err := s.pullLease(s.in(ctx), name)
	if err != nil {
		return Pulled{}, err
	}
	defer done()
	p := &pull{store: s, ref: ref, wanted: o.Platforms, report: out.report}
	resolver := session.Resolver()
	resolved, target, err := resolver.Resolve(ctx, ref.String())
	if err != nil {
		return Pulled{}, registryError("pull", ref, err)
	}
	if p.fetcher, err = resolver.Fetcher(ctx, resolved); err != nil {
		return Pulled{}, registryError("pull", ref, err)
	}
	if p.source, err = docker.AppendDistributionSourceLabel(s.content, resolved); err != nil {
		return Pulled{}, fmt.Errorf("pull %s: %w", reference.FamiliarString(ref), err)
	}
	p.report(jsonstream.Message{Status: "Pulling from " + reference.Path(ref), ID: object})
	c, err := p.run(ctx, target)
	if err != nil {
		return Pulled{}, registryError("pull", ref, err)
	}
	if err := s.flushLayers(); err != nil {
		return Pulled{}, err
	}
	before, err := s.images.Get(ctx, name)
	if err != nil && !errdefs.IsNotFound(err) {
		return Pulled{}, fmt.Errorf("look up image %q: %w", name, err)
	}
	if _, err := s.nameContents(ctx, name, c); err != nil {
		return Pulled{}, err
	}
	result := Pulled{
		ID: c.id(), Name: familiar(name), Digest: c.target.Digest,
		Changed: before.Target.Digest != c.target.Digest,
	}
	p.summary(result)
	return result, nil
}

// session opens a way to the registry of ref.
func (s *Store) session(ctx context.Context, ref reference.Named, creds remote.Credentials) (*remote.Session, error) {
	if s.registries == nil {
		return nil, failf(errdefs.ErrNotImplemented, "this image store knows no registries")
	}
	return s.registries.Session(s.in(ctx), ref, creds), nil
}

// pullName is the record name that a pulled image gets, and what of it the
// registry is asked for: a tag or a digest. As with Docker a digest goes before
// a tag, which it might not belong to.
func pullName(ref reference.Named) (name, object string) {
	if d, ok := ref.(reference.Digested); ok {
		return reference.TrimNamed(ref).String() + "@" + d.Digest().String(), d.Digest().String()
	}
	if t, ok := ref.(reference.Tagged); ok {
		return ref.String(), t.Tag()
	}
	return ref.String(), ""
}

// pull is one pull under way.
type pull struct {
	store   *Store
	ref     reference.Named
	fetcher remotes.Fetcher
	wanted  []ocispec.Platform
	report  func(jsonstream.Message)
	// source notes on a blob which repository has it.
	source images.HandlerFunc
}

// summary tells the end as Docker does.
func (p *pull) summary(r Pulled) {
	p.report(jsonstream.Message{Status: "Digest: " + r.Digest.String()})
	if r.Changed {
		p.report(jsonstream.Message{Status: "Status: Downloaded newer image for " + r.Name})
	} else {
		p.report(jsonstream.Message{Status: "Status: Image is up to date for " + r.Name})
	}
}

func (p *pull) run(ctx context.Context, target ocispec.Descriptor) (*contents, error) {
	if err := p.documents(ctx, &target, 0); err != nil {
		return nil, err
	}
	manifests, err := p.store.manifests(ctx, target)
	if err != nil {
		return nil, err
	}
	m, err := p.choose(manifests)
	if err != nil {
		return nil, err
	}
	c, err := p.store.completeContents(ctx, target, m)
	if err != nil {
		return nil, err
	}
	if err := p.layers(ctx, c); err != nil {
		return nil, err
	}
	// All is there; what is left is to check it as a whole and to label it.
	return p.store.prepare(ctx, target, p.wanted, nil)
}

// choose picks the manifest that is wanted. A single image for another machine
// is taken when no platform was asked for, and says so when it is run.
func (p *pull) choose(manifests []platformManifest) (platformManifest, error) {
	m, err := p.store.choose(manifests, p.wanted)
	if err != nil && len(manifests) == 1 && len(p.wanted) == 0 {
		return manifests[0], nil
	}
	return m, err
}

// documents fetches an index or manifest and, below it, the manifest and
// configuration that will be used. It puts right the target's media type.
func (p *pull) documents(ctx context.Context, target *ocispec.Descriptor, depth int) error {
	if depth > maxIndexDepth {
		return failf(errdefs.ErrInvalidArgument, "index %s is nested too deep", target.Digest)
	}
	if err := p.document(ctx, *target); err != nil {
		return err
	}
	data, err := p.store.readJSON(ctx, *target)
	if err != nil {
		return err
	}
	kind, err := document.TypeOf(target.MediaType, data)
	if err != nil {
		return fmt.Errorf("%s: %w", target.Digest, err)
	}
	target.MediaType = document.MediaType(target.MediaType, kind)
	_, children, err := p.store.children(ctx, *target)
	if err != nil {
		return err
	}
	if kind == document.Manifest {
		if len(children) == 0 {
			return failf(errdefs.ErrInvalidArgument, "manifest %s has no configuration", target.Digest)
		}
		return p.document(ctx, children[0])
	}
	children, err = p.candidates(children)
	if err != nil {
		return err
	}
	for i := range children {
		if err := p.documents(ctx, &children[i], depth+1); err != nil {
			return err
		}
	}
	return nil
}

// candidates are the entries of an index that may be what is wanted: the best
// one by its platform, or all that name none.
func (p *pull) candidates(children []ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	matcher, names := p.store.matcher, platforms.Format(p.store.platform)
	if len(p.wanted) > 0 {
		matcher, names = platforms.Any(p.wanted...), formatPlatforms(p.wanted)
	}
	best := -1
	var unknown []ocispec.Descriptor
	for i, d := range children {
		switch {
		case document.IsAttestation(d):
		case d.Platform == nil:
			unknown = append(unknown, d)
		case matcher.Match(*d.Platform) && (best < 0 || matcher.Less(*d.Platform, *children[best].Platform)):
			best = i
		}
	}
	if best >= 0 {
		return children[best : best+1], nil
	}
	if len(unknown) == 0 || len(unknown) > maxIndexDepth {
		return nil, failf(errdefs.ErrNotFound, "no matching manifest for %s in the manifest list entries", names)
	}
	return unknown, nil
}

// document fetches a small blob.
func (p *pull) document(ctx context.Context, desc ocispec.Descriptor) error {
	if desc.Size > p.store.limits.JSON {
		return failf(errdefs.ErrInvalidArgument, "document %s has %d bytes, more than %d", desc.Digest, desc.Size, p.store.limits.JSON)
	}
	_, err := p.fetch(ctx, desc, func(jsonstream.Message) {})
	return err
}

// layers fetches and unpacks the layers.
func (p *pull) layers(ctx context.Context, c *contents) error {
	group, fetching := errgroup.WithContext(ctx)
	fetched := make([]chan struct{}, len(c.layers))
	for i, layer := range c.layers {
		fetched[i] = make(chan struct{})
		report := reportOn(layer.Digest, p.report)
		report(jsonstream.Message{Status: "Pulling fs layer"})
		group.Go(func() error {
			if err := p.layer(fetching, layer, report); err != nil {
				return fmt.Errorf("layer %d: %w", i+1, err)
			}
			close(fetched[i])
			return nil
		})
	}
	group.Go(func() error { return p.unpack(fetching, c, fetched) })
	return group.Wait()
}

// layer fetches one layer when it is its turn.
func (p *pull) layer(ctx context.Context, layer ocispec.Descriptor, report func(jsonstream.Message)) error {
	if err := layer.Digest.Validate(); err != nil {
		return failf(errdefs.ErrInvalidArgument, "layer digest %q: %w", layer.Digest, err)
	}
	if !p.store.downloads.TryAcquire(1) {
		report(jsonstream.Message{Status: "Waiting"})
		if err := p.store.downloads.Acquire(ctx, 1); err != nil {
			return err
		}
	}
	defer p.store.downloads.Release(1)
	fresh, err := p.fetch(ctx, layer, report)
	if err != nil {
		return err
	}
	if fresh {
		report(jsonstream.Message{Status: "Download complete"})
	}
	return nil
}

// unpack unpacks layers in their order, each as soon as it is there. Two pulls
// of the same layer both find it fetched; the second finds it unpacked too.
func (p *pull) unpack(ctx context.Context, c *contents, fetched []chan struct{}) error {
	parent := ""
	for i, layer := range c.layers {
		select {
		case <-fetched[i]:
		case <-ctx.Done():
			return nil // the fetch that failed tells why
		}
		report := reportOn(layer.Digest, p.report)
		key := snapshotKey(c.chain[i])
		_, err := p.store.snapshot.Stat(ctx, key)
		known := err == nil
		err = p.store.unpackLayer(ctx, layer, c.image.RootFS.DiffIDs[i], parent, key, func(m jsonstream.Message) {
			report(jsonstream.Message{Status: "Extracting", Progress: m.Progress})
		})
		if err != nil {
			return fmt.Errorf("layer %d (%s): %w", i+1, layer.Digest, err)
		}
		if known {
			report(jsonstream.Message{Status: "Already exists"})
		} else {
			report(jsonstream.Message{Status: "Pull complete"})
		}
		parent = key
	}
	return nil
}

// PullAll pulls all tags of a repository, one after the other.
func (s *Store) PullAll(ctx context.Context, repo reference.Named, o PullOptions, progress func(jsonstream.Message)) ([]Pulled, error) {
	session, err := s.session(ctx, repo, o.Credentials)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	tags, err := session.Tags(s.in(ctx), repo)
	if err != nil {
		return nil, registryError("pull", repo, err)
	}
	var pulled []Pulled
	var failures []error
	for _, tag := range tags {
		ref, err := reference.WithTag(repo, tag)
		if err != nil {
			failures = append(failures, failf(errdefs.ErrInvalidArgument, "tag %q: %w", tag, err))
			continue
		}
		one, err := s.Pull(ctx, ref, o, progress)
		if err != nil {
			if ctx.Err() != nil {
				return pulled, err
			}
			failures = append(failures, err)
			continue
		}
		pulled = append(pulled, one)
	}
	return pulled, errors.Join(failures...)
}

// reportOn makes of a report one about a layer.
func reportOn(layer digest.Digest, report func(jsonstream.Message)) func(jsonstream.Message) {
	id := shortID(layer.Encoded())
	return func(m jsonstream.Message) {
		m.ID = id
		if m.Progress == nil {
			m.Progress = &jsonstream.Progress{}
		}
		report(m)
	}
}
