package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/pkg/labels"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/portholehq/porthole/internal/image/document"
	"github.com/portholehq/porthole/internal/image/remote"
)

// PushOptions are the options of [Store.Push].
type PushOptions struct {
	// Platform, when it is set, is the only one that is pushed, as an image of
	// its own.
	Platform    *ocispec.Platform
	Credentials remote.Credentials
}

// Pushed is what the registry has now.
type Pushed struct {
	Tag    string
	Digest digest.Digest
	Size   int64 // of the manifest or index in bytes
	// Single tells that one platform was pushed of an index whose others are
	// not here; Original is that index.
	Single   bool
	Original ocispec.Descriptor
	// Target describes what was pushed.
	Target ocispec.Descriptor
}

// Push sends the image that has the name ref, with its tag, to its registry.
// Layers that are kept unpacked are packed first; the name then stands for the
// packed image, so that its digest here is the registry's. Progress and the
// class of an error are as with [Store.Pull].
func (s *Store) Push(ctx context.Context, ref reference.NamedTagged, o PushOptions, progress func(jsonstream.Message)) (Pushed, error) {
	session, err := s.session(ctx, ref, o.Credentials)
	if err != nil {
		return Pushed{}, err
	}
	defer session.Close()
	out := reportTo(progress)
	defer out.end() // after all else is given back
	ctx, done, err := s.lease(s.in(ctx))
	if err != nil {
		return Pushed{}, err
	}
	defer done()
	record, err := s.images.Get(ctx, ref.String())
	if errdefs.IsNotFound(err) {
		return Pushed{}, failf(errdefs.ErrNotFound, "An image does not exist locally with the tag: %s", reference.FamiliarName(ref))
	}
	if err != nil {
		return Pushed{}, fmt.Errorf("look up image %q: %w", reference.FamiliarString(ref), err)
	}
	if err := s.leaseContent(ctx, record.Target.Digest); err != nil {
		return Pushed{}, err
	}
	result, err := s.pushTarget(ctx, ref, record.Target, o.Platform)
	if err != nil {
		return Pushed{}, err
	}
	p := &push{store: s, ref: ref, session: session, report: out.report}
	p.report(jsonstream.Message{Status: fmt.Sprintf("The push refers to repository [%s]", ref.Name())})
	if err := p.run(ctx, result.Target); err != nil {
		return Pushed{}, registryError("push", ref, err)
	}
	result.Tag, result.Digest, result.Size = ref.Tag(), result.Target.Digest, result.Target.Size
	p.report(jsonstream.Message{Status: fmt.Sprintf("%s: digest: %s size: %d", result.Tag, result.Digest, result.Size)})
	return result, nil
}

// PushNames are the names of a repository that are pushed when all its tags are
// meant.
func (s *Store) PushNames(ctx context.Context, repo reference.Named) ([]reference.NamedTagged, error) {
	all, err := s.images.List(s.in(ctx))
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var names []reference.NamedTagged
	for _, i := range all {
		n, err := reference.ParseNormalizedNamed(i.Name)
		if isDangling(i.Name) || isByDigest(i.Name) || err != nil || n.Name() != repo.Name() {
			continue
		}
		if tagged, ok := n.(reference.NamedTagged); ok {
			names = append(names, tagged)
		}
	}
	if len(names) == 0 {
		return nil, failf(errdefs.ErrNotFound, "An image does not exist locally with the tag: %s", reference.FamiliarName(repo))
	}
	return names, nil
}

func (s *Store) leaseContent(ctx context.Context, d digest.Digest) error {
	id, _ := leases.FromContext(ctx)
	err := s.leases.AddResource(ctx, leases.Lease{ID: id}, leases.Resource{ID: d.String(), Type: "content"})
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("keep blob %s: %w", d, err)
	}
	return nil
}

// pushTarget decides what of an image is pushed: all of it when all is here, or
// one platform.
func (s *Store) pushTarget(ctx context.Context, ref reference.NamedTagged, target ocispec.Descriptor, platform *ocispec.Platform) (Pushed, error) {
	manifests, err := s.manifests(ctx, target)
	if err != nil {
		return Pushed{}, err
	}
	var wanted []ocispec.Platform
	if platform != nil {
		wanted = []ocispec.Platform{*platform}
	}
	kind, _, err := s.children(ctx, target)
	if err != nil {
		return Pushed{}, err
	}
	if kind == document.Index && platform == nil && s.complete(ctx, target, 0) == nil {
		return Pushed{Target: target}, nil
	}
	m, err := s.choose(manifests, wanted)
	if err != nil {
		if len(manifests) != 1 || len(wanted) > 0 {
			return Pushed{}, err
		}
		m = manifests[0]
	}
	if err := s.complete(ctx, m.desc, 0); err != nil {
		return Pushed{}, fmt.Errorf("image %q: %w", reference.FamiliarString(ref), err)
	}
	result := Pushed{Target: m.desc}
	result.Target.Platform, result.Target.Annotations = nil, nil
	if kind == document.Index {
		result.Single, result.Original = platform == nil, target
		return result, nil
	}
	result.Target, err = s.packed(ctx, ref, m)
	return result, err
}

// complete tells what is missing of a target.
func (s *Store) complete(ctx context.Context, desc ocispec.Descriptor, depth int) error {
	if depth > maxIndexDepth {
		return failf(errdefs.ErrInvalidArgument, "index %s is nested too deep", desc.Digest)
	}
	kind, children, err := s.children(ctx, desc)
	if err != nil {
		return err
	}
	for _, c := range children {
		if kind == document.Index {
			err = s.complete(ctx, c, depth+1)
		} else {
			_, err = s.content.Info(ctx, c.Digest)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.Digest, err)
		}
	}
	return nil
}

// push is one push under way.
type push struct {
	store   *Store
	ref     reference.NamedTagged
	session *remote.Session
	pusher  remotes.Pusher
	report  func(jsonstream.Message)
}

func (p *push) run(ctx context.Context, target ocispec.Descriptor) error {
	// With the digest in the name only the target itself gets the tag.
	pusher, err := p.session.Resolver().Pusher(ctx, p.ref.String()+"@"+target.Digest.String())
	if err != nil {
		return err
	}
	p.pusher = pusher
	w := pushWalk{store: p.store}
	if err := w.visit(ctx, target, 0); err != nil {
		return err
	}
	group, sending := errgroup.WithContext(ctx)
	for _, blob := range w.blobs {
		report := p.blobReport(blob)
		report(jsonstream.Message{Status: "Preparing"})
		group.Go(func() error { return p.blob(sending, blob, report) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	// Registries refuse what refers to something that they do not have.
	for _, document := range w.documents {
		if err := p.send(ctx, document, func(jsonstream.Message) {}); err != nil {
			return err
		}
	}
	return nil
}

// blobReport reports on a layer; on a configuration it is silent.
func (p *push) blobReport(desc ocispec.Descriptor) func(jsonstream.Message) {
	if images.IsKnownConfig(desc.MediaType) {
		return func(jsonstream.Message) {}
	}
	return reportOn(desc.Digest, p.report)
}

func (p *push) blob(ctx context.Context, desc ocispec.Descriptor, report func(jsonstream.Message)) error {
	if !p.store.uploads.TryAcquire(1) {
		report(jsonstream.Message{Status: "Waiting"})
		if err := p.store.uploads.Acquire(ctx, 1); err != nil {
			return err
		}
	}
	defer p.store.uploads.Release(1)
	info, err := p.store.content.Info(ctx, desc.Digest)
	if err != nil {
		return fmt.Errorf("blob %s: %w", desc.Digest, err)
	}
	// Where else the registry has the blob; it may be able to take it from there.
	desc.Annotations = map[string]string{}
	for key, value := range info.Labels {
		if key == labels.LabelDistributionSource+"."+reference.Domain(p.ref) {
			desc.Annotations[key] = value
		}
	}
	if err := p.send(ctx, desc, report); err != nil {
		return fmt.Errorf("blob %s: %w", desc.Digest, err)
	}
	source, err := docker.AppendDistributionSourceLabel(p.store.content, p.ref.String())
	if err != nil {
		return err
	}
	_, err = source(ctx, desc)
	return err
}

// send sends a blob or document, unless the registry has it.
func (p *push) send(ctx context.Context, desc ocispec.Descriptor, report func(jsonstream.Message)) error {
	err := p.store.try(ctx, report, func(ctx context.Context) error { return p.attempt(ctx, desc, report) })
	switch {
	case errdefs.IsAlreadyExists(err):
		if from := p.session.MountedFrom(remotes.MakeRefKey(ctx, desc)); from != "" {
			report(jsonstream.Message{Status: "Mounted from " + from})
		} else {
			report(jsonstream.Message{Status: "Layer already exists"})
		}
		return nil
	case err != nil:
		return err
	}
	report(jsonstream.Message{Status: "Pushed"})
	return nil
}

func (p *push) attempt(ctx context.Context, desc ocispec.Descriptor, report func(jsonstream.Message)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := p.store.transfers.Stall
	timer := time.AfterFunc(stall, func() { cancel(errStalled) })
	defer timer.Stop()
	err := p.transfer(ctx, desc, report, timer)
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	return err
}

func (p *push) transfer(ctx context.Context, desc ocispec.Descriptor, report func(jsonstream.Message), timer *time.Timer) error {
	w, err := p.pusher.Push(ctx, desc)
	if err != nil {
		return err
	}
	defer w.Close()
	blob, err := p.store.content.ReaderAt(ctx, desc)
	if err != nil {
		return fmt.Errorf("open blob: %w", err)
	}
	defer blob.Close()
	r := &uploadReader{
		SectionReader: io.NewSectionReader(blob, 0, desc.Size),
		report:        report, timer: timer, stall: p.store.transfers.Stall,
	}
	return content.Copy(ctx, w, r, desc.Size, desc.Digest)
}

// uploadReader reports how far an upload is. It can start again, which a
// registry may ask for.
type uploadReader struct {
	*io.SectionReader
	report  func(jsonstream.Message)
	timer   *time.Timer
	stall   time.Duration
	n, told int64
}

func (r *uploadReader) Read(b []byte) (int, error) {
	n, err := r.SectionReader.Read(b)
	r.timer.Reset(r.stall)
	r.n += int64(n)
	if size := r.Size(); size >= progressFrom && (r.n-r.told >= size/100 || r.n == size && r.told < size) {
		r.told = r.n
		r.report(jsonstream.Message{Status: "Pushing", Progress: &jsonstream.Progress{Current: r.n, Total: size}})
	}
	return n, err
}

func (r *uploadReader) Seek(offset int64, whence int) (int64, error) {
	n, err := r.SectionReader.Seek(offset, whence)
	if err == nil {
		r.n, r.told = n, n
	}
	return n, err
}

// pushWalk lists what belongs to a target: blobs, each once, and documents,
// those that are referred to before those that refer to them.
type pushWalk struct {
	store     *Store
	blobs     []ocispec.Descriptor
	documents []ocispec.Descriptor
}

func (w *pushWalk) visit(ctx context.Context, desc ocispec.Descriptor, depth int) error {
	if depth > maxIndexDepth {
		return failf(errdefs.ErrInvalidArgument, "index %s is nested too deep", desc.Digest)
	}
	same := func(d ocispec.Descriptor) bool { return d.Digest == desc.Digest }
	if slices.ContainsFunc(w.documents, same) {
		return nil
	}
	kind, children, err := w.store.children(ctx, desc)
	if err != nil {
		return err
	}
	for _, c := range children {
		if kind == document.Index {
			if err := w.visit(ctx, c, depth+1); err != nil {
				return err
			}
			continue
		}
		if !slices.ContainsFunc(w.blobs, func(d ocispec.Descriptor) bool { return d.Digest == c.Digest }) {
			w.blobs = append(w.blobs, c)
		}
	}
	w.documents = append(w.documents, desc)
	return nil
}
